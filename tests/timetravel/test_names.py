"""Reading follows a table through its names, and takes nothing of another table for an answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from audit_toolkit.config import Capture, Store
from audit_toolkit.errors import AuditError, PermissionDeniedError, UsageError
from audit_toolkit.trail import (
    Difference,
    Event,
    Selection,
    apply_revert,
    blame,
    diff,
    find_subject,
    history,
    plan_restore,
    row_at,
    table_at,
)
from audit_toolkit.trail.blame import find_blame
from tests.moving.words import findings, mend, run
from tests.plugins.trail import SCHEMA, Trail, warnings
from tests.timetravel.words import Audit

ORDERS = "create table orders (id int primary key, status text)"
SWAP = "alter table orders rename to orders_old; alter table orders_new rename to orders"
BOTH = pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])


def now(trail: Trail) -> datetime:
    [(moment,)] = trail.execute("select clock_timestamp()")
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC)


def rows(trail: Trail, table: str, moment: datetime | None = None) -> list[tuple[Any, ...]]:
    """All rows of a table as SQL has them at a moment."""
    return trail.execute(
        f"select * from audit.table_at(null::{table}, %s) order by 1", [moment or now(trail)]
    )


def row(trail: Trail, table: str, key: str, moment: datetime | None = None) -> tuple[Any, ...]:
    """A row as SQL has it at a moment; () where there was none."""
    found = trail.execute(
        f"select * from audit.row_at(null::{table}, %s, %s)", [key, moment or now(trail)]
    )
    return found[0] if found else ()


def told(events: list[Event]) -> list[tuple[str, str, str | None]]:
    """Events as (action, table, key)."""
    return [(event.action.value, event.table_name, event.row_key) for event in events]


def versions(trail: Trail, table: str, key: str) -> list[Any]:
    """The versions of a row as the SQL function has them."""
    query = "select row_image from audit.history(%s::regclass, %s)"
    return [image for (image,) in trail.execute(query, [table, key])]


def authors(trail: Trail, table: str, key: object) -> dict[str, str | None]:
    """Who gave each column its value."""
    return {
        origin.column: origin.event.actor if origin.event else None
        for origin in blame(trail.connection, table, key)
    }


def differences(trail: Trail, table: str, since: datetime) -> list[Difference]:
    return list(diff(trail.connection, table, since, now(trail)))


def by(trail: Trail, actor: str, statement: str) -> None:
    """Run a statement in somebody's name."""
    trail.execute(
        "begin; select set_config('audit.context', '{\"actor\": \"" + actor + "\"}', true);"
        f" {statement}; commit"
    )


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders")
    by(trail, "ann", "insert into orders values (1, 'old'), (2, 'old')")
    return trail


RENAMES = {
    "rename": ("alter table orders rename to purchases", "purchases"),
    "set schema": ("create schema sales; alter table orders set schema sales", "sales.orders"),
    "schema": ("alter schema public rename to shop; create schema public", "shop.orders"),
    "both": (
        "create schema sales; alter table orders rename to p; alter table p set schema sales",
        "sales.p",
    ),
    "case": ('alter table orders rename to "Or""ders%s"', '"Or""ders%%s"'),
    "not noted": ("alter table orders rename to purchases", "purchases"),
}


@BOTH
@pytest.mark.parametrize("kind", RENAMES)
def test_a_renamed_table_is_one_table(trail: Trail, capture: Capture, kind: str) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    by(trail, "ann", "insert into orders values (1, 'a'), (2, 'a')")
    before = now(trail)
    rename, written = RENAMES[kind]
    name = written.replace("%%", "%")
    trail.execute(rename)
    if kind != "not noted":
        by(trail, "ben", f"update {name} set status = 'b' where id = 1")
    changed = [] if kind == "not noted" else ["U"]
    events = history(trail.connection, name, 1)
    assert [e.action.value for e in events if e.action != "M"] == ["I", *changed]
    assert events[0].table_name == "orders"
    status = "b" if changed else "a"
    assert rows(trail, written) == [(1, status), (2, "a")]
    assert rows(trail, written, before) == [(1, "a"), (2, "a")]
    assert row(trail, written, "2") == (2, "a")
    assert row_at(trail.connection, name, 1, before) == {"id": 1, "status": "a"}
    assert list(table_at(trail.connection, name, before)) == [
        {"id": 1, "status": "a"},
        {"id": 2, "status": "a"},
    ]
    assert authors(trail, name, 1) == {"id": "ann", "status": "ben" if changed else "ann"}
    assert authors(trail, name, 2) == {"id": "ann", "status": "ann"}
    assert [d.key for d in differences(trail, name, before)] == (["1"] if changed else [])
    assert versions(trail, name, "1")[0] == {"id": 1, "status": "a"}
    assert len(versions(trail, name, "1")) == 1 + len(changed)


