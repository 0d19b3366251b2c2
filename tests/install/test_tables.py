from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from audit_toolkit.capture import plan_uninstall, select_tables
from audit_toolkit.catalog import read_installed, read_relations
from audit_toolkit.config import Capture
from audit_toolkit.errors import (
    AuditError,
    PermissionDeniedError,
    UnknownTableError,
    UnsupportedTableError,
    UsageError,
)
from audit_toolkit.plan import apply
from tests.plugins.trail import SCHEMA, Trail

SHOP = """
    create table orders (id int primary key);
    create table "Orders 2" (id int primary key);
    create schema sales;
    create table sales.invoices (id int primary key);
    create view order_view as select * from orders;
    create materialized view order_copy as select * from orders;
    create temp table scratch (id int);
    create table parent (id int); create table child () inherits (parent);
    create table visits (at date) partition by range (at);
    create table visits_2026 partition of visits for values from ('2026-01-01') to ('2027-01-01');
    create table alembic_version (version_num text primary key);
"""


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute(SHOP)
    return trail


def chosen(trail: Trail, *names: str, **options: object) -> list[str]:
    relations = read_relations(trail.connection)
    found = select_tables(relations, names, trail_schema=SCHEMA, **options)  # type: ignore[arg-type]
    return [str(relation.name) for relation in found]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("orders", "public.orders"),
        ("ORDERS", "public.orders"),
        ("public.orders", "public.orders"),
        ('"Orders 2"', 'public."Orders 2"'),
        ("Orders 2", 'public."Orders 2"'),
        ("sales.invoices", "sales.invoices"),
        ("invoices", "sales.invoices"),
        ("visits", "public.visits"),
    ],
)
def test_names_are_found_as_people_type_them(shop: Trail, typed: str, meant: str) -> None:
    assert chosen(shop, typed) == [meant]


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("order", "public.orders"),
        ("sales.invoice", "sales.invoices"),
        ("ordres", "public.orders"),
        ("nothing_like_it_at_all", "the database has"),
    ],
)
def test_unknown_tables_get_the_nearest_names(shop: Trail, typed: str, hint: str) -> None:
    with pytest.raises(UnknownTableError) as caught:
        chosen(shop, typed)
    assert hint in str(caught.value.hint)
    assert caught.value.exit_code == 2


def test_a_name_in_several_schemas_has_to_be_told_apart(shop: Trail) -> None:
    shop.execute("create schema other; create table other.invoices (id int)")
    with pytest.raises(UnknownTableError, match="several schemas have a table") as caught:
        chosen(shop, "invoices")
    assert "other.invoices, sales.invoices" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("order_view", "it is a view"),
        ("order_copy", "materialized view"),
        ("scratch", "temporary table"),
        ("visits_2026", "partition of public.visits"),
        ("pg_class", "system catalogs"),
        ("audit.logged_actions", "the audit trail itself"),
        ("audit.logged_actions_tail", "the audit trail itself"),
    ],
)
def test_what_cannot_be_audited_says_why(shop: Trail, typed: str, reason: str) -> None:
    with pytest.raises(UnsupportedTableError, match=reason) as caught:
        chosen(shop, typed)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_a_foreign_table_cannot_be_audited(shop: Trail) -> None:
    shop.execute("""
        create foreign data wrapper nowhere; create server there foreign data wrapper nowhere;
        create foreign table far (id int) server there
    """)
    with pytest.raises(UnsupportedTableError, match="foreign table"):
        chosen(shop, "far")


def test_all_tables_of_a_schema(shop: Trail) -> None:
    assert chosen(shop, all_of_schema="public") == [
        'public."Orders 2"',
        "public.child",
        "public.orders",
        "public.parent",
        "public.visits",
    ]
    assert chosen(shop, all_of_schema="public", leave_out=["orders"]) == [
        'public."Orders 2"',
        "public.child",
        "public.parent",
        "public.visits",
    ]
    with pytest.raises(UnknownTableError):
        chosen(shop, all_of_schema="public", leave_out=["ordres"])
    with pytest.raises(UsageError, match="no table that can be audited"):
        chosen(shop, all_of_schema="nowhere")


@pytest.fixture
def guest(shop: Trail) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    shop.execute("create role shop_guest login")
    yield shop.database.connect(user="shop_guest")
    shop.execute("drop owned by shop_guest; drop role shop_guest")


def test_a_table_of_another_role(
    shop: Trail, guest: psycopg.Connection[tuple[object, ...]]
) -> None:
    relations = read_relations(guest)
    with pytest.raises(PermissionDeniedError, match="permission denied") as caught:
        select_tables(relations, ["orders"], trail_schema=SCHEMA)
    assert caught.value.exit_code == 1
    shop.execute("grant trigger on orders to shop_guest")
    with pytest.raises(PermissionDeniedError, match="belongs to another role"):
        select_tables(read_relations(guest), ["orders"], trail_schema=SCHEMA)


def test_what_is_installed_can_be_read_back(shop: Trail) -> None:
    shop.audit("orders", exclude=())
    shop.audit('"Orders 2"', capture=Capture.STATEMENT)
    first, second = sorted(read_installed(shop.connection, SCHEMA), key=lambda i: i.function)
    assert (second.function, str(second.table)) == ("capture_public__orders", "public.orders")
    assert second.options == {}
    assert second.trigger_names == ("00_audit_row", "00_audit_truncate")
    assert first.options == {"capture": "statement"}
    assert len(first.triggers) == 4


def test_changing_the_options_replaces_the_triggers(shop: Trail) -> None:
    shop.audit("orders")
    shop.audit("orders", capture=Capture.STATEMENT)
    shop.execute("insert into orders values (1)")
    shop.audit("orders", truncate="forbid")
    shop.execute("insert into orders values (2)")
    assert shop.story() == [("I", "1"), ("I", "2")]
    [installed] = read_installed(shop.connection, SCHEMA)
    assert installed.trigger_names == ("00_audit_row", "00_audit_truncate")


def test_release_takes_capture_off_and_keeps_the_events(shop: Trail) -> None:
    shop.audit("orders")
    shop.execute("insert into orders values (1)")
    [installed] = read_installed(shop.connection, SCHEMA)
    apply(plan_uninstall(installed.table, SCHEMA), shop.connection)
    shop.execute("insert into orders values (2)")
    assert shop.story() == [("I", "1"), ("G", None)]
    assert read_installed(shop.connection, SCHEMA) == []


def test_errors_have_a_remedy(shop: Trail) -> None:
    for typed in ("order_view", "nothing", "audit.logged_actions"):
        with pytest.raises(AuditError) as caught:
            chosen(shop, typed)
        assert caught.value.hint
