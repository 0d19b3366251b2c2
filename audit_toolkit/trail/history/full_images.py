"""Rows of the trail's queries as events with whole rows, whatever was stored of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, refusals
from audit_toolkit.templates import render
from audit_toolkit.trail.event import Event

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

Record = Mapping[str, Any]
Pair = tuple[Record, Event]

AT_A_TIME = 100
"""Events that are completed at a time."""


def whole_events(connection: Connection, records: Iterable[Record], schema: str) -> Iterator[Event]:
    """The events of rows of our queries; where only what changed was stored (`--store delta`), both rows are completed.

    That is asked for some at a time, as whole rows may be much larger, and only where there are such events: a role
    that may just select from the trail reads all others.
    Raises `AuditError` where the event with the whole row is missing, and `PermissionDeniedError` without the
    right to execute `row_before`.
    """
    return completed(connection, map(with_event, records), schema)


def with_event(record: Record) -> Pair:
    """A row of our queries and what is stored of its event."""
    return record, Event.from_record(record)


def completed(connection: Connection, pairs: Iterable[Pair], schema: str) -> Iterator[Event]:
    """The same of rows whose events were made already."""
    read = iter(pairs)
    while some := list(islice(read, AT_A_TIME)):
        yield from _completed(connection, some, schema)


def _completed(connection: Connection, pairs: Sequence[Pair], schema: str) -> list[Event]:
    events = [event for _, event in pairs]
    places = [place for place, event in enumerate(events) if event.holds_changes_only]
    if not places:
        return events
    stored = [pairs[place][0] for place in places]
    sql = render("queries/rows_before", trail_schema=schema)
    asked = {
        "places": places,
        "schemas": [record["schema_name"] for record in stored],
        "tables": [record["table_name"] for record in stored],
        "row_keys": [record["row_key"] for record in stored],
        "event_ids": [record["event_id"] for record in stored],
        "old_rows": [record["old_row"] for record in stored],
        "new_rows": [record["new_row"] for record in stored],
    }
    with refusals():
        for row in fetch(connection, sql, asked):
            place = row.pop("place")
            events[place] = Event.from_record({**pairs[place][0], **row, "changed_text": None})
    return events