@BOTH
@pytest.mark.parametrize("first", ["orders", "orders_old"])
def test_tables_that_changed_places_have_each_their_own(
    trail: Trail, capture: Capture, first: str
) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    trail.execute("insert into orders values (1, 'old'), (2, 'old')")
    trail.execute("create table orders_new (like orders including all)")
    trail.audit("orders_new", capture=capture)
    trail.execute("insert into orders_new values (1, 'new'), (7, 'new')")
    before = now(trail)
    trail.execute(SWAP)
    for table in (first, *{"orders", "orders_old"} - {first}):
        trail.execute(f"insert into {table} values (3, 'x')")
    assert rows(trail, "orders") == [(1, "new"), (3, "x"), (7, "new")]
    assert rows(trail, "orders_old") == [(1, "old"), (2, "old"), (3, "x")]
    assert rows(trail, "orders", before) == [(1, "new"), (7, "new")]
    assert rows(trail, "orders_old", before) == [(1, "old"), (2, "old")]
    assert row(trail, "orders", "2") == ()
    assert versions(trail, "orders", "1") == [{"id": 1, "status": "new"}]
    assert versions(trail, "orders_old", "1") == [{"id": 1, "status": "old"}]
    of_present, of_former = (
        [e for e in told(history(trail.connection, table)) if e[0] == "I"]
        for table in ("orders", "orders_old")
    )
    assert of_present == [
        ("I", "orders_new", "1"),
        ("I", "orders_new", "7"),
        ("I", "orders", "3"),
    ]
    assert of_former == [("I", "orders", "1"), ("I", "orders", "2"), ("I", "orders_old", "3")]
    both = history(trail.connection, ["orders", "orders_old"])
    assert len([event for event in both if event.action == "I"]) == 6
    with pytest.raises(UsageError, match="no such row in the trail"):
        blame(trail.connection, "orders", 2)
    assert [d.key for d in differences(trail, "orders", before)] == ["3"]


def test_tables_that_exchanged_their_names(orders: Trail) -> None:
    orders.execute("create table sales (like orders including all)")
    orders.audit("sales")
    orders.execute("insert into sales values (1, 'sale')")
    for _ in range(2):
        orders.execute(
            "begin; alter table orders rename to t; alter table sales rename to orders;"
            " alter table t rename to sales; select audit.note_changes(); commit"
        )
        orders.execute("update orders set status = status || '.'")
        orders.execute("update sales set status = status || '!' where id = 1")
    assert rows(orders, "orders") == [(1, "old!."), (2, "old.")]
    assert rows(orders, "sales") == [(1, "sale.!")]
    assert [i["status"] for i in versions(orders, "orders", "1")] == ["old", "old!", "old!."]
    assert [i["status"] for i in versions(orders, "sales", "1")] == ["sale", "sale.", "sale.!"]


def test_a_name_that_tables_had_in_turn(orders: Trail) -> None:
    moments = [now(orders)]
    for number in (1, 2):
        orders.execute(f"alter table orders rename to orders_{number}")
        orders.execute(ORDERS)
        orders.audit("orders")
        orders.execute(f"insert into orders values (1, 'new {number}')")
        moments.append(now(orders))
    assert rows(orders, "orders") == [(1, "new 2")]
    assert rows(orders, "orders_2") == [(1, "new 1")]
    assert rows(orders, "orders_1") == [(1, "old"), (2, "old")]
    assert rows(orders, "orders_1", moments[0]) == [(1, "old"), (2, "old")]
    for table in ("orders", "orders_2"):
        with pytest.raises(AuditError, match="is another table than before") as refused:
            row_at(orders.connection, table, 1, moments[0])
    assert "orders_1" in (refused.value.hint or "")
    assert versions(orders, "orders", "1") == [{"id": 1, "status": "new 2"}]
    assert told(history(orders.connection, "orders", 1)) == [("I", "orders", "1")]


