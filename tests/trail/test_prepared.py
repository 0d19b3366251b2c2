"""Questions about a row are planned once for a connection, and leave it as it was."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row, scalar_row

from audit_toolkit.errors import UsageError
from audit_toolkit.trail import blame, history
from audit_toolkit.trail.history.read import FETCH_SIZE
from tests.plugins.trail import Trail, audit

_PREPARED = "select statement, generic_plans, custom_plans from pg_prepared_statements"
SETTINGS = {
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "SQL, DMY",
    "bytea_output": "escape",
    "statement_timeout": "7s",
    "plan_cache_mode": "force_custom_plan",
}


@pytest.fixture
def orders(trail: Trail) -> psycopg.Connection[Any]:
    connection = trail.connection
    connection.execute("create table orders (id int primary key, v int)")
    audit(connection, "orders")
    connection.execute("insert into orders values (1, 0), (2, 0)")
    connection.execute("update orders set v = 1 where id = 1")
    return connection


def test_the_second_row_is_not_planned_again(orders: psycopg.Connection[Any]) -> None:
    for key in (1, 2):
        history(orders, "orders", key)
    plans = {text: counts for text, *counts in orders.execute(_PREPARED, prepare=False)}
    of_trail = [counts for text, counts in plans.items() if "logged_actions" in text]
    assert len(of_trail) >= 2
    assert all(generic == 2 and custom == 0 for generic, custom in of_trail)


def test_nothing_is_prepared_where_the_connection_forbids_it(
    orders: psycopg.Connection[Any],
) -> None:
    orders.prepare_threshold = None
    for key in (1, 2, 1, 2):
        assert history(orders, "orders", key)
    assert orders.prepare_threshold is None
    assert orders.execute(_PREPARED).fetchall() == []


@pytest.mark.parametrize("rows", [dict_row, scalar_row, namedtuple_row])
def test_rows_of_the_connection_may_have_any_shape(
    orders: psycopg.Connection[Any], rows: Any
) -> None:
    found = history(orders, "orders", 1)
    orders.row_factory = rows
    assert history(orders, "orders", 1) == found
    assert blame(orders, "orders", 1)


def test_nothing_is_prepared_behind_a_pooler(
    orders: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PgBouncer gives a client a number of its own in place of the server's, to cancel by."""
    monkeypatch.setattr(type(orders.info), "backend_pid", 1)
    for key in (1, 2, 1, 2):
        assert history(orders, "orders", key)
    assert orders.execute(_PREPARED).fetchall() == []


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("key", [1, "no number"])
def test_the_session_keeps_its_settings(
    orders: psycopg.Connection[Any], local: bool, key: object
) -> None:
    def settings() -> dict[str, Any]:
        return {name: value(orders, f"show {name}") for name in SETTINGS}

    before = settings()
    with orders.transaction():
        for name, wanted in SETTINGS.items():
            orders.execute("select set_config(%s, %s, %s)", (name, wanted, local))
        with suppress(UsageError):
            history(orders, "orders", key)
            blame(orders, "orders", key)
        assert settings() == SETTINGS
    assert settings() == (before if local else SETTINGS)
    assert orders.prepare_threshold == 5


def test_a_row_of_many_events_is_whole(orders: psycopg.Connection[Any]) -> None:
    orders.execute(
        f"do 'begin for i in 1..{FETCH_SIZE} loop update orders set v = -i where id = 2; end loop; end'"
    )
    found = history(orders, "orders", 2)
    assert [event.new_row["v"] for event in found if event.new_row] == [
        *range(0, -FETCH_SIZE - 1, -1)
    ]
    newest = history(orders, "orders", 2, limit=2)
    assert newest == found[-2:]


def value(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement.encode()).fetchone()
    return row and row[0]
