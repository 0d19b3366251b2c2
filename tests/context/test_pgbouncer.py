"""Behind a PgBouncer in transaction mode no event ever carries another request's context.

Three server connections serve sixteen workers, whose transactions fail, roll back and change their
mind. `CONTEXT_TRANSACTIONS=5000` is the whole proof (nox -s pgbouncer-proof); the default is a short one.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

import audit_toolkit
from audit_toolkit.trail import history
from tests.context.bouncer import Bouncer
from tests.context.conftest import Shop
from tests.plugins.drivers import async_engine, run

WORKERS = 16
TRANSACTIONS = int(os.environ.get("CONTEXT_TRANSACTIONS", "480"))
EACH = -(-TRANSACTIONS // WORKERS)
INSERT = "insert into orders (note) values (%s)"
BROKEN = "insert into orders (id) overriding system value values (null)"


class Undo(Exception):  # noqa: N818 - not an error
    """Makes a transaction roll back."""


def plan(worker: int) -> list[tuple[str, str]]:
    """What a worker does in its transactions: a name for each, and how it goes."""
    dice = random.Random(worker)
    ways = ["write", "write twice", "no context", "error", "rollback", "read", "savepoint"]
    return [(f"{worker}/{number}", dice.choice(ways)) for number in range(EACH)]


def check(shop: Shop) -> None:
    """Every event carries what its own row was written with, and all that should be there are."""
    expected: dict[str, str | None] = {}
    for worker in range(WORKERS):
        for name, way in plan(worker):
            match way:
                case "write" | "savepoint":
                    expected[name] = name
                case "write twice":
                    expected |= {name: name, f"{name} again": f"{name} again"}
                case "no context":
                    expected[name] = None
    assert dict(shop.actors()) == expected
    assert len(shop.actors()) == len(expected) > TRANSACTIONS / 2
    done = EACH * WORKERS
    print(f"{done} transactions, {len(expected)} events, each with its own context")


@pytest.fixture(params=["unprepared", "prepared"])
def prepared(request: pytest.FixtureRequest) -> bool:
    """Whether drivers prepare statements."""
    return bool(request.param == "prepared")


@pytest.fixture
def bouncer(shop: Shop, make_bouncer: Callable[[str], Bouncer], prepared: bool) -> Bouncer:
    """A PgBouncer before the shop."""
    bouncer = make_bouncer(shop.dsn)
    if prepared and not bouncer.keeps_prepared:
        pytest.skip(f"PgBouncer {bouncer.version} cannot keep prepared statements: 1.21 can")
    return bouncer


def test_questions_about_a_row_prepare_nothing(
    shop: Shop, make_bouncer: Callable[[str], Bouncer]
) -> None:
    with psycopg.connect(shop.dsn, autocommit=True) as connection:
        connection.execute(INSERT, ["a"])
    bouncer = make_bouncer(shop.dsn)
    for _ in range(3):
        with psycopg.connect(bouncer.dsn, autocommit=True) as connection:
            assert len(history(connection, "orders", 1)) == 1
    prepared = "select name from pg_prepared_statements"
    with psycopg.connect(bouncer.dsn, autocommit=True) as connection:
        assert connection.execute(prepared).fetchall() == []


def test_a_context_of_the_session_would_leak(
    shop: Shop, make_bouncer: Callable[[str], Bouncer]
) -> None:
    # What the toolkit never does: it proves that clients do get each other's server connections.
    dsn = make_bouncer(shop.dsn).dsn
    seen = "select current_setting('audit.context', true)"
    with psycopg.connect(dsn, prepare_threshold=None) as one:
        one.execute("select set_config('audit.context', 'leaked', false)")
    with psycopg.connect(dsn, prepare_threshold=None) as other:
        assert other.execute(seen).fetchone() == ("leaked",)


def psycopg_options(prepared: bool) -> dict[str, Any]:
    return {} if prepared else {"prepare_threshold": None}


def work_sqlalchemy(connection: Connection, name: str, way: str) -> None:
    statement = text("insert into orders (note) values (:note)")
    with connection.begin():
        if way == "no context":
            connection.execute(statement, {"note": name})
            return
        with audit_toolkit.context(actor=name):
            if way == "read":
                connection.execute(text("select count(*) from receipts"))
                return
            if way == "savepoint":
                with suppress(Undo), connection.begin_nested():
                    connection.execute(statement, {"note": name})
                    raise Undo
            connection.execute(statement, {"note": name})
            if way == "write twice":
                audit_toolkit.set_actor(f"{name} again")
                connection.execute(statement, {"note": f"{name} again"})
            if way == "error":
                connection.execute(text(BROKEN))
            if way == "rollback":
                raise Undo


def test_sqlalchemy(
    shop: Shop, bouncer: Bouncer, prepared: bool, make_engine: Callable[..., Engine]
) -> None:
    engine = make_engine(dsn=bouncer.dsn, pool_size=WORKERS, connect_args=psycopg_options(prepared))
    audit_toolkit.attach(engine)

    def worker(number: int) -> None:
        for name, way in plan(number):
            with suppress(Undo, DBAPIError), engine.connect() as connection:
                work_sqlalchemy(connection, name, way)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(worker, range(WORKERS)))
    check(shop)


def work_psycopg(connection: psycopg.Connection[Any], name: str, way: str) -> None:
    with connection.transaction():
        if way == "no context":
            connection.execute(INSERT, [name])
            return
        with audit_toolkit.context(actor=name):
            if way == "read":
                connection.execute("select count(*) from receipts")
                return
            if way == "savepoint":
                with connection.transaction(force_rollback=True):
                    connection.execute(INSERT, [name])
            connection.execute(INSERT, [name])
            if way == "write twice":
                audit_toolkit.set_actor(f"{name} again")
                connection.execute(INSERT, [f"{name} again"])
            if way == "error":
                connection.execute(BROKEN)
            if way == "rollback":
                raise Undo


def test_psycopg_pool(shop: Shop, bouncer: Bouncer, prepared: bool) -> None:
    pool = ConnectionPool(
        bouncer.dsn,
        min_size=WORKERS,
        kwargs={"autocommit": True, **psycopg_options(prepared)},
        configure=audit_toolkit.attach,
        open=False,
    )

    def worker(number: int) -> None:
        for name, way in plan(number):
            with suppress(Undo, psycopg.Error), pool.connection() as connection:
                if way == "write":  # its own transaction
                    with audit_toolkit.context(actor=name):
                        connection.execute(INSERT, [name])
                else:
                    work_psycopg(connection, name, way)

    with pool, ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(worker, range(WORKERS)))
    check(shop)


async def work_async(connection: psycopg.AsyncConnection[Any], name: str, way: str) -> None:
    async with connection.transaction():
        if way == "no context":
            await connection.execute(INSERT, [name])
            return
        with audit_toolkit.context(actor=name):
            if way == "read":
                await connection.execute("select count(*) from receipts")
                return
            if way == "savepoint":
                async with connection.transaction(force_rollback=True):
                    await connection.execute(INSERT, [name])
            await connection.execute(INSERT, [name])
            if way == "write twice":
                audit_toolkit.set_actor(f"{name} again")
                await connection.execute(INSERT, [f"{name} again"])
            if way == "error":
                await connection.execute(BROKEN)
            if way == "rollback":
                raise Undo


async def all_workers(work: Callable[[str, str], Awaitable[None]], *expected: Any) -> None:
    async def worker(number: int) -> None:
        for name, way in plan(number):
            with suppress(Undo, *expected):
                await work(name, way)

    await asyncio.gather(*(worker(number) for number in range(WORKERS)))


def test_async_psycopg_pool(shop: Shop, bouncer: Bouncer, prepared: bool) -> None:
    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        audit_toolkit.attach(connection)

    async def main() -> None:
        async with AsyncConnectionPool(
            bouncer.dsn,
            min_size=WORKERS,
            kwargs=psycopg_options(prepared),
            configure=configure,
            open=False,
        ) as pool:

            async def work(name: str, way: str) -> None:
                async with pool.connection() as connection:
                    await work_async(connection, name, way)

            await all_workers(work, psycopg.Error)

    run(main())
    check(shop)


def test_asyncpg(shop: Shop, bouncer: Bouncer, prepared: bool) -> None:
    # As SQLAlchemy's documentation says for PgBouncer.
    options = {
        "statement_cache_size": 100 if prepared else 0,
        "prepared_statement_cache_size": 100 if prepared else 0,
        "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
    }

    async def main() -> None:
        async with async_engine(
            bouncer.dsn, "asyncpg", pool_size=WORKERS, connect_args=options
        ) as engine:
            audit_toolkit.attach(engine)

            async def work(name: str, way: str) -> None:
                async with engine.connect() as connection:
                    await connection.run_sync(work_sqlalchemy, name, way)

            await all_workers(work, DBAPIError)

    run(main())
    check(shop)
