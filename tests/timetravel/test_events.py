from __future__ import annotations

import csv
import io
import json

import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.trail import Selection, history, select_events
from tests.plugins.trail import Trail
from tests.timetravel.words import Audit, say


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute("""
        create table customers (id int primary key, name text);
        create table orders (id int primary key, customer_id int, status text, total numeric)
    """)
    trail.audit("customers")
    trail.audit("orders", store="changes")
    say(trail, actor="alice", request_id="r-1")
    trail.execute("""
        begin;
        insert into customers values (1, 'Ann');
        insert into orders values (10, 1, 'new', 5.00);
        commit
    """)
    say(trail, actor="bob", request_id="r-2")
    trail.execute("update orders set status = 'paid'")
    say(trail)
    trail.execute("update orders set total = 6.0; delete from orders; truncate orders")
    return trail


def ids(output: str) -> list[int]:
    return [json.loads(line)["event_id"] for line in output.splitlines()]


def test_show_prints_one_event(shop: Trail, audit: Audit) -> None:
    number = shop.events()[2]["event_id"]
    shown = audit("show", str(number))
    assert shown.stdout.splitlines()[0] == "public.orders"
    assert "updated 10 by bob" in shown.stdout
    assert "new → paid" in shown.stdout
    (event,) = json.loads(audit("show", str(number), "--format", "json").stdout)["events"]
    assert event["changed"] == {"status": ["new", "paid"]}


def test_show_of_an_event_that_is_not_there(shop: Trail, audit: Audit) -> None:
    refused = audit("show", "99999", code=2)
    assert refused.stderr.startswith("error: the trail has no event 99999\nhint: ")
    assert shop.story()  # it has others


def test_transaction_shows_what_happened_together(shop: Trail, audit: Audit) -> None:
    number = shop.events()[0]["transaction_id"]
    shown = audit("transaction", number)
    titles = [line for line in shown.stdout.splitlines() if line.startswith("public.")]
    assert titles == ["public.customers", "public.orders"]
    events = json.loads(audit("transaction", number, "--format", "json").stdout)["events"]
    assert [(e["action"], e["table_name"]) for e in events] == [("I", "customers"), ("I", "orders")]
    assert audit("transaction", "1", code=2).stderr.startswith("error: the trail has no events of")
    audit("transaction", number, "--until", "1d", code=2)


@pytest.mark.parametrize(
    ("options", "places"),
    [
        (["--actor", "bob"], [2]),
        (["--actor", "postgres"], [3, 4, 5]),
        (["--context", "request_id=r-1"], [1]),
        (["--context", "request_id=r-2", "--context", "actor=bob"], [2]),
        (["--context", "request_id=r-2", "--context", "actor=alice"], []),
        (["--role", "postgres"], [1, 2, 3, 4, 5]),
        (["--role", "nobody"], []),
        (["--changed", "status"], [1, 2, 4]),
        (["--changed", "total"], [1, 3, 4]),
        (["--newest-first", "--limit", "3"], [5, 4, 3]),
        (["--newest-first"], [5, 4, 3, 2, 1]),
        (["--changed", "total", "--actor", "alice"], [1]),
    ],
)
def test_filters(shop: Trail, audit: Audit, options: list[str], places: list[int]) -> None:
    numbers = [event["event_id"] for event in shop.events()]
    found = audit("history", "orders", "--format", "jsonl", *options)
    assert ids(found.stdout) == [numbers[place] for place in places]


def test_the_filter_on_a_transaction(shop: Trail) -> None:
    number = int(shop.events()[0]["transaction_id"])
    (event,) = history(shop.connection, "orders", transaction=number)
    assert event.row_key == "10"


def test_csv_has_a_line_for_each_event(shop: Trail, audit: Audit) -> None:
    shown = audit("history", "orders", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert [row["action"] for row in rows] == ["I", "U", "U", "D", "T"]
    assert json.loads(rows[0]["new_row"])["status"] == "new"
    assert '"total": 5.00' in rows[0]["new_row"]
    assert rows[0]["old_row"] == ""


def test_a_column_that_is_misspelt(shop: Trail, audit: Audit) -> None:
    found = audit("history", "orders", "--changed", "statsu")
    assert "has no column 'statsu' now; did you mean status?" in found.stderr
    assert shop.story()


def test_context_needs_key_and_value(shop: Trail, audit: Audit) -> None:
    assert "is not KEY=VALUE" in audit("history", "orders", "--context", "actor", code=2).stderr
    assert shop.story()


@pytest.mark.thorough
def test_newest_first_is_the_mirror_image_over_many_events(trail: Trail) -> None:
    trail.execute("""
        create table items (id int primary key, v int);
        create function again() returns trigger language plpgsql as $$
        begin
            if new.v < 100 then update items set v = 100 + new.v where id = new.id; end if;
            return null;
        end $$;
        create trigger "00_a" after update on items for each row execute function again();
    """)
    trail.audit("items")
    trail.execute("insert into items select g, 0 from generate_series(1, 1200) g")
    trail.execute("update items set v = 7")
    forwards = history(trail.connection, "items")
    backwards = history(trail.connection, "items", newest_first=True)
    assert len(forwards) == 3600
    assert [e.event_id for e in forwards] != sorted(e.event_id for e in forwards)
    steps = [(e.changed.get("v") or (0, 0))[1] for e in backwards if e.row_key == "5"]
    assert steps == [107, 7, 0]


def test_a_selection_says_what_it_selects(trail: Trail) -> None:
    with pytest.raises(UsageError, match="no events selected"):
        Selection()
    with pytest.raises(UsageError, match="is not a valid event"):
        select_events(trail.connection, Selection(event_ids=(2**63,)))
