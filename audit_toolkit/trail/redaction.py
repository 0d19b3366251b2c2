"""Erasure: values that nobody may keep are replaced in every event that has them, and an R event tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.attribution.attach import apply_context
from audit_toolkit.attribution.current import current_document
from audit_toolkit.catalog import find_relation
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError, UnknownTableError, UsageError
from audit_toolkit.names import QualifiedName, quote_identifier
from audit_toolkit.templates import render
from audit_toolkit.trail.revert.database_errors import database_errors
from audit_toolkit.trail.rows.keys import key_parts, normalise_key, read_key_columns

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What is to be erased, and why."""

    table: str
    reason: str
    rows: Sequence[str] = ()
    """Primary keys; without any, every row that the table ever had."""
    columns: Sequence[str] = ()
    context_keys: Sequence[str] = ()
    keys: bool = False
    """Also replace the primary keys of the rows."""
    query: bool = False
    """Also the text of the statements."""
    ticket: str | None = None
    force: bool = False
    """Also in partitions that are held."""
    leave_archives: bool = False
    """Although archives may hold such events, which nothing here rewrites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What was erased, or would be."""

    table: QualifiedName
    redactions: tuple[int, ...]
    """The R events: one for each set of names that the columns had; none for a plan."""
    events: int
    keys: int
    """How many keys the rows of these events have, or had."""
    columns: tuple[str, ...]
    context_keys: tuple[str, ...]
    partitions: tuple[str, ...]
    held: tuple[str, ...] = ()
    """Partitions that are held, with the reasons."""
    archived: tuple[str, ...] = ()
    """Partitions that are in an archive, which may hold such events."""
    with_query: int = 0
    """Events of these rows that keep the text of their statement."""

    def as_dict(self) -> dict[str, Any]:
        """The redaction as JSON values."""
        return {
            "table": [self.table.schema, self.table.name],
            "redactions": list(self.redactions),
            "events": self.events,
            "keys": self.keys,
            "columns": list(self.columns),
            "context_keys": list(self.context_keys),
            "partitions": list(self.partitions),
            "held": list(self.held),
            "archived": list(self.archived),
            "with_query": self.with_query,
        }


def redact(
    connection: Connection, erasure: Erasure, *, apply: bool, schema: str = "audit"
) -> Redaction:
    """Erase values from all events of the rows, under all keys and names that they had; or say what would be.

    All of it is one transaction: what is interrupted has changed nothing. Nobody who writes waits for it; sealing,
    maintenance and archiving do. What was erased is in the files of the server until VACUUM FULL (docs/gdpr.md).
    Needs the right to execute `redact` (audit grants --redactor). Raises `UsageError` for what cannot be asked, and
    `AuditError` for held partitions, archives, and whatever else the server refuses.
    """
    if not (erasure.columns or erasure.context_keys or erasure.keys or erasure.query):
        raise UsageError(
            "nothing to redact is named", hint="add --column, --context, --keys or --query"
        )
    if erasure.keys and not erasure.rows:
        raise UsageError("--keys needs the keys of rows", hint="name them behind the table")
    table, keys = _find(connection, erasure)
    asked = {
        "schema_name": table.schema,
        "table_name": table.name,
        "context_keys": list(erasure.context_keys),
        "with_query": erasure.query,
        "force": erasure.force,
        "reason": erasure.reason,
        "ticket": erasure.ticket,
    }
    with database_errors("redact"), connection.transaction():
        # Sealing, maintenance and archiving take the same locks: who comes second is told so.
        connection.execute("set local lock_timeout = '3s'")
        if apply and current_document():
            apply_context(connection)
        # With --keys, the events of one row get one key in place of its own.
        sets: list[list[str] | None] = [None]
        if keys:
            sets = [[key] for key in keys] if erasure.keys else [keys]
        found = []
        for some in sets:
            question = {
                "row_keys": some,
                "columns": list(erasure.columns),
                "with_keys": erasure.keys,
            }
            sql = render("queries/redactable", trail_schema=schema)
            [row] = fetch(connection, sql, asked | question)
            found.append(row["said"])
            _require_known(table, row["said"], some)
            if apply:
                _require_reachable(row["said"], erasure)
                row["said"]["redactions"] = _erase(connection, schema, row["said"], asked, erasure)
    return _summed(table, found, erasure)


def _require_known(table: QualifiedName, said: dict[str, Any], rows: list[str] | None) -> None:
    """Raise `UsageError` for a column or a row that the trail never had: nobody is to believe it erased."""
    if said["unknown"]:
        names = ", ".join(quote_identifier(name) for name in said["unknown"])
        raise UsageError(
            f"{table} has no column {names}, and no event has one of that name",
            hint=f"audit history {table} shows the columns, under their present names",
        )
    if rows and not said["found"]:
        raise UsageError(
            f"no such row in the trail: {table} {', '.join(rows)}",
            hint="keys are those that the row has or had, a JSON array for a key of several columns",
        )


def _require_reachable(said: dict[str, Any], erasure: Erasure) -> None:
    """Raise `AuditError` where a value would stay that nothing here can erase."""
    if said["archived_here"]:
        raise AuditError(
            f"partitions with these events are archived already: {', '.join(said['archived_here'])}",
            hint="once they are dropped (audit partitions run), redact what is left with --leave-archives",
        )
    if said["archived"] and not erasure.leave_archives:
        raise AuditError(
            f"archives may hold such events, and are not rewritten: {', '.join(said['archived'])}",
            hint="rewrite the archives by other means, and add --leave-archives to redact the rest",
        )


def _erase(
    connection: Connection,
    schema: str,
    said: dict[str, Any],
    asked: dict[str, Any],
    erasure: Erasure,
) -> list[int]:
    sql = render("queries/redact", trail_schema=schema)
    return [
        fetch(
            connection,
            sql,
            asked
            | {
                "ids": group["ids"],
                "columns": group["columns"],
                "with_keys": erasure.keys and group["is_own"],
            },
        )[0]["redaction_id"]
        for group in said["groups"]
    ]


def _summed(table: QualifiedName, found: list[dict[str, Any]], erasure: Erasure) -> Redaction:
    def together(name: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(value for said in found for value in said.get(name, ())))

    return Redaction(
        table=table,
        redactions=together("redactions"),
        events=len(
            {number for said in found for group in said["groups"] for number in group["ids"]}
        ),
        keys=sum(said["keys"] for said in found),
        columns=together("columns"),
        context_keys=tuple(erasure.context_keys),
        partitions=together("partitions"),
        held=together("held"),
        archived=together("archived"),
        with_query=sum(said["with_query"] for said in found),
    )


def _find(connection: Connection, erasure: Erasure) -> tuple[QualifiedName, list[str]]:
    """The table, and the keys as the trail has them; of a table that is gone as they were given."""
    try:
        relation = find_relation(connection, erasure.table)
    except UnknownTableError:
        schema, dot, name = erasure.table.partition(".")
        if not dot:
            raise
        return QualifiedName(schema, name), list(erasure.rows)
    columns = read_key_columns(connection, relation.oid)
    table = relation.root or relation.name
    # A former key may be of a former type, and one that was erased is of none.
    found = [normalise_key(connection, columns, key_parts(key)) or key for key in erasure.rows]
    if erasure.rows and not columns:
        raise UsageError(
            f"{table} has no primary key, so that no row of it can be named",
            hint=f"without a key, {quote_identifier(table.name)} is redacted as a whole",
        )
    return table, found
