"""`audit history` of all tables, or of several: who did what, wherever it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.trail import history
from tests.plugins.command import Audit
from tests.plugins.trail import Trail


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute(
        """
        create table orders (id int primary key, status text);
        create table items (id int primary key, n int);
        create schema crm;
        create table crm.people (id int primary key, name text);
        """
    )
    for table in ("orders", "items", "crm.people"):
        trail.audit(table)
    act(trail, "alice", "insert into orders values (1, 'new')")
    act(trail, "bob", "insert into items values (1, 1); update items set n = 2")
    act(trail, "alice", "insert into crm.people values (1, 'Ann'); delete from items")
    return trail


def act(trail: Trail, actor: str, statements: str) -> None:
    context = json.dumps({"actor": actor, "reason": f"{actor}'s"})
    with trail.connection.transaction():
        trail.execute("select set_config('audit.context', %s, true)", [context])
        trail.execute(statements)


def story(output: str) -> list[tuple[str, str]]:
    return [(e["table_name"], e["action"]) for e in json.loads(output)["events"]]


EVERYTHING = [("orders", "I"), ("items", "I"), ("items", "U"), ("people", "I"), ("items", "D")]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], EVERYTHING),
        (["--actor", "alice"], [EVERYTHING[0], *EVERYTHING[3:]]),
        (["--actor", "alice", "--action", "delete"], [("items", "D")]),
        (["--context", "reason=bob's"], EVERYTHING[1:3]),
        (["--role", "nobody"], []),
        (["--table", "orders", "--table", "crm.people"], [("orders", "I"), ("people", "I")]),
        (["-t", "items"], [each for each in EVERYTHING if each[0] == "items"]),
        (["-t", "items", "-t", "orders", "--changed", "n"], [("items", c) for c in "IUD"]),
        (["--since", "1 hour ago", "--until", "now"], EVERYTHING),
        (["--since", "2026-01-01", "--until", "2026-01-02"], []),
        (["--newest-first", "--limit", "2"], EVERYTHING[:2:-1]),
    ],
)
def test_filters(shop: Trail, audit: Audit, filters: list[str], expected: Any) -> None:
    done = audit("history", "--format", "json", *filters)
    assert done.exit_code == 0
    assert story(done.stdout) == expected


def test_a_transaction(shop: Trail, audit: Audit) -> None:
    (number,) = {e["transaction_id"] for e in shop.events() if e["table_name"] == "people"}
    done = audit("history", "--transaction", number, "--format", "json")
    assert story(done.stdout) == EVERYTHING[3:]


def test_text_names_the_table_of_each_event(shop: Trail, audit: Audit) -> None:
    lines = audit("history", "--actor", "alice").stdout.splitlines()
    assert lines[0] == "all tables"
    headlines = [line.partition(" UTC  ")[2] for line in lines if line.startswith("●")]
    assert headlines == [
        "inserted public.orders 1 by alice",
        "inserted crm.people 1 by alice",
        "deleted public.items 1 by alice",
    ]
    assert audit("history", "-t", "items", "-t", "orders").stdout.startswith(
        "public.items, public.orders\n"
    )


def test_csv_and_lines(shop: Trail, audit: Audit) -> None:
    assert len(audit("history", "--format", "csv").stdout.splitlines()) == 6
    lines = audit("history", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["table_name"] for line in lines] == [t for t, _ in EVERYTHING]


def test_pages_join_to_the_whole(shop: Trail, audit: Audit) -> None:
    whole = [event.event_id for event in history(shop.connection)]
    found: list[int] = []
    after = 0
    while page := history(shop.connection, limit=2, after=after):
        found += [event.event_id for event in page]
        after = max(found)
    assert found == whole
    done = audit("history", "--limit", "2")
    border = whole[-2]
    assert f"older events: audit history --before {border} --limit 2" in done.stderr


def test_rows_of_two_tables_with_one_key_are_two_rows(trail: Trail) -> None:
    """A trigger writes the later change first; the order is put right in each table by itself."""
    for name in "ab":
        trail.execute(f"create table {name} (id int primary key, n int)")
        trail.execute(f"insert into {name} values (1, 1), (2, 2)")
    trail.execute(
        """
        create function again() returns trigger language plpgsql as $$
        begin
            if new.n = 9 then update a set n = 50 where n = 9 and id = new.id; end if;
            return null;
        end $$;
        create trigger "00_0" after update on a for each row execute function again();
        """
    )
    trail.audit("a")
    trail.audit("b")
    with trail.connection.transaction():
        trail.execute("update a set n = 9 where id = 1; update b set n = 9 where id = 1")
    events = history(trail.connection)
    assert [e.event_id for e in events if e.table_name == "a"] == [
        e.event_id for e in history(trail.connection, "a")
    ]
    assert [(e.changed["n"]) for e in events if e.table_name == "a"] == [(1, 9), (9, 50)]
    assert [e.event_id for e in history(trail.connection, newest_first=True)] == [
        e.event_id for e in reversed(events)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["orders", "--table", "items"], "orders cannot be combined with --table"),
        (["--from-key", "1"], "a range of keys needs exactly one table"),
        (
            ["-t", "orders", "-t", "items", "--to-key", "1"],
            "a range of keys needs exactly one table",
        ),
        (["--table", "order"], "order"),
    ],
)
def test_contradictions(shop: Trail, audit: Audit, arguments: list[str], message: str) -> None:
    done = audit("history", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_key_needs_its_table(shop: Trail) -> None:
    with pytest.raises(UsageError, match="a key needs exactly one table"):
        history(shop.connection, key=1)
    assert len(history(shop.connection, ["items"], 1)) == 3


def test_an_empty_trail_and_filters_without_events(trail: Trail, audit: Audit) -> None:
    empty = audit("history")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "the trail has no events of all tables: nothing has changed" in empty.stderr
    trail.execute("create table t (id int primary key)")
    trail.audit("t")
    trail.execute("insert into t values (1)")
    assert "no events of all tables match these filters" in audit("history", "--actor", "x").stderr


def test_the_tail_of_all_tables(shop: Trail, tmp_path: Any) -> None:
    from audit_toolkit.trail import Position, follow

    with shop.database.connect(autocommit=True) as connection:
        batches = follow(connection)
        found: list[Any] = []
        for batch in batches:
            found += batch.events
            batch.position.save(tmp_path / "cursor")
            if len(found) == len(EVERYTHING):
                break
        batches.close()
    assert [(e.table_name, e.action) for e in found] == EVERYTHING
    shop.execute("update orders set status = 'paid'; insert into items values (7, 7)")
    with shop.database.connect(autocommit=True) as connection:
        batches = follow(connection, after=Position.load(tmp_path / "cursor"))
        more: list[Any] = []
        while len(more) < 2:
            more += next(batches).events
        batches.close()
        assert [(e.table_name, e.action) for e in more] == [("orders", "U"), ("items", "I")]
        with pytest.raises(UsageError, match="the cursor belongs to all tables"):
            next(follow(connection, "orders", after=Position.load(tmp_path / "cursor")))
