"""Every block of docs/context.md, run as it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

import audit_toolkit
from tests.context.blocks import BLOCKS, block
from tests.context.conftest import Shop
from tests.plugins.drivers import run, url

MARKS = [
    "psycopg.connect(DSN)",
    "ConnectionPool(DSN",
    "create_engine(URL)",
    "create_async_engine(ASYNC_URL)",
    "order_by_phone",
    "pool.acquire()",
    "FastAPI(",
    "Starlette(",
    "Litestar(",
    "Flask(",
    "django.carry_context()",
    "def audit_middleware",
    "connection.execute_wrapper",
    "Celery(",
    "class Order(Base)",
    "session.scalars(",
]
"""What tells each block from the others, in their order; the web's are run in test_web.py and so on."""


def test_every_block_is_known_and_has_at_most_ten_lines() -> None:
    assert [[mark for mark in MARKS if mark in code] for code in BLOCKS] == [[m] for m in MARKS]
    assert max(len(code.strip().splitlines()) for code in BLOCKS) <= 10


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    """A shop with an order."""
    shop.database.execute("insert into orders (note) values ('full price')")
    return shop


def test_a_script(stocked: Shop) -> None:
    block("psycopg.connect(DSN)", DSN=stocked.dsn)
    expected = {"actor": "cron:prices", "reason": "weekly update"}
    assert stocked.contexts()["reduced"] == expected


def test_a_pool(stocked: Shop) -> None:
    with (
        block("ConnectionPool(DSN", DSN=stocked.dsn)["pool"] as pool,
        audit_toolkit.context(actor="a"),
        pool.connection() as connection,
    ):
        connection.execute("update orders set note = 'reduced'")
    assert stocked.contexts()["reduced"] == {"actor": "a"}


def test_an_engine(stocked: Shop) -> None:
    block("create_engine(URL)", URL=url(stocked.dsn))["engine"].dispose()
    assert stocked.contexts()["reduced"] == {"actor": "user:42"}


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_async_engine(stocked: Shop, driver: str) -> None:
    names = block("create_async_engine(ASYNC_URL)", ASYNC_URL=url(stocked.dsn, driver))

    async def main() -> None:
        with audit_toolkit.context(actor="a"):
            async with names["sessions"].begin() as session:
                await session.execute(text("update orders set note = 'reduced'"))
        await names["engine"].dispose()

    run(main())
    assert stocked.contexts()["reduced"] == {"actor": "a"}


def test_a_function_that_writes(shop: Shop, make_engine: Callable[..., Engine]) -> None:
    block("order_by_phone", engine=make_engine())
    assert shop.contexts() == {"tea": {"actor": "user:42"}}


def test_asyncpg(stocked: Shop) -> None:
    async def main() -> None:
        import asyncpg  # type: ignore[import-untyped]

        async with asyncpg.create_pool(stocked.dsn, min_size=1) as pool:
            with audit_toolkit.context(actor="a"):
                await asyncio.wait_for(block("pool.acquire()")["reduce"](pool), 60)

    run(main())
    assert stocked.contexts()["reduced"] == {"actor": "a"}


@pytest.mark.usefixtures("shop")
def test_reading(make_engine: Callable[..., Engine]) -> None:
    names = block("class Order(Base)")
    engine = make_engine()
    audit_toolkit.attach(engine)
    with Session(engine) as session, audit_toolkit.context(actor="user:42", reason="sale"):
        order = names["Order"](note="one")
        session.add(order)
        session.commit()
        order.note = "two"
        session.commit()
        assert [event.new_row["note"] for event in order.history] == ["one", "two"]
        feed = block("session.scalars(", session=session, LoggedAction=names["LoggedAction"])
        assert feed["feed"] == [("INSERT", "sale"), ("UPDATE", "sale")]
