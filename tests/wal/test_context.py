"""Who and why, of tables that are read from the WAL: what the application says there, and nothing else."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from typing import Any, Literal

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from audit_toolkit import apply_context, attach, context
from audit_toolkit.config import Capture
from audit_toolkit.wal.context import MESSAGE_LIMIT, NOBODY, Who, who_of
from tests.plugins.django_project import configure, point_to
from tests.wal.conftest import WalTrail

WHO = ("context", "session_user_name", "role_name", "application_name", "client_addr")


@pytest.fixture
def orders(wal_trail: WalTrail) -> WalTrail:
    wal_trail.execute("create table by_row (id int primary key)")
    wal_trail.execute("create table by_wal (id int primary key)")
    wal_trail.audit("by_row")
    wal_trail.audit("by_wal", capture=Capture.WAL)
    wal_trail.read()
    return wal_trail


def both(trail: WalTrail) -> list[tuple[Any, ...]]:
    """Who made the events of both tables, which is the same."""
    trail.read()
    found = {
        table: [
            tuple(event[name] for name in (*WHO, "transaction_tstamp", "transaction_id"))
            for event in trail.events()
            if event["table_name"] == table and event["action"] == "I"
        ]
        for table in ("by_row", "by_wal")
    }
    assert found["by_wal"] == found["by_row"]
    return found["by_wal"]


def test_a_connection_tells_the_wal_what_a_trigger_sees(orders: WalTrail) -> None:
    with psycopg.connect(orders.database.dsn, application_name="shop") as connection:
        attach(connection, wal=True)
        with context(actor="ann", ratio=1.10):
            for table in ("by_row", "by_wal"):
                connection.execute(f"insert into {table} values (1)")
        with context(actor="bob"):
            for table in ("by_row", "by_wal"):
                connection.execute(f"insert into {table} values (2)")
    first, second = both(orders)
    assert (first[0]["actor"], second[0]["actor"], first[3]) == ("ann", "bob", "shop")
    assert first[1] is not None


@pytest.mark.parametrize("strategy", ["pipeline", "statement", "eager"])
def test_an_engine_tells_the_wal_what_a_trigger_sees(
    orders: WalTrail, strategy: Literal["pipeline", "statement", "eager"]
) -> None:
    engine = sa.create_engine(orders.database.dsn.replace("postgresql:", "postgresql+psycopg:"))
    attach(engine, strategy=strategy, wal=True)
    with context(actor="ann"), engine.begin() as connection:
        for table in ("by_row", "by_wal"):
            connection.execute(sa.text(f"insert into {table} values (1)"))
    engine.dispose()
    ((said, *_),) = both(orders)
    assert said["actor"] == "ann"


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_an_async_engine_tells_the_wal_what_a_trigger_sees(orders: WalTrail, driver: str) -> None:
    async def write() -> None:
        url = orders.database.dsn.replace("postgresql:", f"postgresql+{driver}:")
        engine = create_async_engine(url)
        attach(engine, wal=True)
        with context(actor="ann"):
            async with engine.begin() as connection:
                for table in ("by_row", "by_wal"):
                    await connection.execute(sa.text(f"insert into {table} values (1)"))
        await engine.dispose()

    asyncio.run(write())
    ((said, *_),) = both(orders)
    assert said["actor"] == "ann"


def test_a_context_that_is_sent_by_hand_is_told_to_the_wal(orders: WalTrail) -> None:
    async def write() -> None:
        connection = await asyncpg.connect(orders.database.dsn)
        with context(actor="ann"):
            async with connection.transaction():
                await apply_context(connection, wal=True)
                for table in ("by_row", "by_wal"):
                    await connection.execute(f"insert into {table} values (1)")
        await connection.close()

    asyncio.run(write())
    engine = sa.create_engine(orders.database.dsn.replace("postgresql:", "postgresql+psycopg:"))
    with context(actor="ann"), engine.begin() as connection:
        apply_context(connection, wal=True)
        for table in ("by_row", "by_wal"):
            connection.execute(sa.text(f"insert into {table} values (2)"))
    engine.dispose()
    assert [said["actor"] for said, *_ in both(orders)] == ["ann", "ann"]


@pytest.mark.parametrize("how", ["connections", "wrapper"])
def test_django_tells_the_wal_what_a_trigger_sees(orders: WalTrail, how: str) -> None:
    from django.db import connection, transaction  # type: ignore[import-untyped]
    from django.db.backends import signals  # type: ignore[import-untyped]

    from audit_toolkit.attribution import django

    configure()
    point_to(orders.database.dsn)
    if how == "connections":
        django.carry_context(wal=True)
    with ExitStack() as stack:
        stack.callback(signals.connection_created.disconnect, dispatch_uid="audit_toolkit")
        stack.callback(connection.close)
        if how == "wrapper":
            stack.enter_context(connection.execute_wrapper(django.wal_execute_wrapper))
        stack.enter_context(context(actor="ann"))
        with transaction.atomic(), connection.cursor() as cursor:
            for table in ("by_row", "by_wal"):
                cursor.execute(f"insert into {table} values (1)")
    ((said, *_),) = both(orders)
    assert said["actor"] == "ann"


def test_the_wal_itself_says_nobody(orders: WalTrail) -> None:
    orders.execute("insert into by_wal values (1)")
    orders.read()
    event = orders.events()[-1]
    assert [event[name] for name in WHO] == [None] * len(WHO)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[1]",
        b"\xff",
        b"{",
        json.dumps({"context": 1, "client_addr": "x", "transaction_tstamp": "x"}).encode(),
        json.dumps({"context": "{", "session_user": 7}).encode(),
        json.dumps({"context": '{"a": NaN}'}).encode(),
        json.dumps({"context": '{"a": "\\u0000"}'}).encode(),
        json.dumps({"context": '{"a": "\\ud800"}'}).encode(),
        json.dumps({"context": '{"a": 1e999999}'}).encode(),
        json.dumps({"transaction_tstamp": "+2026"}).encode(),
        b"[" * 100_000,
        json.dumps({"context": "[" * 960 + "0" + "]" * 960}).encode(),
        json.dumps({"context": "[" * 9_000 + "0" + "]" * 9_000}).encode(),
    ],
    ids=lambda message: message[:40],
)
def test_a_message_that_somebody_forged_badly_is_as_none(orders: WalTrail, message: bytes) -> None:
    assert who_of(message) == NOBODY
    with orders.connection.transaction():
        orders.execute(
            "select pg_logical_emit_message(true, 'audit.context', %s::bytea)", [message]
        )
        orders.execute("insert into by_wal values (1)")
    orders.read()
    assert orders.events()[-1]["context"] is None


def test_of_a_message_without_end_the_size_is_recorded() -> None:
    assert who_of(b"[" * (MESSAGE_LIMIT + 1)) == Who(
        context=json.dumps({"audit:oversize": {"bytes": MESSAGE_LIMIT + 1}})
    )


def test_an_odd_address_does_not_stop_the_worker(orders: WalTrail) -> None:
    said = {"client_addr": "fe80::1%eth0", "transaction_tstamp": "0001-01-01T00:00+23:59:59"}
    with orders.connection.transaction():
        orders.execute(
            "select pg_logical_emit_message(true, 'audit.context', %s)", [json.dumps(said)]
        )
        orders.execute("insert into by_wal values (1)")
    orders.read()
    event = orders.events()[-1]
    assert str(event["client_addr"]) == "fe80::1"
    assert event["transaction_tstamp"] is None
