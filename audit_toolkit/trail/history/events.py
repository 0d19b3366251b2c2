"""Events by what they are, not by their row: one event, a transaction, what somebody did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_column_names, read_relations
from audit_toolkit.connection import fetch, refusals
from audit_toolkit.errors import UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render
from audit_toolkit.trail.event import Event, require_numbers
from audit_toolkit.trail.event import table_of as table_of
from audit_toolkit.trail.history.full_images import whole_events
from audit_toolkit.trail.history.ordering import in_order
from audit_toolkit.trail.history.transactions import require_one_transaction
from audit_toolkit.trail.rows.lookup import (
    Subject,
    find_subject,
    require_readable_trail,
    trail_table,
)
from audit_toolkit.trail.rows.renamed import as_called_now

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Events of any table that belong together.

    At least one of `event_ids`, `transaction`, `actor`, `since` and `after_event` says which.
    """

    event_ids: tuple[int, ...] = ()
    transaction: int | None = None
    actor: str | None = None
    """As in `Filter`: the claimed actor, else the login role."""
    since: datetime | None = None
    until: datetime | None = None
    """The first moment that is too late."""
    after_event: int | None = None
    """Only events with a higher number: that of a mark."""
    transaction_start: datetime | None = None
    """When the transaction began: where a trail went on in another cluster, numbers repeat."""
    tables: tuple[str, ...] = ()
    """Only these tables, as somebody named them: `orders`, `sales.orders`."""
    leave_out: tuple[str, ...] = ()
    """No events of these tables."""

    def __post_init__(self) -> None:
        which = (self.transaction, self.actor, self.since, self.after_event)
        if not self.event_ids and all(value is None for value in which):
            raise UsageError(
                "no events selected",
                hint="name an event, a transaction, an actor, a time or a mark",
            )
        require_numbers(*self.event_ids, self.transaction, self.after_event)


def select_events(
    connection: Connection, selection: Selection, *, schema: str = "audit"
) -> list[Event]:
    """The selected events as they followed each other, all of them in memory.

    Events and transactions are found by an index. An actor has none: all events between `since` and
    `until` are read.
    Raises `UsageError` for an event that the trail does not have, for a number that several
    transactions have, and for tables that neither the database nor the trail knows.
    """
    events = events_there(connection, selection, schema=schema)
    _require_all(events, selection)
    return in_order(_of_tables(connection, events, selection, schema))


def events_there(connection: Connection, selection: Selection, *, schema: str) -> list[Event]:
    """The selected events of all tables, by their ids; without those that have left the trail."""
    require_readable_trail(connection, schema)
    if selection.transaction is not None and selection.transaction_start is None:
        require_one_transaction(
            connection, selection.transaction, schema, since=selection.since, until=selection.until
        )
    sql = render(
        "queries/events",
        trail=trail_table(schema),
        trail_schema=schema,
        event_ids=bool(selection.event_ids),
        transaction=selection.transaction is not None,
        actor=selection.actor is not None,
        since=selection.since is not None,
        until=selection.until is not None,
        after_event=selection.after_event is not None,
        transaction_start=selection.transaction_start is not None,
    )
    parameters = {
        "event_ids": list(selection.event_ids),
        "transaction_id": str(selection.transaction),
        "actor": selection.actor,
        "since": selection.since,
        "until": selection.until,
        "after_event": selection.after_event,
        "transaction_start": selection.transaction_start,
    }
    with refusals():
        return list(whole_events(connection, fetch(connection, sql, parameters), schema))


def _of_tables(
    connection: Connection, events: list[Event], selection: Selection, schema: str
) -> list[Event]:
    """The events of the tables that are asked for, by the names they have now or had then."""
    only, without = (
        {find_subject(connection, name, schema=schema).table for name in names}
        for names in (selection.tables, selection.leave_out)
    )
    if not only and not without:
        return events
    now = as_called_now(connection, events, schema)
    both = [
        ({table_of(event), table_of(renamed)}, event)
        for event, renamed in zip(events, now, strict=True)
    ]
    return [event for names, event in both if (not only or names & only) and not names & without]


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


def _require_all(events: Iterable[Event], selection: Selection) -> None:
    if missing := sorted(set(selection.event_ids) - {event.event_id for event in events}):
        others = (selection.transaction, selection.actor, selection.since, selection.until)
        all_else = "" if others == (None,) * 4 else " of that transaction, actor and time"
        raise UsageError(
            f"the trail has no event {', '.join(map(str, missing))}{all_else}",
            hint="audit history TABLE shows the ids of its events; gaps are normal",
        )
