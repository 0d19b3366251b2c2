"""Which event gave each column of a row its present value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.exact_json import Json
from audit_toolkit.trail.event import Action, Event, Row
from audit_toolkit.trail.history.read import stream_events
from audit_toolkit.trail.rows.lookup import find_subject, no_such_row, warn_of_absence

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """Where the values of a row come from, and what else has to be said about them."""

    origins: tuple[Origin, ...]
    gone: Event | None
    """What took the row away, if it is gone: the values are its last."""
    gaps: tuple[Event, ...]
    """When capture was off since the first event of the row: who changed it then is not known."""


def blame(
    connection: Connection, table: str, key: object, *, schema: str = "audit"
) -> list[Origin]:
    """For each column of a row, the event that gave it its last known value; of a deleted row too.

    A snapshot only saw the value: whoever set it came before. Reads the history of the row once.
    Raises `UsageError` where the trail has no event of the row, and what `find_subject` raises.
    """
    return list(find_blame(connection, table, key, schema=schema).origins)


def find_blame(connection: Connection, table: str, key: object, *, schema: str = "audit") -> Blame:
    """Like `blame`, with what has to be said about the values."""
    subject = find_subject(connection, table, key, schema=schema)
    warn_of_absence(connection, subject)
    found = _trace(stream_events(connection, subject))
    if not found.origins:
        raise no_such_row(connection, subject)
    order = {column: place for place, column in enumerate(subject.columns)}
    ordered = sorted(found.origins, key=lambda origin: order.get(origin.column, len(order)))
    return replace(found, origins=tuple(ordered))


def _trace(events: Iterable[Event]) -> Blame:
    row: Row = {}
    setters: dict[str, Event | None] = {}
    gone: Event | None = None
    gaps: list[Event] = []
    for event in events:
        if event.action is Action.GAP:
            gaps.append(event)
        after = event.row_after
        if after is None:
            gone = (
                event if event.action in (Action.DELETE, Action.TRUNCATE) or event.is_drop else gone
            )
            if event.action is Action.DELETE and not row:
                # Older than the first event of the column, which removed it.
                row = event.old_row or {}
                setters = dict.fromkeys(row)
            continue
        before = event.old_row or {}
        if event.puts_back(gone):
            row = (gone and gone.old_row) or row
        elif event.action is Action.INSERT:
            row, setters = {}, {}
        gone = None
        for column, value in after.items():
            known = before if event.action is Action.UPDATE else row
            is_same = column in known and exact_json.same(known[column], value)
            if column not in setters or not is_same:
                seen = event.action is Action.UPDATE and is_same
                setters[column] = None if seen else event
        row = after
    origins = (Origin(column=c, value=value, event=setters.get(c)) for c, value in row.items())
    return Blame(origins=tuple(origins), gone=gone, gaps=tuple(gaps))