def test_a_table_that_was_renamed_again_and_again(orders: Trail) -> None:
    moments = []
    for number, name in enumerate("abcab"):
        former = "orders" if number == 0 else "abcab"[number - 1]
        orders.execute(f"alter table {former} rename to {name}")
        orders.execute(f"update {name} set status = '{number}' where id = 1")
        moments.append(now(orders))
    orders.execute("alter table b rename to orders")
    found = history(orders.connection, "orders", 1)
    assert [e.table_name for e in found if e.action in "IU"] == ["orders", *"abcab"]
    assert [e.table_name for e in found if e.action == "M"] == [*"abcab"]
    for number, moment in enumerate(moments):
        assert rows(orders, "orders", moment) == [(1, str(number)), (2, "old")]
    assert len(versions(orders, "orders", "1")) == 6


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "not noted"])
def test_a_table_that_came_back_to_its_name(orders: Trail, noted: bool) -> None:
    orders.execute("alter table orders rename to a; update a set status = '1' where id = 1")
    orders.execute("alter table a rename to b; update b set status = '2' where id = 1")
    before = now(orders)
    # The capture function is made for the name, and so does not notice that it was another one.
    orders.execute("alter table b rename to orders; update orders set status = '3' where id = 1")
    if noted:
        orders.execute("select audit.note_changes()")
    orders.execute("update orders set status = '4' where id = 1")
    assert rows(orders, "orders") == [(1, "4"), (2, "old")]
    assert rows(orders, "orders", before) == [(1, "2"), (2, "old")]
    assert [i["status"] for i in versions(orders, "orders", "1")] == ["old", "1", "2", "3", "4"]
    found = history(orders.connection, "orders", 1)
    assert [e.table_name for e in found if e.action in "IU"] == [
        "orders",
        "a",
        "b",
        "orders",
        "orders",
    ]


def test_renamed_twice_in_one_transaction_and_rolled_back(orders: Trail) -> None:
    orders.execute(
        "begin; update orders set status = 'x' where id = 1; alter table orders rename to a;"
        " update a set status = 'y' where id = 1; alter table a rename to b;"
        " update b set status = 'z' where id = 1; commit"
    )
    orders.execute("begin; alter table b rename to c; delete from c; rollback")
    orders.execute("alter table b rename to c")
    assert rows(orders, "c") == [(1, "z"), (2, "old")]
    assert [i["status"] for i in versions(orders, "c", "1")] == ["old", "z"]
    assert [e.table_name for e in history(orders.connection, "c", 1) if e.action in "IU"] == [
        "orders",
        "orders",
        "a",
        "b",
    ]


def test_a_table_that_others_write_to_while_its_rename_is_noted(orders: Trail) -> None:
    orders.execute("alter table orders rename to a")
    first, second = (orders.database.connect(autocommit=False) for _ in range(2))
    first.execute("insert into a values (3, 'x')")
    second.execute("insert into a values (4, 'x')")  # waits for nobody
    second.commit()
    first.commit()
    orders.execute("insert into a values (5, 'x')")
    assert [key for key, _ in rows(orders, "a")] == [1, 2, 3, 4, 5]
    assert len([e for e in history(orders.connection, "a") if e.action == "I"]) == 5


def test_a_transaction_with_a_snapshot_of_before(orders: Trail) -> None:
    writer = orders.database.connect()
    writer.execute("begin isolation level repeatable read; select txid_current()")
    orders.execute("alter table orders rename to a; insert into a values (3, 'x')")
    writer.execute("insert into a values (4, 'x'); commit")
    assert told(history(orders.connection, "a", 4))[0] == ("I", "a", "4")
    assert [key for key, _ in rows(orders, "a")] == [1, 2, 3, 4]


def test_a_column_that_came_is_followed_from_its_first_write(orders: Trail) -> None:
    orders.execute("alter table orders add note text; update orders set note = 'a' where id = 1")
    orders.execute("alter table orders rename note to remark; alter table orders add note text")
    orders.execute("update orders set note = 'b' where id = 2")
    assert rows(orders, "orders") == [(1, "old", "a", None), (2, "old", None, "b")]
    assert versions(orders, "orders", "1")[-1]["remark"] == "a"


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_name_that_only_a_transaction_with_a_snapshot_knew(orders: Trail, isolation: str) -> None:
    orders.execute("alter table orders rename to a")
    orders.execute(f"begin isolation level {isolation}; update a set status = 'x'; commit")
    orders.execute("create schema sales; alter table a set schema sales")
    for step in ("select 1", "select audit.note_changes()", "update sales.a set status = 'x'"):
        orders.execute(step)
        assert rows(orders, "sales.a") == [(1, "x"), (2, "x")]
        assert told(history(orders.connection, "sales.a", 1))[:2] == [
            ("I", "orders", "1"),
            ("M", "a", None),
        ]


