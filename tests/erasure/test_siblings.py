"""Keys, columns and values of every kind: what is asked to be erased is erased, and nothing beside it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from audit_toolkit.config import Capture, Mask, Store
from audit_toolkit.errors import BusyError
from audit_toolkit.trail import Erasure, Redaction, events_of_person
from audit_toolkit.trail import redact as run
from tests.plugins.command import Audit, audit
from tests.plugins.trail import Trail

__all__ = ["audit"]


def redact(
    trail: Trail, table: str, *rows: str, columns: tuple[str, ...] = ("v",), **more: Any
) -> Redaction:
    with trail.database.connect() as connection:
        asked = Erasure(table=table, rows=rows, columns=columns, reason="asked to", **more)
        return run(connection, asked, apply=True)


def holding(trail: Trail, text: str) -> int:
    [(found,)] = trail.execute(
        "select count(*) from audit.logged_actions as e where position(%s in e::text) > 0", [text]
    )
    return int(found)


@pytest.mark.parametrize(
    "key",
    ["a'b", 'c"d', '["x"]', '{"a": 1}', "null", "", " x ", "a\\b", "100%", "redacted:5", "-1"],
)
def test_keys_that_look_like_something_else(trail: Trail, key: str) -> None:
    trail.execute("create table things (id text primary key, v text)")
    trail.audit("things")
    trail.execute("insert into things values (%s, 'secret'), ('other', 'kept')", [key])
    assert redact(trail, "things", key).events == 1
    assert (holding(trail, "secret"), holding(trail, "kept")) == (0, 1)


def test_a_key_that_the_trail_has_otherwise(trail: Trail, audit: Audit) -> None:
    """1.5, 1.50 and 1.500 are one key; and rows whose key was redacted do not keep others from being found."""
    trail.execute("create table things (id numeric primary key, v text)")
    trail.audit("things")
    trail.execute("insert into things values (1.50, 'secret'), (2.50, 'kept')")
    trail.execute("delete from things where id = 1.5")
    trail.execute("insert into things values (1.500, 'secret')")
    assert redact(trail, "things", "1.5", keys=True).keys == 2
    assert holding(trail, "secret") == 0
    assert "kept" in audit("row-at", "things", "2.5", "--at", "now").stdout
    assert trail.execute("select audit.equal_keys('things', '2.5')") == [(["2.50"],)]


def test_a_value_that_looks_like_a_redacted_one(trail: Trail) -> None:
    trail.execute("create table things (id int primary key, v jsonb)")
    trail.audit("things")
    trail.execute("""insert into things values (1, '{"audit:redacted": 5, "name": "secret"}')""")
    assert trail.execute("select v ->> 'name' from audit.row_at(null::things, '1', now())") == [
        ("secret",)
    ]
    [number] = redact(trail, "things", "1").redactions
    [event, _] = trail.events()
    assert event["new_row"]["v"] == {"audit:redacted": number}


@pytest.mark.parametrize(
    "options",
    [{"store": Store.CHANGES}, {"capture": Capture.STATEMENT}, {"mask": (Mask(column="s"),)}],
)
def test_however_a_table_is_captured(trail: Trail, options: dict[str, Any]) -> None:
    trail.execute("create table things (id int primary key, v text, s text)")
    trail.audit("things", **options)
    trail.execute("insert into things values (1, 'secret', 'x'), (2, 'kept', 'x')")
    trail.execute("update things set v = 'secret two' where id = 1")
    trail.execute("update things set s = 'z'")
    trail.execute("delete from things")
    assert redact(trail, "things", "1", columns=("v", "s")).events == 4
    assert holding(trail, "secret") == 0
    assert holding(trail, "kept") > 0


def test_columns_that_changed_places_or_type(trail: Trail) -> None:
    trail.execute("create table things (id int primary key, a text, b int)")
    trail.audit("things")
    trail.execute("insert into things values (1, 'secret', 424242)")
    trail.execute(
        "alter table things rename a to c; alter table things rename b to a; alter table things rename c to b"
    )
    trail.execute("select audit.note_changes()")
    trail.execute("alter table things alter a type text using a || ' kept'")
    trail.execute("update things set id = 2")
    redact(trail, "things", "2", columns=("b",))
    assert (holding(trail, "secret"), holding(trail, "424242")) == (0, 2)
    redact(trail, "things", "2", columns=("a",))
    assert holding(trail, "424242") == 0


def test_a_dropped_column_is_erased_with_the_one_that_has_its_name(trail: Trail) -> None:
    trail.execute("create table things (id int primary key, v text)")
    trail.audit("things")
    trail.execute("insert into things values (1, 'secret')")
    trail.execute("alter table things drop v; alter table things add v text")
    trail.execute("update things set v = 'secret two'")
    assert redact(trail, "things", "1").events == 2
    assert holding(trail, "secret") == 0


def test_several_redactions_at_once(trail: Trail) -> None:
    """One after the other, or refused as busy; none is lost, none half done."""
    trail.execute("create table things (id int primary key, v text)")
    trail.audit("things")
    trail.execute(
        "insert into things select n, 'secret ' || n || '.' from generate_series(1, 9) as n"
    )
    done: dict[int, bool] = {}

    def one(number: int) -> None:
        try:
            done[number] = redact(trail, "things", str(number)).events == 1
        except BusyError:
            done[number] = False

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: holding(trail, f"secret {n}.") == 0 for n in done} == done
    assert any(done.values())
    assert len([e for e in trail.events() if e["action"] == "R"]) == sum(done.values())


def test_an_export_ends_where_foreign_keys_go_in_circles(trail: Trail) -> None:
    trail.execute(
        "create table a (id int primary key, b int, boss int references a, v text); "
        "create table b (id int primary key, a int references a); "
        "alter table a add foreign key (b) references b"
    )
    for table in ("a", "b"):
        trail.audit(table)
    trail.execute("insert into a values (1, null, 1, 'secret'), (2, null, 1, 'below')")
    trail.execute("insert into b values (9, 1); update a set b = 9 where id = 1")
    with trail.database.connect() as connection:
        events = events_of_person(connection, "a", "1")
    assert sorted((e.table_name, e.row_key) for e in events) == [
        *[("a", "1")] * 2,
        ("a", "2"),
        ("b", "9"),
    ]


@pytest.mark.parametrize(
    ("ddl", "column"),
    [
        ("alter table orders rename column id to number", "note"),
        ("alter table orders drop column id", "note"),
        ("alter table orders drop column note", "note"),
        ("alter table orders rename column note to remark", "remark"),
    ],
)
def test_a_row_is_erased_whatever_became_of_its_columns(
    trail: Trail, audit: Audit, ddl: str, column: str
) -> None:
    trail.execute("create table orders (id int primary key, note text)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'secret'), (2, 'kept')")
    trail.execute(f"{ddl}; select audit.note_changes()")
    erase = ("redact", "orders", "1", "--reason", "asked to", "--apply")
    there = ("--dsn", trail.database.dsn)
    if column != "note":
        refused = audit(*erase, "--column", "note", *there, code=2)
        assert "error: the column note of public.orders is called remark now" in refused.stderr
    audit(*erase, "--column", column, *there, code=0)
    rows = str([event["new_row"] for event in trail.events()])
    assert ("secret" in rows, "kept" in rows) == (False, True)
