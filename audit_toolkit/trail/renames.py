"""Events of a table that has another name, or other names for its columns, as of the present one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_installed
from audit_toolkit.connection import fetch
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render
from audit_toolkit.trail import exact
from audit_toolkit.trail.exact import Json
from audit_toolkit.trail.model import Event, Row, table_of
from audit_toolkit.trail.subject import trail_table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noted:
    """What DDL did to a table."""

    event_id: int
    table: QualifiedName
    noted: Json

    @property
    def renamed_from(self) -> QualifiedName | None:
        """The name that the table had before."""
        if self.noted.get("change") != "renamed":
            return None
        return QualifiedName(*self.noted["from"])

    @property
    def columns(self) -> dict[str, str]:
        """The columns that got other names, which those are."""
        return self.noted.get("renamed") or {} if self.noted.get("change") == "columns" else {}


def as_called_now(connection: Connection, events: Sequence[Event], schema: str) -> list[Event]:
    """The events under the names that their tables and columns have now, as far as it was noted."""
    if not events:
        return []
    since = min(event.event_id for event in events)
    noted = _read_noted(connection, {table_of(event) for event in events}, since, schema)
    if not noted:
        return list(events)
    return [_renamed(event, noted) for event in events]


def _read_noted(
    connection: Connection, tables: set[QualifiedName], since: int, schema: str
) -> list[_Noted]:
    asked: set[QualifiedName] = set()
    wanted = tables | {i.table for i in read_installed(connection, schema)}
    found: dict[int, _Noted] = {}
    sql = render("queries/changes_of_tables", trail=trail_table(schema))
    while names := wanted - asked:
        asked |= names
        parameters = {
            "schemas": [name.schema for name in names],
            "names": [name.name for name in names],
            "since": since,
        }
        for row in fetch(connection, sql, parameters):
            change = _Noted(
                event_id=row["event_id"],
                table=QualifiedName(row["schema_name"], row["table_name"]),
                noted=exact.loads(row["noted"]),
            )
            found[change.event_id] = change
            if change.renamed_from:
                wanted.add(change.renamed_from)
    return [found[event_id] for event_id in sorted(found)]


def _renamed(event: Event, noted: Sequence[_Noted]) -> Event:
    table, old_row, new_row = table_of(event), event.old_row, event.new_row
    for change in noted:
        if change.event_id < event.event_id:
            continue
        if change.renamed_from == table:
            table = change.table
        elif change.table == table and change.columns:
            old_row, new_row = (_with_names(row, change.columns) for row in (old_row, new_row))
    if table == table_of(event) and old_row is event.old_row and new_row is event.new_row:
        return event
    return replace(
        event, schema_name=table.schema, table_name=table.name, old_row=old_row, new_row=new_row
    )


def _with_names(row: Row | None, names: dict[str, str]) -> Row | None:
    return None if row is None else {names.get(c, c): value for c, value in row.items()}
