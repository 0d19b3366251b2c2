"""Which events an undo is about: tables, moments and transactions as people name them."""

from __future__ import annotations

import json
from datetime import UTC

import pytest
from typer.testing import CliRunner

from audit_toolkit import trail as verbs
from audit_toolkit.cli.app import app
from audit_toolkit.errors import UsageError
from audit_toolkit.trail import Selection
from tests.plugins.trail import Trail
from tests.timetravel.words import Audit, now


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute("""
        create table orders (id int primary key, total int);
        create table stock (id int primary key, pieces int);
        create table plain (id int primary key);
        create schema sales;
        create table sales.orders (id int primary key, total int)
    """)
    for table in ("public.orders", "stock", "sales.orders"):
        trail.audit(table)
    trail.execute("insert into orders values (1, 1); insert into stock values (1, 10)")
    trail.execute("insert into sales.orders values (1, 1)")
    trail.execute(
        "begin; update orders set total = 2; update stock set pieces = 9;"
        "update sales.orders set total = 2; commit"
    )
    return trail


def number_of_last(trail: Trail) -> str:
    return str(trail.events()[-1]["transaction_id"])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("ordesr", "public.orders?"),
        ("public.stocks", "did you mean public.stock"),
        ("nothing.like.this", "not the name of a table"),
        ("plain", "public.plain is not audited"),
        ("Stcok", "did you mean public.stock"),
    ],
)
def test_a_table_that_is_not_there_is_an_error(
    shop: Trail, audit: Audit, typed: str, said: str
) -> None:
    events = shop.events()
    for option in ("--table", "--except"):
        number = number_of_last(shop)
        refused = audit("revert", "--transaction", number, option, typed, "--apply", code=2)
        assert said in refused.stderr
    assert shop.events() == events


def test_one_name_is_one_table(shop: Trail, audit: Audit) -> None:
    audit("revert", "--transaction", number_of_last(shop), "--table", "orders", "--apply")
    assert shop.execute("select total from orders union all select total from sales.orders") == [
        (1,),
        (2,),
    ]


@pytest.mark.parametrize("name", ["stock", "goods"])
def test_a_renamed_table_by_either_name(shop: Trail, audit: Audit, name: str) -> None:
    number = number_of_last(shop)
    shop.execute("alter table stock rename to goods")
    shop.execute("select audit.note_changes()")
    audit("revert", "--transaction", number, "--table", name, "--apply")
    assert shop.execute("select pieces from goods") == [(10,)]
    assert shop.execute("select total from orders") == [(2,)]


@pytest.mark.parametrize(
    "command",
    [
        ["restore", "orders", "1", "--at", "2999-01-01"],
        ["revert", "--since", "2999-01-01"],
        ["restore", "orders", "1", "--at", "2999-01-01", "--utc", "--apply"],
    ],
    ids=" ".join,
)
def test_the_future_is_refused(shop: Trail, audit: Audit, command: list[str]) -> None:
    refused = audit(*command, code=2)
    assert "is in the future" in refused.stderr


@pytest.fixture
def twice(shop: Trail) -> Trail:
    """A trail with two transactions of one number, as a restore into a fresh cluster leads to."""
    number = number_of_last(shop)
    shop.execute(
        """insert into audit.logged_actions
               (schema_name, table_name, action, row_key, old_row, new_row, transaction_id, transaction_tstamp,
                action_tstamp)
           values ('public', 'stock', 'U', '1', '{"id": 1, "pieces": 3}', '{"id": 1, "pieces": 4}',
               %s::text::xid8, '2020-01-01 10:00+00', now() + interval '1 hour')""",
        [number],
    )
    return shop


@pytest.mark.parametrize(
    "command",
    [["transaction"], ["history", "--transaction"], ["history", "stock", "--transaction"]],
    ids=" ".join,
)
def test_two_transactions_of_one_number_are_shown_apart(
    twice: Trail, audit: Audit, command: list[str]
) -> None:
    number = number_of_last(twice)
    refused = audit(*command, number, code=2)
    assert f"2 transactions have the number {number}" in refused.stderr
    assert "2020-01-01T10:00:00.000000+00:00" in refused.stderr
    assert f"{number}@TIME" in refused.stderr
    other = audit(*command, f"{number}@2020-01-01 10:00", "--utc", "--format", "json")
    (event,) = json.loads(other.stdout)["events"]
    assert event["new_row"] == {"id": 1, "pieces": 4}
    began = twice.events()[-2]["transaction_tstamp"].astimezone(UTC).isoformat()
    found = json.loads(audit(*command, f"{number}@{began}", "--format", "json").stdout)["events"]
    assert {event["new_row"].get("pieces") for event in found} <= {None, 9}
    until = now(twice).isoformat()
    narrowed = audit(*command, number, "--until", until, "--format", "json")
    assert json.loads(narrowed.stdout)["events"] == found
    assert "no single transaction" in audit(*command, f"{number}@2019-01-01", code=2).stderr
    assert "is not a valid transaction number" in audit(*command, "x", code=2).stderr


