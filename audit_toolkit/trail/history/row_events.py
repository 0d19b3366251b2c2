"""The events that a history is made of: those of a row under all its keys, and those just before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, refusals
from audit_toolkit.templates import render
from audit_toolkit.trail.event import Event
from audit_toolkit.trail.history.filter import Reach, reach_parameters
from audit_toolkit.trail.history.full_images import whole_events
from audit_toolkit.trail.history.ordering import WINDOW, Around, lives
from audit_toolkit.trail.rows.lookup import Scope, Subject, Tables, trail_table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_FEW = 20
"""Events that say how a row was before: inside a transaction the last id need not be the last change."""


def own_events(
    connection: Connection, subject: Scope, reach: Reach | None = None
) -> list[Event] | None:
    """All events of the rows that ever had the key, under whatever key; None if no key changed."""
    if isinstance(subject, Tables) or not subject.key_changed:
        return None
    known: dict[int, Event] = {}
    own: list[Event] = []
    asked: set[str | None] = set()
    named: set[str | None] = {*subject.keys}
    keys = named
    while keys - asked:
        found = _events_of_keys(connection, subject, keys - asked, reach)
        known |= {event.event_id: event for event in found}
        asked |= keys
        rows = lives(known[event_id] for event_id in sorted(known))
        own = [event for row in rows if named & keys_of(row) for event in row]
        keys = keys_of(own)
    return own


def with_moves(connection: Connection, subject: Scope) -> Scope:
    """The subject as the trail knows it by now: its key may have been changed since."""
    if isinstance(subject, Tables) or subject.key is None or subject.key_changed:
        return subject
    sql = render("queries/known_keys", trail=trail_table(subject.schema), names=subject.names)
    rows = fetch(connection, sql, subject.parameters | {"row_keys": [subject.key]})
    moved = any(row["moved"] for row in rows)
    return replace(subject, known=bool(rows), key_changed=moved)


def events_around(connection: Connection, subject: Scope) -> Around:
    """What looks up the other events of rows of the subject's tables."""
    sql = render(
        "queries/events_around", trail=trail_table(subject.schema), trail_schema=subject.schema
    )

    def find(keys: Sequence[str], first: Event, last: Event) -> Iterator[Event]:
        wanted = {
            "schema_name": first.schema_name,
            "table_name": first.table_name,
            "row_keys": list(keys),
            "transaction_id": str(first.transaction_id),
            "first": first.event_id,
            "last": last.event_id,
            "few": _FEW,
            "many": WINDOW,
        }
        with refusals():
            return whole_events(connection, fetch(connection, sql, wanted), subject.schema)

    return find


def keys_of(events: Iterable[Event]) -> set[str | None]:
    """All keys that these events gave to rows or took away."""
    return {key for event in events for key in (event.row_key, event.key_before)}


def _events_of_keys(
    connection: Connection, subject: Subject, keys: Iterable[str | None], reach: Reach | None
) -> Iterator[Event]:
    sql = render(
        "queries/events_of_keys",
        trail=trail_table(subject.schema),
        trail_schema=subject.schema,
        names=subject.names,
        reach=reach is not None,
    )
    parameters = {"row_keys": list(keys), **reach_parameters(reach)}
    with refusals():
        rows = fetch(connection, sql, subject.parameters | parameters)
        return whole_events(connection, rows, subject.schema)
