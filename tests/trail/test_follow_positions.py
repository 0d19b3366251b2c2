"""Where a tail stands, kept in a file: another tail goes on behind it, and not anywhere else."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.trail import Event, Position, follow
from tests.plugins.database import Database
from tests.plugins.trail import Trail
from tests.trail.tails import ORDERS, Tail, all_ids, ids

WRITERS = 6
TRANSACTIONS = 40


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders")
    return trail


class TestPositions:
    def test_saved_and_loaded(self, orders: Trail, tmp_path: Path) -> None:
        orders.execute("insert into orders values (1), (2)")
        tail = Tail(orders, "orders")
        tail.until_idle()
        assert tail.last is not None
        file = tmp_path / "cursor"
        tail.last.position.save(file)
        assert Position.load(file) == tail.last.position
        assert [path.name for path in tmp_path.iterdir()] == ["cursor"]
        orders.execute("insert into orders values (3)")
        assert ids(Tail(orders, "orders", after=Position.load(file)).until_idle()) == [3]

    def test_the_server_is_known(self, orders: Trail) -> None:
        tail = Tail(orders, "orders")
        tail.until_idle()
        assert tail.last is not None
        (system,) = orders.execute("select system_identifier::text from pg_control_system()")[0]
        assert (tail.last.position.system_identifier, tail.last.position.timeline) == (system, 1)

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"table": "public.notes"}, "belongs to public.notes, not to public.orders"),
            ({"key": "7"}, "belongs to public.orders '7', not to public.orders"),
            ({"trail": "old"}, "public.orders in the trail old, not to public.orders"),
            ({"system_identifier": "1"}, "belongs to another server (1; this one is"),
            ({"timeline": 7}, "restored or failed over since event 5: its timeline is 1"),
        ],
    )
    def test_of_something_else(self, orders: Trail, other: dict[str, Any], message: str) -> None:
        position = replace(Position(event_id=5, trail="audit", table="public.orders"), **other)
        with pytest.raises(UsageError) as raised:
            follow(orders.connection, "orders", after=position)
        assert message in raised.value.message
        assert raised.value.hint

    def test_of_a_server_that_does_not_tell_itself(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1), (2)")
        position = Position(event_id=1, trail="audit", table="public.orders")
        assert ids(Tail(orders, "orders", after=position).until_idle()) == [2]

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"event_id": "1", "trail": "audit", "table": "t"}', "\x00"]
    )
    def test_a_file_that_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "cursor").write_text(text)
        with pytest.raises(UsageError, match="is not a valid cursor"):
            Position.load(tmp_path / "cursor")


class TestManyWriters:
    """All at once, and the tail killed and resumed in the middle."""

    def test_the_union_is_the_trail(self, orders: Trail, tmp_path: Path) -> None:
        cursor = tmp_path / "cursor"
        chance = random.Random(1)
        seen: list[Event] = []
        with _writing(orders.database) as writing:
            while writing.is_set() or not seen:
                tail = Tail(
                    orders, "orders", after=Position.load(cursor) if cursor.exists() else None
                )
                for batch in tail.batches:
                    seen += batch.events
                    batch.position.save(cursor)
                    if chance.random() < 0.2 or not writing.is_set():
                        break  # as if it was killed: nothing but the file is left
                tail.connection.close()
        seen += Tail(orders, "orders", after=Position.load(cursor)).until_idle()
        assert ids(seen) == all_ids(orders)
        assert len(seen) > WRITERS * TRANSACTIONS / 2


@contextmanager
def _writing(database: Database) -> Iterator[threading.Event]:
    """Many writers at work; the event is set until all are done."""
    going = threading.Event()
    going.set()
    threads = [
        threading.Thread(target=_write, args=(database.dsn, number)) for number in range(WRITERS)
    ]

    def end() -> None:
        for thread in threads:
            thread.join()
        going.clear()

    for thread in threads:
        thread.start()
    ender = threading.Thread(target=end)
    ender.start()
    try:
        yield going
    finally:
        ender.join()


def _write(dsn: str, number: int) -> None:
    """Transactions of all kinds: short, long, with savepoints, rolled back, cut off."""
    chance = random.Random(number)
    row = number * 1_000_000
    connection = psycopg.connect(dsn)
    for _ in range(TRANSACTIONS):
        for _ in range(chance.choice([1, 1, 1, 2, 5])):
            row += 1
            connection.execute("insert into orders values (%s, 0)", [row])
            if chance.random() < 0.3:
                connection.execute("savepoint s")
                connection.execute("update orders set v = v + 1 where id = %s", [row])
                connection.execute(chance.choice([b"release s", b"rollback to s"]))
            if chance.random() < 0.2:
                connection.execute("select pg_sleep(%s)", [chance.random() / 20])
        match chance.choice(["commit", "commit", "commit", "rollback", "close"]):
            case "commit":
                connection.commit()
            case "rollback":
                connection.rollback()
            case "close":
                connection.close()
                connection = psycopg.connect(dsn)
    connection.close()