def test_names_that_columns_exchanged_before_a_transaction_that_notes_nothing(trail: Trail) -> None:
    trail.execute("create table people (id int primary key, first text, last text)")
    trail.audit("people")
    trail.execute("insert into people values (1, 'a', 'b')")
    exchange = """
        alter table people rename first to x;
        alter table people rename last to first;
        alter table people rename x to last
    """
    trail.execute(exchange)
    asked = "select first, last from audit.row_at(null::people, '1', now())"
    assert warnings(trail, asked) == []
    trail.execute("begin isolation level serializable; update people set first = 'c'; commit")
    [said] = warnings(trail, asked)
    assert "exchanged names" in said
    remedies = {found["kind"]: found["remedy"] for found in findings(trail)}
    assert remedies["columns_exchanged"] == "audit baseline --table public.people --reason REASON"
    mend(trail)
    assert findings(trail) == []
    assert warnings(trail, asked) == []
    assert trail.execute(asked) == [("c", "a")]
    trail.execute("begin; select pg_current_xact_id()")
    with trail.database.connect() as other:
        other.execute("update people set first = 'd'")
    trail.execute(f"{exchange}; select audit.note_changes(); commit")
    assert warnings(trail, asked) == []  # what others wrote was before the exchange


def test_a_partitioned_table_under_its_names(trail: Trail) -> None:
    trail.execute("create table visits (id int primary key, page text) partition by range (id)")
    trail.execute("create table v1 partition of visits for values from (0) to (10)")
    trail.audit("visits")
    trail.execute("insert into visits values (1, '/')")
    before = now(trail)
    trail.execute("alter table visits rename to hits; alter table v1 rename to h1")
    trail.execute("update h1 set page = '/a'")
    assert rows(trail, "hits", before) == rows(trail, "h1", before) == [(1, "/")]
    assert rows(trail, "hits") == [(1, "/a")]
    assert len(versions(trail, "h1", "1")) == 2


def test_rows_without_a_key_under_their_names(trail: Trail) -> None:
    trail.execute("create table notes (note text)")
    trail.audit("notes")
    trail.execute("insert into notes values ('a'), ('a')")
    before = now(trail)
    trail.execute("alter table notes rename to remarks; insert into remarks values ('b')")
    trail.execute("alter table remarks rename note to text")
    trail.execute("delete from remarks where text = 'b'")
    assert rows(trail, "remarks") == rows(trail, "remarks", before) == [("a",), ("a",)]


def test_rows_without_a_key_after_ddl_in_a_session_that_asked_before(trail: Trail) -> None:
    trail.execute("create table notes (note text, n int, at date)")
    trail.audit("notes")
    trail.execute("insert into notes values ('a', 1, '2026-01-01'), ('a', 1, '2026-01-01')")
    assert len(rows(trail, "notes")) == 2
    trail.execute("alter table notes drop note")
    assert rows(trail, "notes") == trail.execute("table notes")
    trail.execute("alter table notes drop n; alter table notes add n text")
    assert rows(trail, "notes") == trail.execute("table notes")
    trail.execute("update notes set n = 'x'; alter table notes alter at type timestamp")
    assert rows(trail, "notes") == trail.execute("table notes")


def test_a_key_that_was_changed_before_and_after(orders: Trail) -> None:
    orders.execute("update orders set id = 10 where id = 1; alter table orders rename to a")
    orders.execute("update a set id = 11 where id = 10; update a set status = 'x' where id = 11")
    found = told(history(orders.connection, "a", 11))
    assert [key for action, _, key in found if action in "IU"] == ["1", "10", "11", "11"]
    assert authors(orders, "a", 11)["id"] is not None
    assert rows(orders, "a") == [(2, "old"), (11, "x")]


