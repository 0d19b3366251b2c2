"""The names under which the trail has the events of a table, and which events under each are its own.

Events keep the name that the table had when they were written. The function `audit.names_of` works the
names out, from what was noted of renames; other events under a name are those of another table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import PermissionDeniedError
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName, Sql, quote_identifier
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

LAST = 2**63 - 1
"""The number behind all events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableName:
    """A name of a table, and which events under it are the table's."""

    table: QualifiedName
    after: int = 0
    """The table's are behind this event,"""
    until: int = LAST
    """up to this one."""
    columns: Json = None
    """What `audit.as_called_now` needs to give images of these events the present column names."""

    def has(self, table: QualifiedName, event_id: int) -> bool:
        """Whether an event is the table's."""
        return table == self.table and self.after < event_id <= self.until

    def column_now(self, column: str) -> str:
        """The name that a column has now."""
        former = self.columns.get(column) if isinstance(self.columns, dict) else None
        return str(former["now"]) if isinstance(former, dict) else column


def find_names(connection: Connection, schema: str, table: QualifiedName) -> tuple[TableName, ...]:
    """The names of a table in the trail, the latest first.

    Raises `PermissionDeniedError` where the table had others, and the role may not ask which.
    """
    return read_names(connection, schema, [table])[table]


def read_names(
    connection: Connection, schema: str, tables: Iterable[QualifiedName]
) -> dict[QualifiedName, tuple[TableName, ...]]:
    """Like `find_names`, of several tables, by the name that each has now."""
    wanted = list(dict.fromkeys(tables))
    found: dict[QualifiedName, list[TableName]] = {table: [] for table in wanted}
    parameters = {
        "schemas": [table.schema for table in wanted],
        "names": [table.name for table in wanted],
    }
    errors = import_psycopg().errors
    try:
        with connection.transaction():
            rows = fetch(
                connection,
                render("queries/names_of", trail_schema=schema.replace("%", "%%")),
                parameters,
            )
    except errors.UndefinedFunction:
        # A trail of a former release, which noted no renames.
        return {table: (TableName(table=table),) for table in wanted}
    except errors.InsufficientPrivilege as error:
        _require_no_renames(connection, schema, parameters, error)
        return {table: (TableName(table=table),) for table in wanted}
    for row in rows:
        found[QualifiedName(row["of_schema"], row["of_table"])].append(
            TableName(
                table=QualifiedName(row["schema_name"], row["table_name"]),
                after=row["after_id"],
                until=row["until_id"],
                columns=row["columns"] and exact_json.loads(row["columns"]),
            )
        )
    # Where all events under the name are those of another table, none is this one's.
    return {
        table: tuple(names) or (TableName(table=table, after=LAST),)
        for table, names in found.items()
    }


def name_now(connection: Connection, schema: str, table: QualifiedName) -> QualifiedName | None:
    """The name that the last table of a name has now, or had at last; None where it is that one."""
    errors = import_psycopg().errors
    parameters = {"schema_name": table.schema, "table_name": table.name}
    try:
        with connection.transaction():
            rows = fetch(
                connection,
                render("queries/name_now", trail_schema=schema.replace("%", "%%")),
                parameters,
            )
    except (errors.UndefinedFunction, errors.InsufficientPrivilege):
        return None
    return QualifiedName(rows[0]["schema_name"], rows[0]["table_name"]) if rows else None


def of_names(names: Sequence[TableName]) -> dict[str, object]:
    """What a query is sent with that asks for the events of these names."""
    values: dict[str, object] = {}
    for place, name in enumerate(names):
        values |= {
            f"schema_{place}": name.table.schema,
            f"table_{place}": name.table.name,
            f"after_{place}": name.after,
            f"until_{place}": name.until,
            f"columns_{place}": None if name.columns is None else exact_json.dumps(name.columns),
        }
    return values


def _require_no_renames(
    connection: Connection, schema: str, parameters: dict[str, Any], error: Exception
) -> None:
    trail = Sql(f"{quote_identifier(schema)}.logged_actions".replace("%", "%%"))
    if fetch(connection, render("queries/was_renamed", trail=trail), parameters)[0]["renamed"]:
        raise PermissionDeniedError(
            "a table was renamed, and this role may not execute "
            f"{quote_identifier(schema)}.names_of, which tells its events from those of others",
            hint="audit grants --reader ROLE prints the grants that a reader needs",
        ) from error
