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

AT_A_TIME = 100
"""Events that are completed at a time."""


def whole_events(
    connection: Connection, records: Iterable[Mapping[str, Any]], schema: str
) -> Iterator[Event]:
    """The events of rows of our queries; where only what changed was stored (`--store delta`), both rows are completed.

    That is asked for some at a time, as whole rows may be much larger, and only where there are such events: a role
    that may just select from the trail reads all others.
    Raises `AuditError` where the event with the whole row is missing, and `PermissionDeniedError` without the
    right to execute `row_before`.
    """
    read = iter(records)
    while some := list(islice(read, AT_A_TIME)):
        yield from _whole(connection, some, schema)


def _whole(
    connection: Connection, records: Sequence[Mapping[str, Any]], schema: str
) -> list[Event]:
    events = list(map(Event.from_record, records))
    places = [place for place, event in enumerate(events) if event.holds_changes_only]
    if not places:
        return events
    stored = [records[place] for place in places]
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
            events[place] = Event.from_record({**records[place], **row, "changed_text": None})
    return events