def test_truncate_and_gaps_under_a_former_name(orders: Trail) -> None:
    before = now(orders)
    orders.execute("truncate orders; insert into orders values (5, 'x')")
    orders.execute("select audit.record_gap('orders', 'paused', 'an import')")
    orders.execute("select audit.record_gap('orders', 'resumed', 'an import')")
    orders.execute("alter table orders rename to a; insert into a values (6, 'x')")
    assert rows(orders, "a") == [(5, "x"), (6, "x")]
    assert rows(orders, "a", before) == [(1, "old"), (2, "old")]
    assert row(orders, "a", "1") == ()
    assert [e.action.value for e in history(orders.connection, "a", 5)] == ["I", "G", "G", "M"]
    assert len(find_blame(orders.connection, "a", 5).gaps) == 2


def test_a_name_that_no_table_has_any_more(orders: Trail) -> None:
    orders.execute("alter table orders rename to a; update a set status = 'x' where id = 1")
    orders.execute("alter table a rename to purchases")
    before = now(orders)
    for name in ("orders", "a", "purchases"):
        subject = find_subject(orders.connection, name, 1)
        assert str(subject.table) == "public.purchases"
        assert len(history(orders.connection, name, 1)) == 3
        assert row_at(orders.connection, name, 1, before) == {"id": 1, "status": "x"}
    orders.execute("create view orders as select * from purchases")
    assert len(history(orders.connection, "orders", 1)) == 3


def test_a_name_that_a_table_without_capture_has_taken(orders: Trail) -> None:
    orders.execute("alter table orders rename to a; update a set status = 'x' where id = 1")
    orders.execute(ORDERS)
    with pytest.raises(UsageError, match=r"now called public\.a") as refused:
        history(orders.connection, "orders")
    assert refused.value.hint == "audit history public.a"
    assert rows(orders, "orders") == []


def test_a_renamed_table_that_was_dropped(orders: Trail) -> None:
    orders.execute("alter table orders rename to a; update a set status = 'x' where id = 1")
    before = now(orders)
    orders.execute("drop table a; select audit.note_changes()")
    assert [e.table_name for e in history(orders.connection, "a", 1)] == [
        "orders",
        "a",
        "a",
        "a",
    ]
    assert row_at(orders.connection, "a", 2, before) == {"id": 2, "status": "old"}
    assert row_at(orders.connection, "a", 2, now(orders)) is None
    gone = find_blame(orders.connection, "a", 2).gone
    assert gone is not None
    assert gone.is_drop
    # A new table of the name is another one.
    orders.execute(ORDERS.replace("orders", "a"))
    orders.audit("a")
    orders.execute("insert into a values (2, 'new')")
    assert rows(orders, "a") == [(2, "new")]
    assert row(orders, "a", "1") == ()
    assert [e.table_name for e in history(orders.connection, "orders", 2)] == ["orders"]
    assert authors(orders, "a", 2).keys() == {"id", "status"}


def test_the_name_of_a_renamed_and_dropped_table_taken_again(orders: Trail) -> None:
    orders.execute("alter table orders rename to a; update a set status = 'x' where id = 1")
    orders.execute("drop table a; select audit.note_changes()")
    orders.execute(ORDERS)
    orders.audit("orders")
    orders.execute("insert into orders values (1, 'new')")
    assert rows(orders, "orders") == [(1, "new")]
    assert told(history(orders.connection, "orders", 1)) == [("I", "orders", "1")]
    assert [e.table_name for e in history(orders.connection, "a", 2)] == ["orders", "a", "a"]


def test_a_table_installed_again_under_its_new_name(orders: Trail) -> None:
    before = now(orders)
    orders.execute("alter table orders rename to a")
    orders.audit("a")
    orders.execute("update a set status = 'x' where id = 1")
    assert rows(orders, "a") == [(1, "x"), (2, "old")]
    assert rows(orders, "a", before) == [(1, "old"), (2, "old")]


def test_a_table_that_was_renamed_while_capture_was_off(orders: Trail) -> None:
    orders.release("orders")
    orders.execute("alter table orders rename to a; update a set status = 'unseen'")
    orders.audit("a")
    orders.execute("update a set status = 'seen' where id = 1")
    assert [e.action.value for e in history(orders.connection, "a", 1)] == [*"IGMGU"]
    assert rows(orders, "a") == [(1, "seen"), (2, "old")]
    # Another table of the name is another one.
    orders.execute(ORDERS)
    orders.audit("orders")
    orders.execute("insert into orders values (1, 'new')")
    assert told(history(orders.connection, "orders", 1)) == [("I", "orders", "1")]


