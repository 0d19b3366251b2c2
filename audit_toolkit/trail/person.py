"""All that the trail holds of a person: the events of a row, and of the rows that ever referred to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from audit_toolkit import exact_json
from audit_toolkit.catalog import find_relation
from audit_toolkit.connection import fetch
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName, Sql
from audit_toolkit.templates import render
from audit_toolkit.trail.event import Action, Event, redaction_of
from audit_toolkit.trail.history.read import stream_events
from audit_toolkit.trail.revert.targets import read_references
from audit_toolkit.trail.rows.keys import equal_keys, read_key_columns
from audit_toolkit.trail.rows.lookup import Subject, find_subject, no_such_row
from audit_toolkit.trail.rows.table_names import TableName, find_names, of_names

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.trail.revert.ordering import Reference

    Connection = psycopg.Connection[Any]


class Past(Protocol):
    """What has left the database with its partition (`audit_toolkit.archive.PersonArchive`)."""

    def keys_of(self, subject: Subject) -> list[str]:
        """All keys of a table."""
        ...

    def events_of(
        self, subject: Subject, keys: Sequence[str], pairs: Sequence[tuple[str | None, str | None]]
    ) -> list[Event]:
        """The events of the rows that ever had one of these keys, or one that changes of keys lead to."""
        ...

    def children(
        self, reference: Reference, names: Sequence[TableName], wanted: Sequence[Mapping[str, Json]]
    ) -> list[str]:
        """The keys of the rows of a table that had any of these values in the columns of a reference."""
        ...


def events_of_person(
    connection: Connection,
    table: str,
    key: object,
    *,
    schema: str = "audit",
    past: Past | None = None,
) -> list[Event]:
    """The events of a row and of all rows that ever referred to it by foreign keys, and to those; oldest first.

    Foreign keys are those that the database has now. Reads all events of each table that refers to one of them;
    with `past`, those of archived partitions, too. Raises `UsageError` where there is no event of the row, and what
    `find_subject` raises.
    """
    references = read_references(connection)
    found: dict[int, Event] = {}
    seen: set[tuple[QualifiedName, str | None]] = set()
    todo: list[tuple[str, object]] = [(table, key)]
    asked: Subject | None = None
    while todo:
        name, one = todo.pop()
        subject = find_subject(connection, name, one, schema=schema)
        if (subject.table, subject.key) in seen:
            continue
        seen.add((subject.table, subject.key))
        asked = asked or subject
        own = _live(connection, subject)
        if past is not None:
            own = _with_past(connection, subject, own, past)
        found |= {event.event_id: event for event in own}
        for reference in references:
            if reference.parent == subject.table:
                children = _children(connection, reference, own, schema, past)
                todo += [(str(reference.child), (child,)) for child in children]
    if asked is not None and not found:
        raise no_such_row(connection, asked)
    return [found[number] for number in sorted(found)]


def _live(connection: Connection, subject: Subject) -> list[Event]:
    return [e for e in stream_events(connection, subject) if e.row_key is not None]


def _with_past(
    connection: Connection, subject: Subject, live: list[Event], past: Past
) -> list[Event]:
    """The events of a row, those included that have left the database."""
    keys = set(subject.keys)
    keys |= _equal_keys(connection, subject, past)
    events = {event.event_id: event for event in live}
    known = keys | _keys_of(live)
    while True:
        pairs = [(event.row_key, event.old_row_key) for event in events.values()]
        archived = past.events_of(subject, sorted(known), pairs)
        events = {event.event_id: event for event in archived} | events
        new = _keys_of(events.values()) - known
        if not new:
            break
        # A row that changed its key in an archived event goes on here under the other one.
        known |= new
        for key in sorted(new):
            other = find_subject(connection, str(subject.table), (key,), schema=subject.schema)
            events |= {event.event_id: event for event in _live(connection, other)}
    return _of_rows(events, keys)


def _equal_keys(connection: Connection, subject: Subject, past: Past) -> set[str]:
    """The keys that have left the database and are equal to this one as their type compares: 1 and 1.0."""
    relation = find_relation(connection, str(subject.table)) if subject.is_there else None
    columns = read_key_columns(connection, relation.oid) if relation else ()
    if subject.key is None or all(column.is_exact for column in columns):
        return set()
    names = (TableName(table=subject.table),)
    values = {**of_names(names), "keys": past.keys_of(subject)}
    parts = [subject.key]
    given = Sql(render("queries/given_keys"))
    return set(equal_keys(connection, columns, parts, given, names, values))


def _keys_of(events: Iterable[Event]) -> set[str]:
    keys = {key for event in events for key in (event.row_key, event.old_row_key)}
    return {key for key in keys if key is not None}


def _of_rows(events: Mapping[int, Event], keys: set[str]) -> list[Event]:
    """Those of the rows that had one of these keys at any time."""
    rows: list[tuple[set[str], list[Event]]] = []
    present: dict[str | None, int] = {}
    for number in sorted(events):
        event = events[number]
        row = present.pop(event.key_before, None)
        if row is None or event.action is Action.INSERT:
            row = len(rows)
            rows.append((set(), []))
        rows[row][0].update(_keys_of([event]))
        rows[row][1].append(event)
        if event.action is not Action.DELETE:
            present[event.row_key] = row
    return [event for had, own in rows if had & keys for event in own]


def _children(
    connection: Connection,
    reference: Reference,
    events: list[Event],
    schema: str,
    past: Past | None,
) -> list[str]:
    """The keys of the rows that referred to the row of these events, by any value that it had."""
    wanted: dict[str, dict[str, Json]] = {}
    for event in events:
        for image in (event.old_row, event.row_after):
            values = [(image or {}).get(column) for column in reference.parent_columns]
            if all(map(_is_known, values)):
                row = dict(zip(reference.columns, values, strict=True))
                wanted[exact_json.dumps(row)] = row
    sql = render("queries/children_ever", trail_schema=schema)
    child = {"schema_name": reference.child.schema, "table_name": reference.child.name}
    rows = [row for values in wanted for row in fetch(connection, sql, child | {"values": values})]
    keys = [row["key"] for row in rows]
    if past is not None and wanted:
        names = find_names(connection, schema, reference.child)
        keys += past.children(reference, names, list(wanted.values()))
    return list(dict.fromkeys(keys))


def _is_known(value: Json) -> bool:
    return value is not None and redaction_of(value) is None
