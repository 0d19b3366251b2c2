"""Events of a table that has another name, or other names for its columns, as of the present one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_installed
from audit_toolkit.exact_json import Json
from audit_toolkit.trail.event import Event, Row, table_of
from audit_toolkit.trail.rows.table_names import TableName, read_names

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.names import QualifiedName

    Connection = psycopg.Connection[Any]

    Names = dict[QualifiedName, tuple[TableName, ...]]


def as_called_now(connection: Connection, events: Sequence[Event], schema: str) -> list[Event]:
    """The events under the names that their tables and columns have now, as far as it was noted."""
    # Existing tables first: the events under a name that no longer exists belong to one of them.
    tables = [installed.table for installed in read_installed(connection, schema)]
    names = read_names(connection, schema, [*tables, *map(table_of, events)])
    return [_renamed(event, names) for event in events]


def _renamed(event: Event, names: Names) -> Event:
    former = table_of(event)
    for table, parts in names.items():
        for part in parts:
            if part.has(former, event.event_id):
                if table == former and not part.columns:
                    return event
                whole = event.old_row or event.new_row or {}
                return replace(
                    event,
                    schema_name=table.schema,
                    table_name=table.name,
                    old_row=_with_names(event.old_row, part.columns, whole),
                    new_row=_with_names(event.new_row, part.columns, whole),
                )
    return event


def _with_names(row: Row | None, columns: Json, whole: Row) -> Row | None:
    """As the function `audit.as_called_now` does it."""
    if row is None or not isinstance(columns, dict):
        return row
    candidates = {
        was: (now["step"], str(now["now"]))
        for was, now in columns.items()
        if isinstance(now, dict) and was in whole and not (now["again"] and now["now"] in whole)
    }
    oldest = {now: was for was, (_, now) in sorted(candidates.items(), key=lambda item: item[1])}
    renamed = {was: now for now, was in oldest.items()}
    return {
        renamed.get(column, column): value
        for column, value in row.items()
        if column in renamed or not (column in oldest or column in candidates)
    }