@BOTH
@pytest.mark.parametrize("resumed", [True, False])
def test_a_table_that_was_renamed_while_it_was_paused(
    trail: Trail, audit: Audit, capture: Capture, resumed: bool
) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    trail.execute("insert into orders values (1, 'old'), (2, 'old')")
    audit("pause", "--table", "orders", "--reason", "import")
    trail.execute("alter table orders rename to a; update a set status = 'unseen' where id = 1")
    if resumed:
        audit("resume", "--table", "a", "--reason", "done")
    assert rows(trail, "a") == [(1, "old"), (2, "old")]
    assert row(trail, "a", "2") == (2, "old")
    shown = audit("table-at", "a", "--at", "now")
    assert sorted(shown.stdout.splitlines()) == ["1,old", "2,old", "id,status"]
    assert ("was off until" if resumed else "has been paused since") in shown.stderr


def test_pages_and_filters_go_over_the_names(orders: Trail) -> None:
    orders.execute("alter table orders rename to a; insert into a values (3, 'x')")
    by(orders, "ben", "update a set status = 'y'")
    newest = history(orders.connection, "a", limit=2)
    older = history(orders.connection, "a", limit=9, before=newest[0].event_id)
    assert told(older + newest) == told(history(orders.connection, "a"))
    assert len(history(orders.connection, "a", actor="ann")) == 2
    assert len(history(orders.connection, "a", from_key=1, to_key=2)) == 4
    assert len(history(orders.connection, "a", changed="status")) == 6
    after = older[0].event_id
    assert history(orders.connection, "a", after=after)[0].table_name == "orders"


@pytest.fixture
def reader(orders: Trail) -> Iterator[Any]:
    """A connection of a role that may read the events, and nothing else."""
    role = f"reader_{orders.database.name}"
    orders.execute(f"create role {role}; grant usage on schema audit to {role}")
    orders.execute(f"grant select on audit.logged_actions to {role}")
    with orders.database.connect() as connection:
        connection.execute(f"set role {role}")
        yield connection
    orders.execute(f"drop owned by {role}; drop role {role}")


def test_a_reader_needs_the_grants_only_where_a_table_was_renamed(
    orders: Trail, reader: Any
) -> None:
    assert len(history(reader, "orders", 1)) == 1
    orders.execute("alter table orders rename to a; insert into a values (3, 'x')")
    with pytest.raises(PermissionDeniedError, match="a table was renamed"):
        history(reader, "a", 1)


# Columns


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "not noted"])
@pytest.mark.parametrize("store", Store)
def test_a_renamed_column_is_one_column(trail: Trail, store: Store, noted: bool) -> None:
    trail.execute("create table orders (id int primary key, status text, note text)")
    trail.audit("orders", store=store)
    by(trail, "ann", "insert into orders values (1, 'new', 'a'), (2, 'new', 'a')")
    by(trail, "ben", "update orders set note = 'b' where id = 1")
    before = now(trail)
    trail.execute("alter table orders rename note to remark")
    if noted:
        trail.execute("select audit.note_changes()")
    by(trail, "cid", "update orders set status = 'paid' where id = 1")
    assert rows(trail, "orders") == [(1, "paid", "b"), (2, "new", "a")]
    assert rows(trail, "orders", before) == [(1, "new", "b"), (2, "new", "a")]
    assert row(trail, "orders", "1", before) == (1, "new", "b")
    assert authors(trail, "orders", 1) == {"id": "ann", "status": "cid", "remark": "ben"}
    [difference] = differences(trail, "orders", before)
    assert difference.changed == {"status": ("new", "paid")}
    assert [i["remark"] for i in versions(trail, "orders", "1")] == ["a", "b", "b"]
    assert [e.action.value for e in history(trail.connection, "orders", changed="remark")] == [
        "I",
        "I",
        "U",
    ]
    assert [set(e.changed) for e in history(trail.connection, "orders", 1)] == [
        {"id", "status", "remark"},
        {"remark"},
        {"status"},
    ]