def test_two_transactions_of_one_number_in_python(twice: Trail) -> None:
    number = int(number_of_last(twice))
    with pytest.raises(UsageError, match="2 transactions have the number"):
        verbs.select_events(twice.connection, Selection(transaction=number))
    with pytest.raises(UsageError, match="2 transactions have the number"):
        verbs.history(twice.connection, transaction=number)
    began = twice.events()[-1]["transaction_tstamp"]
    (event,) = verbs.history(twice.connection, "stock", transaction=number, transaction_start=began)
    assert event.new_row == {"id": 1, "pieces": 4}


@pytest.mark.parametrize(
    "command", [["revert", "--event", "1"], ["restore", "orders", "1", "--event", "1"]]
)
def test_sql_and_apply_are_one_or_the_other(shop: Trail, audit: Audit, command: list[str]) -> None:
    refused = audit(*command, "--sql", "--apply", code=2)
    assert refused.stderr.startswith("error: --sql prints what --apply runs, so they cannot")


@pytest.mark.parametrize("command", [["revert", "--last"], ["history"], ["blame"]])
def test_a_view_has_no_changes(shop: Trail, audit: Audit, command: list[str]) -> None:
    shop.execute("create view simple as select * from orders")
    refused = audit(*command, "simple", "1", code=2)
    assert refused.stderr.splitlines() == [
        "error: public.simple has no history: it is a view",
        "hint: audit the tables beneath it: changes through the view are captured there",
    ]


def test_a_column_to_ignore_has_to_be_there(trail: Trail, audit: Audit) -> None:
    trail.execute("create table items (id int primary key, total int, gone int)")
    trail.audit("items")
    trail.execute("insert into items values (1, 1, 1); alter table items drop gone")
    refused = audit("revert", "--event", "1", "--ignore", "totl", code=2)
    assert refused.stderr.splitlines() == [
        "error: public.items has no column totl",
        "hint: did you mean total?",
    ]
    for column in ("total", "gone"):
        audit("revert", "--event", "1", "--ignore", column)


def test_rows_that_are_already_as_they_would_be_put_back(trail: Trail, audit: Audit) -> None:
    trail.execute("create table items (id int primary key, v text)")
    trail.audit("items")
    trail.execute("insert into items values (1, 'a'), (2, 'a'), (3, 'a')")
    trail.execute("update items set v = 'b' where id = 1; delete from items where id = 2")
    changed = [f"--event={event['event_id']}" for event in trail.events()[-2:]]
    trail.execute("update items set v = 'a' where id = 1; insert into items values (2, 'a')")
    done = audit("revert", *changed, "--apply")
    assert done.stderr.splitlines() == [
        "note: nothing to put back",
        "note: 2 rows already as before the events",
    ]
    trail.execute("delete from items where id = 3")
    assert "1 row already so" in audit("revert", "--event", "3").stderr
    trail.execute("insert into items values (3, 'c')")
    assert "was left as" in audit("revert", "--event", "3", code=1).stderr


@pytest.mark.parametrize(("encoding", "arrow"), [("utf-8", "→"), ("ascii", "->")])
def test_one_arrow_for_all(
    trail: Trail, monkeypatch: pytest.MonkeyPatch, encoding: str, arrow: str
) -> None:
    trail.execute("create table items (id int primary key, v text)")
    trail.audit("items")
    trail.execute("insert into items values (1, 'a'); update items set v = 'b'")
    monkeypatch.setenv("AUDIT_DATABASE_URL", trail.database.dsn)
    run = CliRunner(charset=encoding)
    start = (trail.events()[0]["action_tstamp"]).isoformat()
    for command in (["revert", "--event", "2"], ["diff", "items", "--from", start, "--to", "now"]):
        done = run.invoke(app, command, env={"PYTHONIOENCODING": encoding})
        assert f"{'b' if command[0] == 'revert' else 'a'} {arrow} " in done.stdout, done.stderr


def test_a_column_to_hide_has_to_be_there(trail: Trail, audit: Audit) -> None:
    trail.execute("create table items (id int primary key, email text, gone int)")
    trail.audit("items")
    trail.execute("insert into items values (1, 'a', 1); alter table items drop gone")
    start = trail.events()[0]["action_tstamp"].isoformat()
    now_only = [["row-at", "items", "1", "--at", "now"], ["table-at", "items", "--at", "now"]]
    for command in [*now_only, ["blame", "items", "1"], ["show", "1"]]:
        refused = audit(*command, "--hide", "emial", code=2)
        assert "--hide: " in refused.stderr
        assert "did you mean email?" in refused.stderr
        assert "'a'" not in audit(*command, "--hide", "email").stdout
    for command in (["history", "items"], ["diff", "items", "--from", start]):
        assert (
            "has no column 'emial' now; did you mean email?"
            in audit(*command, "--hide", "emial").stderr
        )
    audit("show", "1", "--hide", "gone")
