"""Whether dropped partitions are what events of the trail say of them, which are sealed as all events are.

The record of partitions is a table like any other. Each drop is an event, and vouches for the whole record as it was
then: the newest one is in the trail as long as anything older is, whatever became of those before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.findings import Finding, FindingKind
from audit_toolkit.seals.findings import error
from audit_toolkit.seals.leaves import read_relations
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropEvent:
    """An event that says that a partition was dropped."""

    event_id: int
    partition: str
    records: str
    """The SHA-256 of the record of all partitions that were dropped by then."""
    by: str | None
    by_hand: bool


@dataclass(frozen=True, slots=True)
class Drops:
    """What the record says of dropped partitions, and what events do."""

    records: tuple[tuple[int, str], ...]
    """(event, line of the record), in order."""
    events: dict[int, DropEvent]

    @classmethod
    def read(cls, connection: Connection, schema: str) -> Drops:
        """As the database has them."""
        rows = fetch(connection, render("seals/dropped", schema=schema))
        relations = read_relations(connection, schema)
        found = fetch(connection, render("seals/drop_events", schema=schema, relations=relations))
        events = (
            DropEvent(
                event_id=row["event_id"],
                partition=str(row["leaf_name"]),
                records=str(row["records"]),
                by=row["session_user_name"],
                by_hand=row["by_hand"],
            )
            for row in found
        )
        return cls(
            tuple((row["drop_event"], row["record"]) for row in rows),
            {event.event_id: event for event in events},
        )

    def announces(self, partition: str, event_id: int | None, gone: Collection[int]) -> bool:
        """Whether an event says that a partition was dropped: its own, or a later one once that has left, too."""
        if event_id is None:
            return False
        if own := self.events.get(event_id):
            return own.partition == partition
        return event_id in gone and any(number > event_id for number in self.events)

    def findings(self) -> Iterator[Finding]:
        """Where the record is not what events said of it."""
        for event in self.events.values():
            lines = [record for number, record in self.records if number <= event.event_id]
            if hashlib.sha256("\n".join(lines).encode()).hexdigest() != event.records:
                yield error(
                    FindingKind.DROP_RECORD_CHANGED,
                    f"event {event.event_id}",
                    f"the record of partitions that were dropped up to {event.partition} was changed since",
                    "compare audit.partition_lifecycle with a backup, and with your retention",
                )
