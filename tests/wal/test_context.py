"""Who and why, of tables that are read from the WAL: what the application says there, and nothing else."""

from __future__ import annotations

import json
from typing import Any, Literal

import psycopg
import pytest
import sqlalchemy as sa

from audit_toolkit import attach, context
from audit_toolkit.config import Capture
from audit_toolkit.wal.staging import NOBODY, who_of
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
    ],
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
