"""Archived events with whole rows, where only what changed was stored (`--store delta`).

The first event of a row in a partition has the whole row, so that an archive can be read without what was before
it. Rows are followed from event to event, as many as fit into some memory; the rest is looked up, for many at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from audit_toolkit.errors import AuditError
from audit_toolkit.exact_json import Json
from audit_toolkit.trail import Action, Event
from audit_toolkit.trail.event import Row, redaction_of, table_of

MOST_BYTES = 64 << 20
"""Of the rows that are followed, as the archive has them."""

Place = tuple[str, str, str]
"""Schema, table and key of a row."""
Before = Callable[[Sequence[Place], int], Iterable[Event]]
"""The events of these rows before that one, by rising id."""


class Whole:
    """Completes events, given by rising id."""

    def __init__(self, before: Before) -> None:
        self._before = before
        self._bytes = 0
        self._rows: OrderedDict[Place, tuple[Row | None, int]] = OrderedDict()
        self._found: dict[Place, Row | None] = {}
        """Rows that were looked up for the present events."""
        self._tables: set[tuple[str, str]] = set()
        """Whose rows are followed: there are such events of them."""

    def complete(self, events: Sequence[Event]) -> Iterator[Event]:
        """The events, each with its whole rows. Raises `AuditError` where the event before one is missing."""
        if parts := [event for event in events if event.holds_changes_only]:
            self._tables |= {(event.schema_name, event.table_name) for event in parts}
            self._look_up(events)
        for event in events:
            yield self._completed(event)
        self._found = {}
        while self._bytes > MOST_BYTES:
            self._bytes -= self._rows.popitem(last=False)[1][1]

    def _completed(self, event: Event) -> Event:
        place = _place(event)
        if place is None or place[:2] not in self._tables:
            return event
        size = event.size
        if event.holds_changes_only:
            event = _with(event, self._row(place))
        self._follow(place, event, size)
        return event

    def _row(self, place: Place) -> Row | None:
        return self._rows[place][0] if place in self._rows else self._found.get(place)

    def _follow(self, place: Place, event: Event, size: int) -> None:
        self._bytes += size - self._rows.pop(place, (None, 0))[1]
        self._rows[place] = event.row_after, size

    def _look_up(self, events: Sequence[Event]) -> None:
        """Learn how the rows looked which are not followed, and of which the first of these events is a part."""
        first: dict[Place, Event] = {}
        for event in events:
            if place := _place(event):
                first.setdefault(place, event)
        unknown = [
            place
            for place, event in first.items()
            if event.holds_changes_only and place not in self._rows
        ]
        rows: dict[Place, Row | None] = {}
        for event in self._before(unknown, events[0].event_id) if unknown else ():
            if place := _place(event):
                part = event.holds_changes_only
                rows[place] = _left(rows.get(place), event) if part else event.row_after
        self._found = rows


def _place(event: Event) -> Place | None:
    if event.row_key is None or event.action is Action.EVENT:
        return None
    return event.schema_name, event.table_name, event.row_key


def _with(event: Event, row: Row | None) -> Event:
    if row is None:
        raise AuditError(
            f"event {event.event_id} of {table_of(event)} was archived with only what it changed (--store delta), "
            "and the event with the whole row before it is not in the archive",
            hint="audit archive verify says what is missing; to go on without the archive, leave out --from-archive",
        )
    old = _in_order(_unmarked(row) | (event.old_row or {}))
    return replace(event, old_row=old, new_row=_in_order(old | (event.new_row or {})))


def _left(row: Row | None, event: Event) -> Row | None:
    """What a part leaves of a row; nothing where that is not known, which is for an event to say that needs it."""
    return None if row is None else _unmarked(row) | (event.new_row or {})


def _unmarked(row: Row) -> Row:
    """The row as it was left: that an event changed a redacted value is said of that event alone."""
    return {column: _plain(value) for column, value in row.items()}


def _plain(value: Json) -> Json:
    if isinstance(value, dict) and redaction_of(value) is not None:
        return {name: member for name, member in value.items() if name != "changed"}
    return value


def _in_order(row: Mapping[str, Json]) -> Row:
    """As PostgreSQL orders the members of `jsonb`."""
    return dict(sorted(row.items(), key=lambda one: (len(one[0].encode()), one[0].encode())))
