"""Which event gave each column of a row its present value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.errors import UsageError
from audit_toolkit.trail import exact
from audit_toolkit.trail.exact import Json
from audit_toolkit.trail.history import stream_events
from audit_toolkit.trail.model import Action, Event, Row
from audit_toolkit.trail.subject import find_subject

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The last known value of a column, and the event that set it."""

    column: str
    value: Json
    event: Event | None
    """None where the value is older than the row's first event."""

    def as_dict(self) -> dict[str, Json]:
        """The origin as JSON values."""
        event = self.event
        return {
            "column": self.column,
            "value": self.value,
            "event_id": event and event.event_id,
            "action_tstamp": event and event.action_tstamp.isoformat(timespec="microseconds"),
            "transaction_id": event and event.transaction_id,
            "actor": event and event.actor,
        }


def blame(
    connection: Connection, table: str, key: object, *, schema: str = "audit"
) -> list[Origin]:
    """For each column of a row, the event that gave it its last known value; of a deleted row too.

    A snapshot only saw the value: whoever set it came before. Reads the history of the row once.
    Raises `UsageError` where the trail has no event of the row, and what `find_subject` raises.
    """
    subject = find_subject(connection, table, key, schema=schema)
    origins = _trace(stream_events(connection, subject))
    if not origins:
        raise UsageError(
            f"the trail has no events of {subject.table} {subject.key}",
            hint="it has not changed since capture began",
        )
    order = {column: place for place, column in enumerate(subject.columns)}
    return sorted(origins, key=lambda origin: order.get(origin.column, len(order)))


def _trace(events: Iterable[Event]) -> list[Origin]:
    row: Row = {}
    setters: dict[str, Event | None] = {}
    for event in events:
        after = event.row_after
        if after is None:
            continue
        before = event.old_row or {}
        if event.action is Action.INSERT:
            row, setters = {}, {}
        for column, value in after.items():
            known = before if event.action is Action.UPDATE else row
            is_same = column in known and exact.same(known[column], value)
            if column not in setters or not is_same:
                seen = event.action is Action.UPDATE and is_same
                setters[column] = None if seen else event
        row = after
    return [Origin(column=c, value=value, event=setters.get(c)) for c, value in row.items()]
