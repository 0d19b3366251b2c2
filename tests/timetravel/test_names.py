"""Tables under other names: what is of another table, or under another name, is never taken for an answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from audit_toolkit.errors import AuditError
from audit_toolkit.trail import blame, diff, row_at, table_at
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, status text)"


def now(trail: Trail) -> datetime:
    [(moment,)] = trail.execute("select clock_timestamp()")
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC)


def rows(trail: Trail, table: str, moment: datetime | None = None) -> list[tuple[Any, ...]]:
    return trail.execute(
        f"select id, status from audit.table_at(null::{table}, %s) order by id",
        [moment or now(trail)],
    )


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'old'), (2, 'old')")
    return trail


def test_tables_that_changed_places_have_their_own_rows(orders: Trail) -> None:
    orders.execute("create table orders_new (like orders including all)")
    orders.audit("orders_new")
    orders.execute(
        "alter table orders rename to orders_old; alter table orders_new rename to orders;"
        " insert into orders values (1, 'new'); insert into orders_old values (3, 'old')"
    )
    assert rows(orders, "orders") == [(1, "new")]
    assert row_at(orders.connection, "orders", 1, now(orders)) == {"id": 1, "status": "new"}
    assert row_at(orders.connection, "orders", 2, now(orders)) is None
    assert {origin.value for origin in blame(orders.connection, "orders", 1)} == {1, "new"}
    with pytest.raises(AuditError, match=r"no event of row 1 of public\.orders_old"):
        list(table_at(orders.connection, "orders_old", now(orders)))


def test_a_rename_that_nothing_was_written_since(orders: Trail) -> None:
    orders.execute("create table orders_new (like orders including all)")
    orders.audit("orders_new")
    orders.execute(
        "alter table orders rename to orders_old; alter table orders_new rename to orders"
    )
    assert rows(orders, "orders") == []
    assert row_at(orders.connection, "orders", 1, now(orders)) is None
    with pytest.raises(AuditError, match="no such row"):
        blame(orders.connection, "orders", 1)
    with pytest.raises(AuditError, match=r"no event of row 1 of public\.orders_old"):
        list(table_at(orders.connection, "orders_old", now(orders)))


def test_a_new_table_has_not_the_rows_of_the_one_that_was_renamed(orders: Trail) -> None:
    before = now(orders)
    orders.execute("alter table orders rename to orders_2025")
    orders.execute(ORDERS)
    orders.audit("orders")
    orders.execute("insert into orders values (7, 'new')")
    assert rows(orders, "orders") == [(7, "new")]
    with pytest.raises(AuditError, match="another table since"):
        row_at(orders.connection, "orders", 1, before)
    assert orders.execute("select row_image from audit.history('orders', '1')") == []


def test_a_moment_under_another_name_is_refused(orders: Trail) -> None:
    before = now(orders)
    orders.execute("alter table orders rename to purchases; insert into purchases values (5, 'x')")
    with pytest.raises(
        AuditError, match=r"called so since .* was public\.orders before"
    ) as refused:
        row_at(orders.connection, "purchases", 1, before)
    assert "audit history public.orders --until" in (refused.value.hint or "")
    with pytest.raises(AuditError, match=r"was public\.orders before"):
        list(diff(orders.connection, "purchases", before, now(orders)))
    with pytest.raises(AuditError, match="since the table is called so"):
        row_at(orders.connection, "purchases", 1, now(orders))
    orders.execute("update purchases set status = 'y'")
    assert rows(orders, "purchases") == [(1, "y"), (2, "y"), (5, "y")]
