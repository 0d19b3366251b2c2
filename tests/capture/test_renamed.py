"""Which table is it: renamed and exchanged tables, detached partitions, partitions made by their owner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from audit_toolkit.capture.drift import audited_tables
from audit_toolkit.catalog.trail import read_trail_objects
from audit_toolkit.completeness import reconcile
from audit_toolkit.completeness.reconcile import one_snapshot
from audit_toolkit.config import Capture, Store, Truncate
from audit_toolkit.drift import find_drift
from audit_toolkit.names import QualifiedName
from audit_toolkit.schema.captured_tables import note_changes
from audit_toolkit.trail import history
from tests.plugins.trail import SCHEMA, Trail

ORDERS = "create table orders (id int primary key, status text)"
BOTH = pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
RENAMES = {
    "rename": ("alter table orders rename to purchases", "public.purchases"),
    "set schema": ("create schema sales; alter table orders set schema sales", "sales.orders"),
    "schema": ("alter schema public rename to shop; create schema public", "shop.orders"),
    "case": ('alter table orders rename to "Orders"', 'public."Orders"'),
}


def named(trail: Trail) -> list[tuple[Any, ...]]:
    """Every event as (action, schema, table, key)."""
    return trail.execute(
        "select action, schema_name, table_name, row_key from audit.logged_actions order by event_id"
    )


def changes(trail: Trail) -> list[tuple[str, dict[str, Any]]]:
    """What the trail says of DDL, each with the table that it is about; without OIDs."""
    rows = trail.execute(
        "select schema_name || '.' || table_name, new_row from audit.logged_actions"
        " where action = 'M' order by event_id"
    )
    for _, said in rows:
        said.pop("relation", None)
    return [(table, said) for table, said in rows]


def findings(trail: Trail) -> list[str]:
    """What `audit check` finds, as kinds."""
    objects = read_trail_objects(trail.connection, SCHEMA)
    tables = {name: trail.table(name.plain) for name in audited_tables(objects)}
    return [finding.kind for finding in find_drift(objects, tables)]


@BOTH
@pytest.mark.parametrize("kind", RENAMES)
def test_a_renamed_table_is_recorded_under_its_new_name(
    trail: Trail, capture: Capture, kind: str
) -> None:
    statement, new_name = RENAMES[kind]
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    other = trail.database.connect()
    other.execute("insert into orders values (1, 'new')")
    trail.execute(statement)
    other.execute(f"insert into {new_name} values (2, 'new'), (3, 'new')")
    trail.execute(f"update {new_name} set status = 'paid' where id = 2; truncate {new_name}")
    schema, table = new_name.replace('"', "").split(".")
    assert named(trail) == [
        ("I", "public", "orders", "1"),
        ("M", schema, table, None),
        ("I", schema, table, "2"),
        ("I", schema, table, "3"),
        ("U", schema, table, "2"),
        ("T", schema, table, None),
    ]
    assert changes(trail) == [
        (
            f"{schema}.{table}",
            {"change": "renamed", "from": ["public", "orders"], "to": [schema, table]},
        )
    ]
    assert findings(trail) == ["table_renamed"]


@pytest.mark.parametrize("rule", [{}, {"when": "status <> 'draft'"}, {"store": "delta"}])
def test_what_is_slower_after_a_rename_is_said(trail: Trail, rule: dict[str, Any]) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", **rule)
    trail.execute("alter table orders rename to purchases")
    objects = read_trail_objects(trail.connection, SCHEMA)
    tables = {name: trail.table(name.plain) for name in audited_tables(objects)}
    [finding] = find_drift(objects, tables)
    assert finding.kind == "table_renamed"
    assert ("writes are slower until it is reinstalled" in finding.message) == bool(rule)


@BOTH
def test_tables_that_change_places_are_not_taken_for_each_other(
    trail: Trail, capture: Capture
) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    trail.execute("insert into orders values (1, 'old')")
    trail.execute("create table orders_new (like orders including all)")
    trail.audit("orders_new", capture=capture)
    trail.execute("insert into orders_new values (7, 'copy')")
    trail.execute(
        "begin; alter table orders rename to orders_old; alter table orders_new rename to orders; commit"
    )
    trail.execute("insert into orders_old values (2, 'old')")
    trail.execute("insert into orders values (8, 'new')")
    trail.execute("truncate orders_old")
    assert [event for event in named(trail) if event[0] != "M"] == [
        ("I", "public", "orders", "1"),
        ("I", "public", "orders_new", "7"),
        ("I", "public", "orders_old", "2"),
        ("I", "public", "orders", "8"),
        ("T", "public", "orders_old", None),
    ]
    assert [(table, said["from"][1]) for table, said in changes(trail)] == [
        ("public.orders_old", "orders"),
        ("public.orders", "orders_new"),
    ]


@BOTH
@pytest.mark.parametrize("by_another_session", [False, True])
def test_tables_that_change_places_and_back_are_not_taken_for_each_other(
    trail: Trail, capture: Capture, by_another_session: bool
) -> None:
    for name in ("one", "two"):
        trail.execute(f"create table {name} (id int primary key, v text)")
        trail.audit(name, capture=capture)
        trail.execute(f"insert into {name} values (1, '{name}')")
    writer = trail.database.connect() if by_another_session else trail.connection
    swap = "alter table one rename to x; alter table two rename to one; alter table x rename to two"
    for turn in range(4):
        trail.execute(swap)
        for name in ("one", "two"):
            writer.execute(f"update {name} set v = v || '{turn}'")
    tables = [trail.table(name).name for name in ("one", "two")]
    with trail.database.connect() as reader, one_snapshot(reader):
        assert [done.findings for done in reconcile(reader, tables, SCHEMA)] == [(), ()]
    for name in ("one", "two"):
        images = [event.new_row for event in history(trail.connection, name, 1) if event.new_row]
        assert [image["v"] for image in images if "v" in image] == [
            name + "0123"[:length] for length in range(5)
        ]


@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
def test_a_trigger_that_was_renamed_is_ours_and_goes_on(trail: Trail, capture: Capture) -> None:
    name = "00_audit_row" if capture is Capture.ROW else "00_audit_insert"
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    trail.execute(f'alter trigger "{name}" on orders rename to mine')
    assert findings(trail) == ["trigger_changed"]
    trail.audit("orders", capture=capture)
    trail.execute("insert into orders values (1, 'new')")
    assert findings(trail) == []
    assert [event for event in named(trail) if event[0] == "I"] == [("I", "public", "orders", "1")]


def test_a_hidden_column_is_followed_after_it_was_made_anew(trail: Trail) -> None:
    trail.execute("create table people (id int primary key, secret text)")
    trail.audit("people", exclude=("secret",))
    trail.execute("insert into people values (1, 'xyz')")
    trail.execute("alter table people drop secret, add secret text default 'xyz'")
    trail.execute("insert into people values (2)")
    trail.execute("alter table people rename secret to remark")
    trail.execute("insert into people values (3)")
    assert findings(trail) == ["hidden_column_gone"]
    objects = read_trail_objects(trail.connection, SCHEMA)
    [found] = find_drift(objects, {trail.table("people").name: trail.table("people")})
    assert found.remedy == "audit install --table public.people --exclude remark --upgrade"
    assert not trail.execute("select from audit.logged_actions as e where e::text like '%xyz%'")


def test_a_table_that_was_replaced_and_dropped_leaves_a_clean_check(trail: Trail) -> None:
    trail.execute(ORDERS + "; create table orders_new (like orders including all)")
    for name in ("orders", "orders_new"):
        trail.audit(name)
    trail.execute(
        "alter table orders rename to orders_old; alter table orders_new rename to orders; drop table orders_old"
    )
    assert findings(trail) == ["table_gone", "table_renamed"]
    trail.execute("drop function audit.capture_public__orders()")
    trail.audit("orders")
    assert findings(trail) == []


SWAP = "begin; alter table t rename a to x; alter table t rename b to a; alter table t rename x to b; commit"
LOST = {
    "noted": "update t set a = a",
    "rolled back": "begin; update t set a = 'x'; rollback",
    "to a savepoint": "begin; savepoint s; update t set a = 'x'; rollback to s; update t set a = a || '-'; commit",
    "under repeatable read": "begin isolation level repeatable read; update t set a = a; commit",
}


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize(
    "rule",
    [{}, {"capture": Capture.STATEMENT}, {"store": Store.DELTA}],
    ids=["row", "statement", "delta"],
)
def test_columns_that_change_places_are_noted_though_the_first_write_is_rolled_back(
    trail: Trail, rule: dict[str, Any], how: str
) -> None:
    trail.execute("create table t (id int primary key, a text, b text)")
    trail.audit("t", **rule)
    trail.execute("insert into t values (1, 'a', 'b')")
    trail.execute("update t set a = 'a2'")
    trail.execute(SWAP)
    trail.execute(LOST[how])
    for step in "34":
        trail.execute(f"update t set a = a || '{step}'")
    [live] = trail.execute("select a, b from t")
    last = history(trail.connection, "t", 1)[-1].new_row
    assert last is not None
    assert (last["a"], last["b"]) == live
    assert len(changes(trail)) == 1


def test_columns_that_change_places_are_noted_though_another_session_was_noting_them(
    trail: Trail,
) -> None:
    trail.execute("create table t (id int primary key, a text, b text)")
    trail.audit("t")
    trail.execute("insert into t values (1, 'a', 'b'), (2, 'a', 'b')")
    trail.execute(SWAP)
    with trail.database.connect(autocommit=False) as first:
        first.execute("update t set a = 'x' where id = 2")
        trail.execute("update t set a = 'y' where id = 1")
        first.rollback()
    assert changes(trail) == []
    trail.execute("update t set a = 'z' where id = 2")
    assert [said["renamed"] for _, said in changes(trail)] == [{"a": "b", "b": "a"}]


REPEATABLE = "begin isolation level repeatable read;"


@pytest.mark.parametrize(
    "rule",
    [{}, {"capture": Capture.STATEMENT}, {"store": Store.DELTA}],
    ids=["row", "statement", "delta"],
)
def test_columns_that_change_places_are_noted_under_repeatable_read(
    trail: Trail, rule: dict[str, Any]
) -> None:
    trail.execute("create table t (id int primary key, a text, b text)")
    trail.audit("t", **rule)
    trail.execute("insert into t values (1, 'a', 'b')")
    trail.execute(SWAP)
    trail.execute(f"{REPEATABLE} update t set a = 'lost'; rollback")
    trail.execute(f"{REPEATABLE} savepoint s; update t set a = 'lost'; rollback to s; commit")
    trail.execute(f"{REPEATABLE} savepoint s; update t set a = a || '2'; release s; commit")
    trail.execute(f"{REPEATABLE} update t set a = a || '3'; commit")
    for statement in ("select audit.note_changes()", "update t set a = a || '4'"):
        now = trail.execute("select * from audit.table_at(null::t, clock_timestamp())")
        assert now == trail.execute("select * from t")
        trail.execute(statement)
    assert len(changes(trail)) == 1


def test_of_transactions_with_a_snapshot_one_notes_and_none_fails(trail: Trail) -> None:
    trail.execute("create table t (id int primary key, a text, b text)")
    trail.audit("t")
    trail.execute("insert into t values (1, 'a', 'b'), (2, 'a', 'b'), (3, 'a', 'b')")
    trail.execute(SWAP)
    writers = [trail.database.connect() for _ in range(3)]
    for writer in writers:
        writer.execute(f"{REPEATABLE} select txid_current()")
    writers[0].execute("update t set a = a || '0' where id = 1")
    writers[1].execute("update t set a = a || '1' where id = 2")  # waits for nobody
    writers[0].execute("commit")
    writers[1].execute("update t set a = a || '2' where id = 2; commit")
    writers[2].execute("update t set a = a || '3' where id = 3; commit")  # the registry is another
    assert len(changes(trail)) == 1
    now = trail.execute("select * from audit.table_at(null::t, clock_timestamp()) order by 1")
    assert now == trail.execute("select * from t order by 1")


@pytest.mark.parametrize("setting", ["noted", "noted_again"])
def test_no_setting_hides_a_rename(trail: Trail, setting: str) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new')")
    trail.execute("alter table orders rename to purchases")
    trail.execute(f"""
        begin isolation level repeatable read;
        set local "audit.{setting}" = '{{public,purchases}}';
        update purchases set status = 'hidden';
        commit
    """)
    trail.execute("update purchases set status = 'open'")
    images = [event.new_row for event in history(trail.connection, "purchases", 1)]
    assert [image["status"] for image in images if image and "status" in image] == [
        "new",
        "hidden",
        "open",
    ]


@BOTH
@pytest.mark.parametrize("by_another_session", [False, True])
def test_a_column_that_gets_its_name_back_is_followed(
    trail: Trail, capture: Capture, by_another_session: bool
) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    trail.execute("insert into orders values (1, 'new')")
    writer = trail.database.connect() if by_another_session else trail.connection
    for name, former, value in (("state", "status", "paid"), ("status", "state", "sent")):
        trail.execute(f"alter table orders rename {former} to {name}")
        for step in "ab":
            writer.execute(f"update orders set {name} = '{value}-{step}'")
    assert [event.new_row for event in history(trail.connection, "orders", 1)] == [
        {"id": 1, "status": status} for status in ("new", "paid-a", "paid-b", "sent-a", "sent-b")
    ]
    assert [said["renamed"] for _, said in changes(trail)] == [
        {"status": "state"},
        {"state": "status"},
    ]


@pytest.mark.parametrize("kind", ["rename", "set schema"])
def test_a_table_that_gets_its_name_back_is_followed(trail: Trail, kind: str) -> None:
    trail.execute(
        "create table orders (id int primary key, status text) partition by range (id);"
        "create table orders_1 partition of orders for values from (0) to (9)"
    )
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'a')")
    there, back = {
        "rename": ("alter table orders rename to sold", "alter table sold rename to orders"),
        "set schema": (
            "create schema sales; alter table orders set schema sales",
            "alter table sales.orders set schema public",
        ),
    }[kind]
    trail.execute(there)
    trail.execute(f"update {'sold' if kind == 'rename' else 'sales.orders'} set status = 'b'")
    trail.execute(back)
    trail.execute("update orders set status = 'c'")
    told = [said["change"] for _, said in changes(trail)]
    assert told == ["renamed", "renamed"]
    assert [e.new_row for e in history(trail.connection, "orders", 1)][-1] == {
        "id": 1,
        "status": "c",
    }
    assert len([e for e in history(trail.connection, "orders", 1) if e.action in "IU"]) == 3


def test_a_rename_is_said_once_and_not_when_it_was_rolled_back(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new')")
    trail.execute(
        "begin; alter table orders rename to lost; insert into lost values (2, 'x'); rollback"
    )
    trail.execute("insert into orders values (2, 'new')")
    trail.execute("alter table orders rename to a")
    first, second = (trail.database.connect(autocommit=False) for _ in range(2))
    first.execute("insert into a values (3, 'x')")
    second.execute("insert into a values (4, 'x')")  # waits for nobody
    second.commit()
    first.rollback()
    trail.execute("insert into a values (5, 'x')")
    trail.execute("insert into a values (6, 'x')")
    assert named(trail) == [
        ("I", "public", "orders", "1"),
        ("I", "public", "orders", "2"),
        ("M", "public", "a", None),  # what `first` noted may be rolled back, and was
        ("I", "public", "a", "4"),
        ("M", "public", "a", None),
        ("I", "public", "a", "5"),
        ("I", "public", "a", "6"),
    ]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_rename_never_fails_a_transaction_with_a_snapshot(trail: Trail, isolation: str) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new')")
    writer = trail.database.connect()
    writer.execute(f"begin isolation level {isolation}; select 1 from orders limit 0")
    writer.execute("commit")
    trail.execute("alter table orders rename to a")
    writer.execute(f"begin isolation level {isolation}; select txid_current()")
    trail.execute("insert into a values (2, 'x')")
    writer.execute("insert into a values (3, 'x')")
    writer.execute("insert into a values (4, 'x')")
    writer.execute("commit")
    assert {(table, key) for action, _, table, key in named(trail) if action == "I"} == {
        ("orders", "1"),
        ("a", "2"),
        ("a", "3"),
        ("a", "4"),
    }
    assert {said["from"][1] for _, said in changes(trail)} == {"orders"}


def test_a_renamed_table_whose_function_or_key_was_changed_is_found(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("alter table orders rename to purchases")
    assert findings(trail) == ["table_renamed"]
    trail.execute("""
        create or replace function audit.capture_public__orders() returns trigger language plpgsql
        security definer set search_path = pg_catalog, pg_temp as 'begin return null; end'
    """)
    assert findings(trail) == ["function_changed", "table_renamed"]
    trail.execute("alter table purchases drop constraint orders_pkey, add primary key (id, status)")
    assert findings(trail) == ["key_changed", "table_renamed"]
    trail.audit("purchases")
    assert findings(trail) == []


def test_installing_a_renamed_table_again_keeps_its_function(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new'); alter table orders rename to purchases")
    former = trail.installed("purchases")
    assert former is not None
    assert (former.function, former.table.name, former.made_for.name) == (
        "capture_public__orders",
        "purchases",
        "orders",
    )
    trail.audit("purchases")
    trail.execute("insert into purchases values (2, 'new')")
    assert findings(trail) == []
    assert [event[:1] + event[2:] for event in named(trail)] == [
        ("I", "orders", "1"),
        ("M", "purchases", None),
        ("I", "purchases", "2"),
    ]
    assert trail.execute("select proname from pg_proc where proname like 'capture\\_p%'") == [
        ("capture_public__orders",)
    ]
    assert (renewed := trail.installed("purchases")) is not None
    assert renewed.made_for.name == "purchases"


def test_renamed_columns_types_and_partitions_are_noted(trail: Trail) -> None:
    trail.execute("create table visits (at int, page text) partition by range (at)")
    trail.execute("create table v1 partition of visits for values from (0) to (10)")
    trail.audit("visits")
    trail.execute("insert into visits values (1, '/')")
    trail.execute(
        "alter table visits rename page to path; alter table visits add n int;"
        " alter table visits alter n type bigint;"
        " create table v2 partition of visits for values from (10) to (20);"
        " alter table visits detach partition v1"
    )
    assert note_changes(trail.connection, SCHEMA) == 2
    assert note_changes(trail.connection, SCHEMA) == 0
    trail.execute("alter table visits drop n")
    trail.execute("alter table visits alter path type varchar")
    assert trail.execute("select audit.note_changes()") == [(1,)]
    trail.execute("drop table visits")
    assert trail.execute("select audit.note_changes()") == [(1,)]
    assert [said for _, said in changes(trail)] == [
        {"change": "columns", "renamed": {"page": "path"}, "added": {"n": "bigint"}},
        {"change": "partitions", "attached": ["public.v2"], "detached": ["public.v1"]},
        {
            "change": "columns",
            "dropped": {"n": "bigint"},
            "retyped": {"path": ["text", "character varying"]},
        },
        {"change": "dropped"},
    ]


def test_a_partitioned_table_is_recorded_under_its_new_name(trail: Trail) -> None:
    trail.execute("create table visits (at int, page text) partition by range (at)")
    trail.execute("create table v1 partition of visits for values from (0) to (10)")
    trail.audit("visits", truncate=Truncate.ROWS)
    trail.execute("insert into visits values (1, '/')")
    trail.execute("alter table visits rename to hits")
    trail.execute("insert into hits values (2, '/')")
    trail.execute("truncate v1")
    assert [event[:1] + event[2:3] for event in named(trail)] == [
        ("I", "visits"),
        ("M", "hits"),
        ("I", "hits"),
        ("D", "hits"),
        ("D", "hits"),
    ]


def test_a_detached_partition_forges_nothing(trail: Trail) -> None:
    trail.execute("create table visits (id int primary key, page text) partition by range (id)")
    trail.execute("create table v1 partition of visits for values from (0) to (10)")
    trail.execute("create table others (like visits) partition by range (id)")
    for table in ("visits", "others"):
        trail.audit(table)
    trail.execute("insert into visits values (1, '/'), (2, '/')")
    trail.execute("alter table visits detach partition v1")
    trail.execute("create table v2 partition of visits for values from (0) to (10)")
    trail.execute("insert into visits select * from v1")
    before = named(trail)
    trail.execute("truncate v1")
    assert named(trail) == before
    trail.execute("insert into v1 values (3, '/')")
    trail.execute("alter table others attach partition v1 for values from (0) to (10)")
    trail.execute("truncate v1")
    assert [event for event in named(trail) if event[2] == "visits"] == before
    assert trail.execute("select id from audit.table_at(null::visits, now()) order by id") == [
        (1,),
        (2,),
    ]


def test_a_table_audited_by_itself_can_become_a_partition(trail: Trail) -> None:
    trail.execute("create table visits (id int primary key, page text) partition by range (id)")
    trail.execute("create table v1 (like visits including all)")
    trail.audit("v1")
    trail.audit("visits")
    trail.execute("insert into v1 values (1, '/')")
    other = trail.database.connect()
    other.execute("insert into v1 values (2, '/')")
    trail.execute("alter table visits attach partition v1 for values from (0) to (10)")
    other.execute("insert into visits values (3, '/')")
    other.execute("update v1 set page = '/a' where id = 3")
    trail.execute("alter table visits detach partition v1")
    other.execute("insert into v1 values (4, '/')")
    assert [event[:1] + event[2:] for event in named(trail) if event[0] in "IU"] == [
        ("I", "v1", "1"),
        ("I", "v1", "2"),
        ("I", "visits", "3"),
        ("U", "visits", "3"),
        ("I", "v1", "4"),
    ]


@dataclass(frozen=True, slots=True)
class Owner:
    """A role that owns a schema of its own, and a connection as that role."""

    name: str
    connection: psycopg.Connection[Any]


@pytest.fixture
def owner(trail: Trail) -> Iterator[Owner]:
    name = f"owner_{trail.database.name}"
    trail.execute(f"create role {name} login; create schema own authorization {name}")
    connection = trail.database.connect()
    connection.execute(f"set role {name}")
    yield Owner(name, connection)
    connection.close()
    trail.execute(f"drop owned by {name} cascade; drop role {name}")


def test_who_owns_a_partitioned_table_goes_on_making_partitions(trail: Trail, owner: Owner) -> None:
    run = owner.connection.execute
    run("create table own.visits (id int primary key, page text) partition by range (id)")
    trail.audit("own.visits")
    run("create table own.v1 partition of own.visits for values from (0) to (10)")
    run("create table own.v2 (like own.visits)")
    run("alter table own.visits attach partition own.v2 for values from (10) to (20)")
    run("insert into own.visits values (1, '/'), (11, '/')")
    assert trail.story() == [("I", "1"), ("I", "11")]

    # The right to execute the function is worth nothing for any other table.
    trail.execute(f"grant usage on schema audit to {owner.name}")
    run("create table own.forged (id int primary key, page text)")
    for level in ("row", "statement"):
        run(
            f"create trigger forge_{level} after insert on own.forged"
            f" for each {level} execute function audit.capture_own__visits()"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="does not capture"):
            run("insert into own.forged values (2, '/')")
        run(f"drop trigger forge_{level} on own.forged")
    assert len(trail.story()) == 2


def test_a_function_refuses_a_table_that_took_the_name_of_its_own(
    trail: Trail, owner: Owner
) -> None:
    run = owner.connection.execute
    run("create table own.orders (id int primary key, page text) partition by range (id)")
    trail.audit("own.orders")
    run("create table own.o1 partition of own.orders for values from (0) to (10)")
    run("insert into own.orders values (1, '/')")
    run("alter table own.orders rename to orders_old")
    trail.execute(f"grant usage on schema audit to {owner.name}")
    run("create table own.orders (id int primary key, page text)")
    run(
        "create trigger forge after insert on own.orders"
        " for each row execute function audit.capture_own__orders()"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="does not capture"):
        run("insert into own.orders values (2, '/')")
    run("insert into own.orders_old values (3, '/')")
    assert [event[2:] for event in named(trail) if event[0] == "I"] == [
        ("orders", "1"),
        ("orders_old", "3"),
    ]
    assert [said["change"] for _, said in changes(trail)] == ["renamed", "partitions"]


def test_what_a_role_may_not_say(trail: Trail, owner: Owner) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute(f"grant usage on schema audit to {owner.name}")
    trail.execute(f"grant execute on all functions in schema audit to {owner.name}")
    for statement in (
        "select audit.begin_capture('orders', 'capture_public__orders')",
        "select audit.note_capture('orders', 'capture_public__orders')",
        "select audit.end_capture('capture_public__orders')",
        "select audit.record_gap('orders', 'paused', 'because')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            owner.connection.execute(statement)
    assert trail.story() == []


def test_the_registry_names_each_table(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    rows = trail.execute(
        "select function_name, relation_id::regclass::text, schema_name, table_name, columns,"
        " partitions, array(select jsonb_object_keys(triggers) order by 1) from audit.captured_tables"
    )
    columns = {"1": {"name": "id", "type": "integer"}, "2": {"name": "status", "type": "text"}}
    assert rows == [
        (
            "capture_public__orders",
            "orders",
            "public",
            "orders",
            columns,
            {},
            ["00_audit_row", "00_audit_truncate"],
        )
    ]
    assert QualifiedName("public", "orders") in audited_tables(
        read_trail_objects(trail.connection, SCHEMA)
    )
