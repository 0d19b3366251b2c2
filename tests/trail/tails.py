"""A tail that a test asks for batches, and the writers beside it."""

from __future__ import annotations

from typing import Any

from audit_toolkit.trail import Batch, Event, follow
from tests.plugins.database import Connection
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, v int)"
INSERT = (
    "insert into audit.logged_actions (schema_name, table_name, action, row_key)"
    " values ('public', 'orders', 'I', %s)"
)


class Tail:
    """A tail on a connection of its own, asked for batches by the test."""

    def __init__(self, trail: Trail, *arguments: Any, **options: Any) -> None:
        self.connection = trail.database.connect()
        self.batches = follow(self.connection, *arguments, **options)
        self.last: Batch | None = None

    def until_idle(self) -> list[Event]:
        """All events until the tail has nothing more to tell and waits for nobody."""
        events: list[Event] = []
        for batch in self.batches:
            self.last = batch
            if not batch.events and not batch.held_by:
                return events
            events += batch.events
        raise AssertionError("a tail has no end")

    def until_held(self) -> tuple[list[Event], Batch]:
        """All events until somebody holds the tail back."""
        events: list[Event] = []
        for batch in self.batches:
            events += batch.events
            if batch.held_by:
                return events, batch
            assert batch.events, "nobody holds the tail back"
        raise AssertionError("a tail has no end")


class Naive:
    """What everybody writes first: all events with a higher id than the last one that was seen."""

    def __init__(self, trail: Trail) -> None:
        self.trail = trail
        self.seen: list[int] = []

    def look(self) -> None:
        query = "select event_id from audit.logged_actions where event_id > %s order by 1"
        self.seen += [n for (n,) in self.trail.execute(query, [max(self.seen, default=0)])]


def ids(events: list[Event]) -> list[int]:
    return [event.event_id for event in events]


def all_ids(trail: Trail) -> list[int]:
    return [event["event_id"] for event in trail.events()]


def writer(trail: Trail, *statements: str) -> Connection:
    """A transaction that has done this and stays open."""
    connection = trail.database.connect(autocommit=False)
    for statement in statements:
        connection.execute(statement.encode())
    return connection
