"""Which table is meant, and what is said where there is no history to show."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest

from audit_toolkit.errors import (
    PermissionDeniedError,
    UnknownTableError,
    UnsupportedTableError,
    UsageError,
)
from audit_toolkit.trail import Action, find_subject, history
from tests.plugins.database import Database
from tests.plugins.trail import Trail


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute("create table orders (id int primary key, v int)")
    trail.audit("orders")
    return trail


def test_any_spelling_of_the_name(orders: Trail) -> None:
    orders.execute("insert into orders values (1)")
    for name in ("orders", "Orders", "public.orders", '"public"."orders"'):
        assert len(history(orders.connection, name)) == 1


def test_an_unknown_table(orders: Trail) -> None:
    with pytest.raises(UnknownTableError, match="table 'order' does not exist") as caught:
        history(orders.connection, "order")
    assert caught.value.hint == "did you mean public.orders?"


def test_a_table_that_was_dropped(orders: Trail) -> None:
    orders.execute("insert into orders values (1), (2)")
    orders.execute("drop table orders; create schema shop; create table shop.unrelated ()")
    for name in ("orders", "public.orders", "ORDERS"):
        assert len(history(orders.connection, name)) == 2
        assert len(history(orders.connection, name, 2)) == 1
    with pytest.raises(UnknownTableError) as caught:
        history(orders.connection, "ordres")
    assert caught.value.hint == "did you mean public.orders?"


def test_a_dropped_table_of_two_schemas(orders: Trail) -> None:
    orders.execute("create schema shop; create schema old")
    for schema in ("shop", "old"):
        orders.execute(f"create table {schema}.t (id int primary key)")
        orders.audit(f"{schema}.t")
        orders.execute(f"insert into {schema}.t values (1); drop table {schema}.t")
        orders.execute("select audit.note_changes()")
    with pytest.raises(UnknownTableError, match="several schemas have a table 't'") as caught:
        history(orders.connection, "t")
    assert caught.value.hint == "name one of old.t, shop.t"
    assert [e.action for e in history(orders.connection, "shop.t")] == [Action.INSERT, Action.DDL]


def test_a_table_that_is_there_comes_before_one_that_was_dropped(orders: Trail) -> None:
    orders.execute("insert into orders values (1); drop table orders")
    orders.execute("create table orders (id int primary key)")
    assert len(history(orders.connection, "orders")) == 1


def test_a_partition_stands_for_its_root(trail: Trail) -> None:
    trail.execute("create table orders (id int primary key) partition by range (id)")
    trail.execute("create table orders_1 partition of orders for values from (0) to (10)")
    trail.audit("orders")
    trail.execute("insert into orders values (1)")
    for name in ("orders", "orders_1"):
        assert len(history(trail.connection, name, 1)) == 1


def test_a_table_without_events_is_empty(orders: Trail) -> None:
    assert history(orders.connection, "orders") == []
    assert not find_subject(orders.connection, "orders").known


def test_a_table_that_is_not_audited(orders: Trail) -> None:
    orders.execute("create table notes (id int primary key)")
    for key in (None, 1):
        with pytest.raises(UsageError, match="notes is not audited") as caught:
            history(orders.connection, "notes", key)
        assert caught.value.hint == "audit install --table public.notes starts its history"


def test_a_table_that_is_audited_no_longer_keeps_its_history(orders: Trail) -> None:
    orders.execute("insert into orders values (1)")
    orders.execute("drop function audit.capture_public__orders() cascade")
    assert len(history(orders.connection, "orders")) == 1
    assert history(orders.connection, "orders", 2) == []


@pytest.mark.parametrize("key", [None, 1])
def test_what_cannot_be_audited(orders: Trail, key: int | None) -> None:
    orders.execute("create view paid as select * from orders")
    for name, reason in (("paid", "it is a view"), ("pg_class", "system catalogs")):
        with pytest.raises((UnsupportedTableError, UsageError)) as caught:
            history(orders.connection, name, key)
        assert (
            reason in caught.value.message
            or "cannot be a key" in caught.value.message
            or "no primary key" in caught.value.message
        )


def test_a_view_that_took_the_name_of_an_audited_table(orders: Trail) -> None:
    orders.execute("insert into orders values (1); alter table orders rename to orders_data")
    orders.execute("create view orders as select * from orders_data")
    assert len(history(orders.connection, "orders", "1")) == 1


class TestTrails:
    def test_none_at_all(self, database: Database) -> None:
        database.execute("create table orders (id int)")
        with pytest.raises(UsageError, match="no audit trail in the schema audit") as caught:
            history(database.connection, "orders")
        assert caught.value.hint == (
            "its migration comes from audit install --table TABLE; is this the right database, and was it upgraded?"
        )

    def test_in_another_schema(self, orders: Trail) -> None:
        orders.execute('alter schema audit rename to "Trail"')
        with pytest.raises(UsageError) as caught:
            history(orders.connection, "orders")
        assert caught.value.hint == ("add --audit-schema Trail: that schema has a trail")

    def test_of_somebody_else(self, database: Database) -> None:
        database.execute("create schema audit; create table audit.logged_actions (id int)")
        with pytest.raises(UsageError, match="no audit trail"):
            history(database.connection, "orders")


class TestPermissions:
    @pytest.fixture
    def reader(self, orders: Trail) -> Iterator[str]:
        name = f"Reader {secrets.token_hex(4)}"
        orders.execute(f'create role "{name}" login')
        orders.execute("insert into orders values (1)")
        yield name
        orders.execute(f'drop owned by "{name}"; drop role "{name}"')

    def test_the_hint_is_the_sql_that_helps(self, orders: Trail, reader: str) -> None:
        with psycopg.connect(orders.database.dsn, user=reader, autocommit=True) as connection:
            with pytest.raises(
                PermissionDeniedError, match=f'the role "{reader}" may not read'
            ) as e:
                history(connection, "orders", 1)
            assert e.value.hint is not None
            orders.execute(e.value.hint.removeprefix("ask its owner to run: "))
            assert len(history(connection, "orders", 1)) == 1
            assert len(history(connection, "orders")) == 1
            assert history(connection, "orders", 2) == []
