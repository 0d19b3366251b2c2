"""Tables and their rows as they are now, for what is to be put back into them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.catalog import Table, read_installed, read_relations, read_table
from audit_toolkit.connection import fetch, prepared_session
from audit_toolkit.errors import UsageError
from audit_toolkit.names import QualifiedName, Sql, quote_identifier
from audit_toolkit.templates import query, render
from audit_toolkit.trail.event import Row
from audit_toolkit.trail.revert.ordering import Reference, value_of
from audit_toolkit.trail.rows.lookup import trail_table
from audit_toolkit.trail.rows.table_names import find_names, of_names
from audit_toolkit.trail.time_travel import answered

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertTarget:
    """A table of the plan, and the columns of it whose values are not in the trail."""

    table: Table
    hidden: tuple[str, ...]
    excluded: tuple[str, ...]
    touch: tuple[str, ...]
    """Columns that say only when or how often a row was written: never put back, and no conflict."""
    types: dict[str, str]
    """The type of each column, as SQL."""
    foreign: tuple[str, ...]
    """Columns whose values are in the trail as their text."""
    loose: tuple[str, ...]
    """Columns of which different texts can be equal values."""
    always: tuple[str, ...]
    """Columns GENERATED ALWAYS AS IDENTITY, which no UPDATE can set."""
    never_null: tuple[str, ...]
    """Columns of JSON that refuse NULL, and so hold JSON null where a row's image says null."""
    ordered: tuple[str, ...]
    """Columns that are unique, or exclude other rows, at once."""
    key_deferrable: bool
    row_security: bool
    """Whether rows may be hidden from this role."""
    has_triggers: bool
    """Whether triggers of others may change a row again."""
    captured: bool
    """Whether the trail has what is done to it."""

    @property
    def has_heirs(self) -> bool:
        """Whether other tables inherit from it, whose rows are not its own and may have the same keys."""
        return bool(self.table.heirs)

    def key_of(self, row: Row) -> str | None:
        """The key of a row, the same for equal keys."""
        return value_of(row, self.table.key, self.loose)

    @property
    def ignored(self) -> tuple[str, ...]:
        """The columns whose values say nothing about who changed a row."""
        return (*self.touch, *(c.name for c in self.table.columns if c.generated))

    @property
    def writable(self) -> tuple[str, ...]:
        """The columns that a statement can set."""
        return tuple(c.name for c in self.table.columns if not c.generated)


def read_homes(
    connection: Connection,
    tables: Iterable[QualifiedName],
    schema: str,
    *,
    ignore: Sequence[str] = (),
) -> dict[QualifiedName, RevertTarget]:
    """The tables that rows are put back into; `ignore` are columns of any of them to leave alone.

    Raises `UsageError` for one that is gone.
    """
    tables = list(tables)
    homes = find_homes(connection, tables, schema, ignore=ignore)
    for name in tables:
        if name not in homes:
            raise UsageError(
                f"{name} no longer exists, so nothing can be put back into it",
                hint="create the table again first; audit history shows its rows",
            )
    return homes


def find_homes(
    connection: Connection,
    tables: Iterable[QualifiedName],
    schema: str,
    *,
    ignore: Sequence[str] = (),
) -> dict[QualifiedName, RevertTarget]:
    """Those of the tables that are there; see `read_homes`."""
    tables = list(tables)
    names = {table.name for table in tables}
    relations = {relation.name: relation for relation in read_relations(connection, names)}
    options = {i.table: i.options for i in read_installed(connection, schema)}
    return {
        name: _describe(
            connection,
            read_table(connection, relations[name]),
            options.get(name, {}),
            ignore,
            schema,
        )
        for name in tables
        if name in relations
    }


def _describe(
    connection: Connection,
    table: Table,
    options: dict[str, Any],
    ignore: Sequence[str],
    schema: str,
) -> RevertTarget:
    masked = tuple(options.get("mask", ()))
    only = options.get("only") or ()
    left_out = tuple(
        c.name
        for c in table.columns
        if only and c.name not in only and c.name not in table.key and not c.generated
    )
    excluded = (*(c for c in options.get("exclude", ()) if table.column(c)), *left_out)
    with connection.transaction(force_rollback=True):
        connection.execute("set local search_path = pg_catalog")
        [facts] = fetch(connection, query("undo_table"), {"table": table.oid, "schema": schema})
    touch = (*options.get("touch", ()), *ignore)
    return RevertTarget(
        table=table,
        hidden=masked,
        excluded=excluded,
        touch=tuple(dict.fromkeys(c for c in touch if c not in table.key)),
        types=facts["types"],
        foreign=tuple(facts["foreign_columns"]),
        loose=(*facts["foreign_columns"], *facts["loose"]),
        always=tuple(facts["always"]),
        never_null=tuple(facts["never_null"]),
        ordered=tuple(facts["ordered"]),
        key_deferrable=facts["key_deferrable"],
        row_security=facts["row_security"],
        has_triggers=facts["has_triggers"],
        captured=facts["captured"],
    )


def is_known_there(
    connection: Connection, table: QualifiedName, key: str | None, schema: str
) -> bool:
    """Whether a row is in its table now, as far as the trail knows."""
    names = find_names(connection, schema, table)
    sql = render("queries/is_known_there", trail=trail_table(schema), names=names)
    return bool(fetch(connection, sql, {**of_names(names), "row_key": key})[0]["is_there"])


def read_present(
    connection: Connection, home: RevertTarget, rows: Sequence[Row], *, lock: bool = False
) -> list[Row | None]:
    """The row that has each of these keys now, printed as capture prints it."""
    table = home.table
    if not rows or not table.key:
        return [None] * len(rows)
    keys = {"keys": exact_json.dumps([{c: row.get(c) for c in table.key} for row in rows])}
    with answered():
        if lock:  # only the next statement sees what the lock waited for
            connection.execute(_present_rows(home, lock=True), keys)
        with prepared_session(connection):
            answers = fetch(connection, _present_rows(home, lock=False), keys)
    found = {row["place"]: exact_json.loads(row["image"]) for row in answers}
    return [found.get(place) for place in range(1, len(rows) + 1)]


def _present_rows(home: RevertTarget, *, lock: bool) -> str:
    def with_parameters(text: str) -> Sql:
        return Sql(text.replace("%", "%%"))

    def column(name: str) -> Sql:
        return with_parameters(quote_identifier(name))

    return render(
        "queries/present_rows",
        relation=with_parameters(f"{'only ' if home.has_heirs else ''}{home.table.name.sql}"),
        key=tuple((column(c), with_parameters(home.types[c])) for c in home.table.key),
        columns=tuple((column(c.name), c.name in home.foreign) for c in home.table.columns),
        lock=lock,
    )


def key_values_of(table: Table, key: str | None) -> Row:
    """The columns of a key, from the text that the trail has."""
    if len(table.key) == 1:
        return {table.key[0]: key}
    return dict(zip(table.key, exact_json.loads(key or "[]"), strict=True))


def read_references(connection: Connection) -> tuple[Reference, ...]:
    """The foreign keys of the database."""
    return tuple(
        Reference(
            child=QualifiedName(row["schema_name"], row["table_name"]),
            columns=tuple(row["columns"]),
            parent=QualifiedName(row["parent_schema"], row["parent_name"]),
            parent_columns=tuple(row["parent_columns"]),
            deferrable=row["deferrable"],
            acts_on_delete=row["acts_on_delete"],
            acts_on_update=row["acts_on_update"],
            temporal=row["temporal"],
            nullable=tuple(row["nullable"]),
        )
        for row in fetch(connection, query("references"))
    )
