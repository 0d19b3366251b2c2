"""All that the trail holds of a person: the events of a row, and of the rows that ever referred to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render
from audit_toolkit.trail.event import Event, redaction_of
from audit_toolkit.trail.history.read import stream_events
from audit_toolkit.trail.revert.targets import read_references
from audit_toolkit.trail.rows.lookup import find_subject, since_when

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.trail.revert.ordering import Reference

    Connection = psycopg.Connection[Any]


def events_of_person(
    connection: Connection, table: str, key: object, *, schema: str = "audit"
) -> list[Event]:
    """The events of a row and of all rows that ever referred to it by foreign keys, and to those; oldest first.

    Foreign keys are those that the database has now. Reads all events of each table that refers to one of them.
    Raises `UsageError` where the trail has no event of the row, and what `find_subject` raises.
    """
    references = read_references(connection)
    found: dict[int, Event] = {}
    seen: set[tuple[QualifiedName, str | None]] = set()
    todo: list[tuple[str, object]] = [(table, key)]
    asked = ""
    while todo:
        name, one = todo.pop()
        subject = find_subject(connection, name, one, schema=schema)
        if (subject.table, subject.key) in seen:
            continue
        seen.add((subject.table, subject.key))
        asked = asked or f"{subject.table} {subject.key}"
        own = [e for e in stream_events(connection, subject) if e.row_key is not None]
        found |= {event.event_id: event for event in own}
        for reference in references:
            if reference.parent == subject.table:
                children = _children(connection, reference, own, schema)
                todo += [(str(reference.child), (child,)) for child in children]
    if not found:
        raise UsageError(
            f"no such row in the trail: {asked}",
            hint=f"if the row exists, it has not changed {since_when(connection, schema)}",
        )
    return [found[number] for number in sorted(found)]


def _children(
    connection: Connection, reference: Reference, events: list[Event], schema: str
) -> list[str]:
    """The keys of the rows that referred to the row of these events, by any value that it had."""
    wanted: dict[str, None] = {}
    for event in events:
        for image in (event.old_row, event.row_after):
            values = [(image or {}).get(column) for column in reference.parent_columns]
            if all(map(_is_known, values)):
                row = dict(zip(reference.columns, values, strict=True))
                wanted[exact_json.dumps(row)] = None
    sql = render("queries/children_ever", trail_schema=schema)
    child = {"schema_name": reference.child.schema, "table_name": reference.child.name}
    rows = [row for values in wanted for row in fetch(connection, sql, child | {"values": values})]
    return list(dict.fromkeys(row["key"] for row in rows))


def _is_known(value: Json) -> bool:
    return value is not None and redaction_of(value) is None
