"""What the context costs, in round trips that a proxy counts: PERFORMANCE goal 6."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

import audit_toolkit
from tests.context.proxy import Proxy
from tests.plugins.drivers import async_engine, run

INSERT = "insert into orders (note) values (null)"
SELECT = "select count(*) from orders"
WARM = 8
"""Transactions before counting: drivers look at the server first, and prepare what comes often."""


def counted(proxy: Proxy, transaction: Callable[[], Any], *, attached: bool) -> int:
    with audit_toolkit.context(actor="a") if attached else nullcontext():
        for _ in range(WARM):
            transaction()
        proxy.reset()
        transaction()
        return proxy.trips


def psycopg_trips(proxy: Proxy, *statements: str, attach: bool) -> int:
    with psycopg.connect(proxy.dsn) as connection:
        if attach:
            audit_toolkit.attach(connection)

        def transaction() -> None:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

        return counted(proxy, transaction, attached=attach)


@pytest.mark.parametrize("statements", [[INSERT], [SELECT, INSERT, INSERT]])
def test_psycopg_writes_cost_no_more(proxy: Proxy, statements: list[str]) -> None:
    plain = psycopg_trips(proxy, *statements, attach=False)
    assert plain == 2 + len(statements)  # and BEGIN, COMMIT: the proxy counts right
    assert psycopg_trips(proxy, *statements, attach=True) <= plain


def test_psycopg_autocommit_costs_no_more(proxy: Proxy) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        audit_toolkit.attach(connection)
        assert counted(proxy, lambda: connection.execute(INSERT), attached=True) == 1


def engine_trips(proxy: Proxy, engine: Engine, *statements: str, attached: bool) -> int:
    def transaction() -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    return counted(proxy, transaction, attached=attached)


@pytest.mark.parametrize(
    ("statements", "strategy", "more"),
    [
        ([INSERT], None, 0),
        ([SELECT, INSERT, INSERT], None, 0),
        ([SELECT], None, 0),
        ([INSERT], "statement", 1),
        ([INSERT, INSERT, INSERT], "statement", 1),
        ([SELECT], "statement", 0),
        ([SELECT], "eager", 1),
        ([SELECT, INSERT, INSERT], "eager", 1),
    ],
)
def test_sqlalchemy_with_psycopg(
    proxy: Proxy,
    make_engine: Callable[..., Engine],
    statements: list[str],
    strategy: Any,
    more: int,
) -> None:
    plain = engine_trips(proxy, make_engine(dsn=proxy.dsn), *statements, attached=False)
    engine = make_engine(dsn=proxy.dsn)
    audit_toolkit.attach(engine, strategy=strategy)
    trips = engine_trips(proxy, engine, *statements, attached=True)
    assert trips <= plain if more == 0 else trips == plain + more


async def async_trips(proxy: Proxy, engine: AsyncEngine, *statements: str) -> int:
    async def transaction() -> None:
        async with engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))

    for _ in range(WARM):
        await transaction()
    proxy.reset()
    await transaction()
    return proxy.trips


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("statements", [[INSERT], [SELECT, INSERT, INSERT], [SELECT]])
def test_async_engines(proxy: Proxy, driver: str, statements: list[str]) -> None:
    async def measure() -> tuple[int, int]:
        async with async_engine(proxy.dsn, driver) as engine:
            plain = await async_trips(proxy, engine, *statements)
        async with async_engine(proxy.dsn, driver) as engine:
            audit_toolkit.attach(engine)
            with audit_toolkit.context(actor="a"):
                return plain, await async_trips(proxy, engine, *statements)

    plain, trips = run(measure())
    # asyncpg has no pipeline: one more for each transaction that writes.
    assert trips <= plain + (driver == "asyncpg" and INSERT in statements)
