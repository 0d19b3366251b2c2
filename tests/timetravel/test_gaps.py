"""Every verb of reading says where capture was off, whatever switched it off."""

from __future__ import annotations

import pytest

from tests.plugins.trail import Trail
from tests.timetravel.words import Audit

ORDERS = "create table orders (id int primary key, status text)"
INSTALL = "(install)"
RELEASE = "(release)"
REPLACED = """
    create or replace function audit.capture_public__orders() returns trigger language plpgsql
    security definer set search_path = pg_catalog, pg_temp as 'begin return null; end'
"""

GAPS = {
    "taken off": [RELEASE, "update orders set status = 'unseen'"],
    "taken off and installed again": [RELEASE, "update orders set status = 'unseen'", INSTALL],
    "disabled by hand": [
        'alter table orders disable trigger "00_audit_row"',
        "update orders set status = 'unseen'",
    ],
    "disabled and enabled by hand": [
        'alter table orders disable trigger "00_audit_row"',
        "update orders set status = 'unseen'",
        'alter table orders enable always trigger "00_audit_row"',
    ],
    "disabled, and installed again": [
        "alter table orders disable trigger all",
        "update orders set status = 'unseen'",
        INSTALL,
    ],
    "dropped and made anew": [
        "drop table orders",
        ORDERS,
        "insert into orders values (1, 'unseen')",
    ],
    "dropped, made anew and installed": [
        "drop table orders",
        ORDERS,
        "insert into orders values (1, 'unseen')",
        INSTALL,
    ],
    "restored without triggers": [
        'drop trigger "00_audit_row" on orders',
        'drop trigger "00_audit_truncate" on orders',
        "delete from audit.captured_tables",
        "update orders set status = 'unseen'",
    ],
    "function replaced": [REPLACED, "update orders set status = 'unseen'"],
    "function replaced, and installed again": [
        REPLACED,
        "update orders set status = 'unseen'",
        INSTALL,
    ],
    "paused": [
        "select audit.record_gap('orders', 'paused', 'an import')",
    ],
    "taken off, and installed under another name": [
        RELEASE,
        "alter table orders rename to o",
        "alter table o rename to orders",
        "update orders set status = 'unseen'",
        INSTALL,
    ],
    "under a former name": [
        "alter table orders rename to o",
        RELEASE.replace(")", " o)"),
        "update o set status = 'unseen'",
        "alter table o rename to orders",
        INSTALL,
    ],
}
VERBS = {
    "history": ("history", "orders", "1"),
    "blame": ("blame", "orders", "1"),
    "row-at": ("row-at", "orders", "1", "--at", "now"),
    "table-at": ("table-at", "orders", "--at", "now"),
    "restore": ("restore", "orders", "1", "--at", "now"),
    "diff": ("diff", "orders", "--from", "2020-01-01"),
}


@pytest.mark.parametrize("kind", GAPS)
def test_what_was_not_captured_is_told(trail: Trail, audit: Audit, kind: str) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new'), (2, 'new')")
    for step in GAPS[kind]:
        if step == INSTALL:
            trail.audit("orders")
        elif step.startswith(RELEASE[:-1]):
            trail.release("o" if step.endswith(" o)") else "orders")
        else:
            trail.execute(step)
    silent = []
    for name, command in VERBS.items():
        result = audit(*command)
        told = result.stderr if name != "history" else result.stdout + result.stderr
        if "capture" not in told:
            silent.append(name)
    assert silent == []


def test_a_gap_of_a_table_of_children_is_told_once(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.execute("""
        create table lines (id int primary key, order_id int references orders);
        create table notes (id int primary key, line_id int references lines)
    """)
    for table in ("orders", "lines", "notes"):
        trail.audit(table)
    trail.execute(
        "insert into orders values (1, 'new'); insert into lines values (1, 1), (2, 1), (3, 1)"
    )
    trail.release("notes")
    trail.audit("notes")
    trail.execute("insert into notes values (1, 1)")
    trail.release("notes")
    trail.audit("notes")
    told = audit("restore", "orders", "1", "--at", "now", "--with-children").stderr
    assert [line.count("public.notes") for line in told.splitlines()].count(1) == 1, told


def test_nothing_is_told_where_nothing_was_missed(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new')")
    trail.audit("orders", exclude=("status",))
    trail.execute("alter table orders rename to o; insert into o values (2, 'new')")
    for command in VERBS.values():
        assert "capture" not in audit(*command).stderr