@pytest.mark.parametrize("taken", ["", "alter table orders rename note to id"], ids=["", "taken"])
@pytest.mark.parametrize(
    "rule",
    [*({"store": store} for store in Store), {"capture": Capture.STATEMENT}, {"only": ("status",)}],
    ids=str,
)
def test_a_renamed_key_is_the_same_key(trail: Trail, rule: dict[str, Any], taken: str) -> None:
    trail.execute("create table orders (id int primary key, status text, note text)")
    trail.audit("orders", **rule)
    trail.execute("insert into orders values (1, 'new', 'a'), (2, 'new', 'b')")
    before = now(trail)
    trail.execute(f"alter table orders rename id to number; {taken}")
    trail.execute("update orders set status = 'paid' where number = 1")
    trail.execute(
        "update orders set number = 3 where number = 1; delete from orders where number = 2"
    )
    trail.execute("alter table orders rename number to nr; insert into orders values (4, 'new')")
    there = "select nr, status from audit.table_at(null::orders, %s) order by 1"
    for _ in range(2):
        assert trail.execute(there, [now(trail)]) == [(3, "paid"), (4, "new")]
        assert trail.execute(there, [before]) == [(1, "new"), (2, "new")]
        assert row(trail, "orders", "3")[:2] == (3, "paid")
        assert [event["row_key"] for event in trail.events() if event["action"] in "IUD"] == [
            "1", "2", "1", "3", "2", "4",
        ]  # fmt: skip
        trail.audit("orders", **rule)
        assert "G" not in {event["action"] for event in trail.events()}


def test_columns_that_got_each_others_names(trail: Trail) -> None:
    trail.execute("create table orders (id int primary key, a text, b text)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'first', 'second')")
    trail.execute(
        "alter table orders rename a to c; alter table orders rename b to a;"
        " alter table orders rename c to b; select audit.note_changes()"
    )
    trail.execute("insert into orders (id, b, a) values (2, 'first', 'second')")
    query = "select id, a, b from audit.table_at(null::orders, now()) order by id"
    assert trail.execute(query) == [(1, "second", "first"), (2, "second", "first")]


def test_a_column_that_was_renamed_more_than_once_and_with_its_table(trail: Trail) -> None:
    trail.execute("create table orders (id int primary key, a text)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'x')")
    moments = [now(trail)]
    for change in (
        "alter table orders rename a to b",
        "alter table orders rename to purchases",
        "alter table purchases rename b to c",
        "alter table purchases rename c to a",
        "alter table purchases rename a to d",
    ):
        trail.execute(change + "; select audit.note_changes()")
        table = "purchases" if "purchases" in change else "orders"
        if not change.endswith("purchases"):
            trail.execute(f"insert into {table} values ({len(moments) + 1}, 'x')")
        moments.append(now(trail))
    assert [value for _, value in rows(trail, "purchases")] == ["x"] * 5
    assert rows(trail, "purchases", moments[0]) == [(1, "x")]
    assert row(trail, "purchases", "1") == (1, "x")


def test_a_name_of_a_column_that_another_one_took(trail: Trail) -> None:
    trail.execute("create table orders (id int primary key, a text, b text)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'a', 'gone')")
    trail.execute("alter table orders drop b; select audit.note_changes()")
    trail.execute("alter table orders rename a to b; select audit.note_changes()")
    trail.execute("insert into orders values (2, 'b')")
    assert rows(trail, "orders") == [(1, "a"), (2, "b")]
    # The name is given again before anybody noted that the column left it.
    trail.execute("alter table orders rename b to c; alter table orders add b text")
    trail.execute("insert into orders values (3, 'c', 'b')")
    expected = [(1, "a", None), (2, "b", None), (3, "c", "b")]
    assert rows(trail, "orders") == expected
    trail.execute("select audit.note_changes()")
    assert rows(trail, "orders") == expected


REPLACED = {
    "at once": "alter table orders drop note; alter table orders add note int",
    "noted": "alter table orders drop note; {noted}; alter table orders add note int; {noted}",
    "renamed before": """
        alter table orders rename note to n; {noted}; alter table orders drop n, add n int; {noted};
        alter table orders rename n to note
    """,
    "renamed since": """
        alter table orders drop note, add note int; {noted}; alter table orders rename note to n; {noted};
        alter table orders rename n to note
    """,
}


