"""Events by what they are, not by their row: one event, a transaction, what somebody did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_column_names, read_relations
from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render
from audit_toolkit.trail.chain import in_order
from audit_toolkit.trail.model import Event
from audit_toolkit.trail.subject import Subject, require_readable_trail, trail_table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_BIGGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Events of any table that belong together; at least one of the first three says which."""

    event_ids: tuple[int, ...] = ()
    transaction: int | None = None
    actor: str | None = None
    """As in `Filter`: the claimed actor, else the login role."""
    since: datetime | None = None
    until: datetime | None = None
    """The first moment that is too late."""

    def __post_init__(self) -> None:
        if not self.event_ids and self.transaction is None and self.actor is None:
            raise UsageError(
                "nothing says which events are meant",
                hint="name an event, a transaction or an actor",
            )
        for number in (*self.event_ids, self.transaction or 0):
            if not 0 <= number <= _BIGGEST:
                raise UsageError(f"{number} is no number of an event or a transaction")


def select_events(
    connection: Connection, selection: Selection, *, schema: str = "audit"
) -> list[Event]:
    """The selected events as they followed each other, all of them in memory.

    Events and transactions are found by an index. An actor has none: all events between `since` and
    `until` are read.
    Raises `UsageError` for an event that the trail does not have.
    """
    require_readable_trail(connection, schema)
    sql = render(
        "queries/events",
        trail=trail_table(schema),
        event_ids=bool(selection.event_ids),
        transaction=selection.transaction is not None,
        actor=selection.actor is not None,
        since=selection.since is not None,
        until=selection.until is not None,
    )
    parameters = {
        "event_ids": list(selection.event_ids),
        "transaction_id": str(selection.transaction),
        "actor": selection.actor,
        "since": selection.since,
        "until": selection.until,
    }
    events = [Event.from_record(row) for row in fetch(connection, sql, parameters)]
    _require_all(events, selection.event_ids)
    return in_order(events)


def table_of(event: Event) -> QualifiedName:
    """The table that an event is about."""
    return QualifiedName(event.schema_name, event.table_name)


def subjects_of(
    connection: Connection, events: Iterable[Event], *, schema: str = "audit"
) -> dict[QualifiedName, Subject]:
    """The tables of these events, with their present columns where they still exist."""
    wanted = {table_of(event) for event in events}
    names = {table.name for table in wanted}
    there = {r.name: r for r in read_relations(connection, names) if r.name in wanted}
    columns = {name: read_column_names(connection, relation) for name, relation in there.items()}
    return {
        name: Subject(schema=schema, table=name, columns=columns.get(name, ()), known=True)
        for name in wanted
    }


def _require_all(events: Iterable[Event], event_ids: Iterable[int]) -> None:
    if missing := sorted(set(event_ids) - {event.event_id for event in events}):
        raise UsageError(
            f"the trail has no event {', '.join(map(str, missing))}",
            hint="audit history TABLE shows the numbers of its events; gaps in them are normal",
        )
