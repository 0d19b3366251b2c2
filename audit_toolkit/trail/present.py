"""Tables and their rows as they are now, for what is to be put back into them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import Table, read_installed, read_relations, read_table
from audit_toolkit.config import TableRule
from audit_toolkit.connection import fetch, prepare_session
from audit_toolkit.errors import UsageError
from audit_toolkit.names import QualifiedName, Sql, quote_identifier
from audit_toolkit.templates import query, render
from audit_toolkit.trail import exact
from audit_toolkit.trail.model import Row
from audit_toolkit.trail.order import Reference
from audit_toolkit.trail.travel import answered

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A table of the plan, and the columns of it whose values are not in the trail."""

    table: Table
    hidden: tuple[str, ...]
    excluded: tuple[str, ...]

    @property
    def writable(self) -> tuple[str, ...]:
        """The columns that a statement can set."""
        return tuple(c.name for c in self.table.columns if not c.generated)


def read_homes(
    connection: Connection, tables: Iterable[QualifiedName], schema: str
) -> dict[QualifiedName, Home]:
    """The tables that rows are put back into.

    Raises `UsageError` for one that is gone or has no primary key.
    """
    tables = list(tables)
    names = {table.name for table in tables}
    relations = {relation.name: relation for relation in read_relations(connection, names)}
    options = {i.table: i.options for i in read_installed(connection, schema)}
    homes = {}
    for name in tables:
        if name not in relations:
            raise UsageError(
                f"{name} is gone, so nothing can be put back into it",
                hint="make the table again first; audit history shows its rows",
            )
        table = read_table(connection, relations[name])
        if not table.key:
            raise UsageError(f"{name} has no primary key: its rows cannot be told apart")
        homes[name] = _describe(table, options.get(name, {}))
    return homes


def _describe(table: Table, options: dict[str, Any]) -> Home:
    masked = tuple(options.get("mask", ()))
    only = options.get("only") or ()
    left_out = tuple(
        c.name
        for c in table.columns
        if only and c.name not in only and c.name not in table.key and not c.generated
    )
    excluded = (*(c for c in options.get("exclude", ()) if table.column(c)), *left_out)
    return Home(table=table, hidden=masked, excluded=excluded)


def read_present(
    connection: Connection, table: Table, rows: Sequence[Row], *, lock: bool = False
) -> list[Row | None]:
    """The row that has each of these keys now, printed as capture prints it."""
    keys = {"keys": exact.dumps([{c: row.get(c) for c in table.key} for row in rows])}
    with answered():
        if lock:  # what it waits for is seen by the statement after it only
            connection.execute(_present_rows(table, lock=True), keys)
        with connection.transaction(force_rollback=True):
            prepare_session(connection)
            answers = fetch(connection, _present_rows(table, lock=False), keys)
    found = {row["place"]: exact.loads(row["image"]) for row in answers}
    return [found.get(place) for place in range(1, len(rows) + 1)]


def _present_rows(table: Table, *, lock: bool) -> str:
    return render(
        "queries/present_rows",
        relation=Sql(table.name.sql.replace("%", "%%")),
        image=Sql(_image(table).replace("%", "%%")),
        key=tuple(Sql(quote_identifier(c).replace("%", "%%")) for c in table.key),
        lock=lock,
    )


def _image(table: Table) -> str:
    return render(
        "queries/image",
        foreign=any(column.plain_type is None for column in table.columns),
        image_columns=table.columns,
        rule=TableRule(),
    ).strip()


def key_values_of(table: Table, key: str | None) -> Row:
    """The columns of a key, from the text that the trail has."""
    if len(table.key) == 1:
        return {table.key[0]: key}
    return dict(zip(table.key, exact.loads(key or "[]"), strict=True))


def read_references(connection: Connection) -> tuple[Reference, ...]:
    """The foreign keys of the database."""
    return tuple(
        Reference(
            child=QualifiedName(row["schema_name"], row["table_name"]),
            parent=QualifiedName(row["parent_schema"], row["parent_name"]),
            deferrable=row["deferrable"],
            nullable=tuple(row["nullable"]),
        )
        for row in fetch(connection, query("references"))
    )