@pytest.mark.parametrize("kind", REPLACED)
@pytest.mark.parametrize("store", [Store.ROWS, Store.DELTA])
def test_a_column_made_anew_has_nothing_of_the_dropped_one(
    trail: Trail, store: Store, kind: str
) -> None:
    trail.execute("create table orders (id int primary key, status text, note text)")
    trail.audit("orders", store=store)
    trail.execute("insert into orders values (1, 'new', '4711'), (2, 'new', 'x')")
    trail.execute("update orders set note = '12' where id = 1")
    before = now(trail)
    trail.execute(REPLACED[kind].format(noted="select audit.note_changes()"))
    assert rows(trail, "orders") == [(1, "new", None), (2, "new", None)]
    trail.execute("update orders set status = 'paid', note = 7 where id = 1")
    assert rows(trail, "orders") == [(1, "paid", 7), (2, "new", None)]
    assert rows(trail, "orders", before) == [(1, "new", None), (2, "new", None)]
    assert row(trail, "orders", "1", before) == (1, "new", None)
    # Nothing is lost of what was recorded, nor is it taken for the new column.
    first, *_, last = (event.new_row for event in history(trail.connection, "orders", 1))
    former = "n" if kind == "renamed before" else "note"
    assert first == {"id": 1, "status": "new", f"{former} (dropped)": "4711"}
    assert last is not None
    assert last["note"] == 7


@pytest.mark.parametrize("noted", ["", "; select audit.note_changes()"])
def test_a_column_that_took_the_name_of_a_dropped_one_and_left_its_own(
    trail: Trail, noted: str
) -> None:
    trail.execute("create table orders (id int primary key, a text, b text)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'gone', 'kept')")
    before = now(trail)
    trail.execute(
        "alter table orders drop a; alter table orders rename b to a; alter table orders add b int"
        + noted
    )
    query = "select id, a, b from audit.table_at(null::orders, %s)"
    for moment in (before, now(trail)):
        assert trail.execute(query, [moment]) == [(1, "kept", None)]
    trail.execute("update orders set b = 1")
    assert trail.execute(query, [now(trail)]) == [(1, "kept", 1)]
    assert trail.execute(query, [before]) == [(1, "kept", None)]


def test_undo_puts_nothing_of_a_dropped_column_into_the_one_that_has_its_name(
    orders: Trail,
) -> None:
    orders.execute("delete from orders where id = 2")
    orders.execute("alter table orders drop status; alter table orders add status text default 'x'")
    restore = ("restore", "orders", "2", "--event", "2", "--apply")
    refused = run(orders, *restore)
    assert 'the table no longer has a column "status (dropped)"' in refused.output
    assert "--ignore 'status (dropped)' puts back the rest" in refused.output
    assert run(orders, *restore, "--ignore", "status (dropped)").exit_code == 0
    assert orders.execute("select * from orders where id = 2") == [(2, "x")]


def test_undo_follows_what_reading_follows(orders: Trail) -> None:
    orders.execute("create table orders_new (like orders including all)")
    orders.audit("orders_new")
    [(transaction,)] = orders.execute(
        "begin; delete from orders where id = 1; select pg_current_xact_id()::text::bigint"
    )[-1:]
    orders.execute("commit")
    orders.execute(SWAP)
    orders.execute(
        "insert into orders values (1, 'new'); alter table orders_old rename status to s"
    )
    apply_revert(orders.connection, Selection(transaction=transaction), schema=SCHEMA)
    assert orders.execute("select * from orders_old order by id") == [(1, "old"), (2, "old")]
    assert orders.execute("select * from orders") == [(1, "new")]


@pytest.mark.parametrize("noted", [True, False])
def test_a_row_is_restored_to_an_event_of_before_a_rename(trail: Trail, noted: bool) -> None:
    trail.execute("create table things (id int primary key, v text, n int)")
    trail.audit("things")
    trail.execute("insert into things values (1, 'a', 1)")
    trail.execute("update things set v = 'b', n = 2")
    trail.execute("alter table things rename column v to w")
    trail.execute("alter table things rename to goods")
    if noted:
        trail.execute("select audit.note_changes()")
    trail.execute("update goods set w = 'c', n = 3")
    with trail.database.connect() as connection:
        for number, after in ((1, {"w": "a", "n": 1}), (2, {"w": "b", "n": 2})):
            plan = plan_restore(connection, "goods", "1", event=number)
            assert [change.after for change in plan.changes] == [after]
    trail.execute("delete from goods")
    with trail.database.connect() as connection:
        plan = plan_restore(connection, "goods", "1", event=2)
    assert [change.after for change in plan.changes] == [{"id": 1, "w": "b", "n": 2}]
