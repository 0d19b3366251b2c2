"""Triggers and events say what is captured, and not the registry alone: whoever removes its rows is found."""

from __future__ import annotations

import pytest

from audit_toolkit.capture.render import plan_uninstall
from audit_toolkit.catalog import read_installed
from audit_toolkit.cli.check import check_database
from audit_toolkit.connection import connect
from audit_toolkit.plan import apply
from tests.plugins.trail import Trail


@pytest.fixture
def orders(trail: Trail) -> Trail:
    """A table with events, whose capture the trail has noted."""
    trail.execute("create table orders (id int primary key, status text)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new')")
    trail.execute("select audit.note_coverage()")
    return trail


def found(trail: Trail) -> list[tuple[str, str]]:
    with connect(trail.database.dsn) as connection:
        return [(one.kind, one.subject) for one in check_database(connection, "audit")]


def test_a_row_of_the_registry_that_was_removed_is_found(orders: Trail) -> None:
    assert found(orders) == []
    orders.execute("delete from audit.captured_tables")
    assert found(orders) == [("capture_unregistered", "public.orders")]
    orders.audit("orders")
    assert found(orders) == []
    last = orders.events()[-1]
    assert last["action"] == "G"
    assert last["new_row"]["reason"].startswith("the registry of captured tables did not have it")


def test_capture_that_was_removed_with_its_row_is_found(orders: Trail) -> None:
    [(drop,)] = orders.execute(
        "select string_agg(format('drop trigger %I on orders', tgname), ';') "
        "from pg_trigger where tgrelid = 'orders'::regclass"
    )
    [(function,)] = orders.execute("select function_name from audit.captured_tables")
    orders.execute(f"{drop}; drop function audit.{function}; delete from audit.captured_tables")
    assert found(orders) == [("capture_unregistered", "public.orders")]


@pytest.mark.parametrize(
    "change",
    [
        "alter table orders rename to sales",
        "alter table orders rename to sales; select audit.note_changes()",
        "alter table orders rename to sales; update sales set status = 'x'; select audit.note_coverage()",
        "create schema other; alter table orders set schema other; select audit.note_changes()",
    ],
)
def test_a_renamed_table_is_no_alarm(orders: Trail, change: str) -> None:
    orders.execute(change)
    assert "capture_unregistered" not in {kind for kind, _ in found(orders)}


def test_a_table_that_is_not_audited_any_more_is_no_alarm(orders: Trail) -> None:
    orders.execute("alter table orders rename to sales; select audit.note_changes()")
    [installed] = read_installed(orders.connection, "audit")
    apply(plan_uninstall(installed.table, "audit", function=installed.function), orders.connection)
    assert found(orders) == []
    orders.execute("drop table sales")
    assert found(orders) == []


def test_an_end_that_left_with_its_partition_is_no_alarm(orders: Trail) -> None:
    """A hold keeps the partition that says that the table is captured, and retention drops the later one."""
    orders.execute("alter table audit.logged_actions disable trigger all")
    orders.execute(
        "update audit.logged_actions set action_tstamp = action_tstamp - interval '1 month'"
    )
    orders.execute('alter table audit.logged_actions enable always trigger "00_audit_append_only"')
    [installed] = read_installed(orders.connection, "audit")
    apply(plan_uninstall(installed.table, "audit", function=installed.function), orders.connection)
    [(leaf, name, low, high)] = orders.execute(
        "select leaf::text, relname, lower_bound, upper_bound from audit.leaves() as l "
        "join pg_class as c on c.oid = l.leaf "
        "where leaf = (select max(tableoid) from audit.logged_actions where action = 'G')"
    )
    orders.execute(f"""
        alter table audit.logged_actions detach partition {leaf};
        insert into audit.partition_lifecycle
            (leaf, leaf_name, lower_bound, upper_bound, state, detached_at)
        values ('{leaf}', '{name}', '{low}', '{high}', 'detached', now());
    """)
    assert "capture_unregistered" not in {kind for kind, _ in found(orders)}


def test_a_table_that_was_dropped_is_no_alarm(orders: Trail) -> None:
    orders.execute("drop table orders; select audit.note_changes()")
    assert {kind for kind, _ in found(orders)} == {"table_gone"}
