"""Where a page of a history ends: by the number of an event, never by counting or skipping rows.

A page holds as many events as were asked for. Where a transaction's events changed places (see
`chain`), it holds the few more that belong between them, so that pages joined are the history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render
from audit_toolkit.trail.event import Event
from audit_toolkit.trail.history.filter import Filter, Reach, history_query
from audit_toolkit.trail.history.full_images import whole_events
from audit_toolkit.trail.history.ordering import WINDOW, in_runs
from audit_toolkit.trail.history.row_events import events_around
from audit_toolkit.trail.rows.key_range import unreadable_keys
from audit_toolkit.trail.rows.lookup import Scope, Tables, trail_table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

    Own = list[Event] | None


NEAR = 5 * WINDOW
"""Ids beyond the end of a table's page among which events are looked for that belong to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The bounds of a page."""

    wanted: Filter
    """The events of the page: without a limit, between two numbers."""
    border: int | None
    """The page's last event in its direction, `before` or `after` which the next page begins; None
    where nothing follows."""


class _Entry(NamedTuple):
    event_id: int
    marks: frozenset[tuple[int, str, str, str | None]]
    """Its transaction and table with each of its keys: events that have one in common can change places."""


def cut_page(
    connection: Connection,
    subject: Scope,
    wanted: Filter,
    own: Own = None,
    reach: Reach | None = None,
) -> Page:
    """The page of at least `wanted.limit` events, if there are so many, that `wanted` asks for.

    Reads the numbers of its events and of those next to it, and holds only the last of them.
    """
    limit = wanted.limit
    if limit is None:
        return Page(wanted=wanted, border=None)
    forward = wanted.oldest_of
    asked = replace(wanted, limit=limit + 1, newest_first=not forward)
    entries = _read_entries(connection, subject, asked, own, reach)
    first = next(entries, None)
    if first is None:
        return Page(wanted=replace(wanted, limit=None), border=None)
    inside = deque([first], maxlen=WINDOW)
    inside.extend(islice(entries, limit - 1))
    border = inside[-1].event_id
    follows = next(entries, None) is not None
    entries.close()
    if follows and (partners := _partners(connection, subject, asked, own, reach, inside)):
        near = replace(asked, limit=len(inside) + partners)
        near = _from(near, inside[0].event_id, forward=forward)
        query = history_query(subject, near, own, reach=reach)
        border = _end_of_run(connection, subject, query, len(inside), forward=forward)
    page = _between(wanted, first.event_id, border, forward=forward)
    return Page(wanted=page, border=border if follows else None)


def small_page(
    connection: Connection, subject: Scope, wanted: Filter, events: list[Event], own: Own
) -> Page | None:
    """The page of these events: as many as were asked for and, if there is one, the next behind it.

    They are in the direction of the page. None where more belong to it, which `cut_page` finds.
    """
    limit = wanted.limit or len(events)
    if len(events) <= limit:
        return Page(wanted=replace(wanted, limit=None), border=None)
    forward = wanted.oldest_of
    inside = [
        _entry(e.event_id, e.transaction_id, e.schema_name, e.table_name, e.row_key, e.old_row_key)
        for e in events[:limit]
    ]
    asked = replace(wanted, newest_first=not forward)
    if _partners(connection, subject, asked, own, None, inside):
        return None
    border = inside[-1].event_id
    return Page(wanted=_between(wanted, inside[0].event_id, border, forward=forward), border=border)


def require_event_of(connection: Connection, subject: Scope, event_id: int | None) -> None:
    """Raise `UsageError` where this is the number of an event of another table.

    A number that no event has is a place in the trail like any other: its event may be archived.
    """
    if event_id is None or (isinstance(subject, Tables) and not subject.names):
        return
    names = subject.named if isinstance(subject, Tables) else subject.names
    sql = render("queries/table_of_event", trail=trail_table(subject.schema))
    for row in fetch(connection, sql, {"event_id": event_id}):
        table = QualifiedName(row["schema_name"], row["table_name"])
        if not any(name.has(table, event_id) for name in names):
            raise UsageError(
                f"event {event_id} is of {table}, not of {subject.table}",
                hint=f"audit history {names[0].table} shows the ids of its events",
            )


def _between(wanted: Filter, first: int, border: int, *, forward: bool) -> Filter:
    page = _from(replace(wanted, limit=None), first, forward=forward)
    return replace(page, before=border + 1) if forward else replace(page, after=border - 1)


def _from(wanted: Filter, first: int, *, forward: bool) -> Filter:
    return replace(wanted, after=first - 1) if forward else replace(wanted, before=first + 1)


def _read_entries(
    connection: Connection,
    subject: Scope,
    wanted: Filter,
    own: Own,
    reach: Reach | None,
    *,
    forward: bool | None = None,
) -> Generator[_Entry, None, None]:
    from psycopg.rows import tuple_row

    query = history_query(subject, wanted, own, reach=reach, brief=True, forward=forward)
    with (
        connection.transaction(),
        connection.cursor("audit_page", row_factory=tuple_row) as cursor,
        unreadable_keys(wanted.keys),
    ):
        cursor.itersize = WINDOW
        cursor.execute(*query)
        for values in cursor:
            yield _entry(*values)


def _entry(
    event_id: int,
    transaction_id: int,
    schema: str,
    table: str,
    row_key: str | None,
    old_row_key: str | None,
) -> _Entry:
    keys = {row_key, row_key if old_row_key is None else old_row_key}
    return _Entry(event_id, frozenset((transaction_id, schema, table, key) for key in keys))


def _partners(
    connection: Connection,
    subject: Scope,
    wanted: Filter,
    own: Own,
    reach: Reach | None,
    inside: Sequence[_Entry],
) -> int:
    """How many entries beyond the border may change places with those inside, or stand between.

    Of a row, the index finds the next; in a table, they are looked for no further than `NEAR` ids.
    """
    border = inside[-1].event_id
    forward = wanted.oldest_of
    near = None if subject.key is not None else NEAR
    if forward:
        highest = [n for n in (wanted.before, near and border + near) if n is not None]
        far = min(highest, default=None)
        if far is not None and far <= border + 1:
            return 0
        beyond = replace(wanted, limit=WINDOW, after=border, before=far)
    else:
        lowest = [n for n in (wanted.after, near and border - near) if n is not None]
        if border - 1 <= max(lowest, default=0):
            return 0
        beyond = replace(wanted, limit=WINDOW, after=max(lowest, default=None), before=border)
    entries = _read_entries(connection, subject, beyond, own, reach, forward=forward)
    known = {mark for entry in inside for mark in entry.marks}
    between: set[tuple[int, str, str, str | None]] = set()
    partners = 0
    for number, entry in enumerate(entries, 1):
        between |= entry.marks
        if not known.isdisjoint(entry.marks):
            known |= between
            between.clear()
            partners = number
    return partners


def _end_of_run(
    connection: Connection,
    subject: Scope,
    query: tuple[str, Any],
    least: int,
    *,
    forward: bool,
) -> int:
    """The last event of the run in which the event of that number is."""
    events = whole_events(connection, fetch(connection, *query), subject.schema)
    around = events_around(connection, subject)
    number, border = 0, 0
    for run in in_runs(events, newest_first=not forward, around=around):
        number += len(run)
        ids = [event.event_id for event in run]
        border = max(ids) if forward else min(ids)
        if number >= least:
            break
    return border
