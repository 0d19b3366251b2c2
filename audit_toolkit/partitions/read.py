"""Read the partitions: catalogue queries and the two small tables that maintenance keeps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_trail
from audit_toolkit.config import Interval
from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions.model import Blocker, Entry, Leaf, Partitions, State, Stray
from audit_toolkit.templates import query, render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

PATIENCE = 300
"""Seconds after which an open transaction that used the trail counts as long."""


def read_partitions(
    connection: Connection,
    schema: str,
    *,
    now: datetime | None = None,
    patience: float = PATIENCE,
) -> Partitions:
    """Everything that decides what is to be done; takes no locks beyond those of a SELECT.

    `now` takes the place of the server's clock. Raises `UsageError` when the database has no trail.
    """
    interval = _interval(connection, schema)
    facts = _facts(connection, schema)
    trail = {"trail": facts["trail"], "patience": patience}
    named = {"schema": schema}
    recorded = [
        _entry(row) for row in fetch(connection, render("partitions/entries", schema=schema))
    ]
    known = {e.oid for e in recorded if e.state in (State.DETACHING, State.DETACHED)}
    # Of what is known to be detached nothing is asked: a drop may have locked it.
    strays = [
        _stray(connection, row, schema if facts["by_function"] else None)
        for row in fetch(connection, query("partition_strays"), named)
        if row["oid"] not in known
    ]
    return Partitions(
        schema=schema,
        now=(now or facts["now"]).astimezone(UTC),
        interval=interval,
        leaves=tuple(
            _leaf(connection, row, schema)
            for row in fetch(connection, query("partition_leaves"), named)
        ),
        entries=tuple(recorded),
        strays=tuple(strays),
        blockers=tuple(
            Blocker(**row) for row in fetch(connection, query("partition_blockers"), trail)
        ),
        taken_names=frozenset(
            row["name"] for row in fetch(connection, query("partition_names"), named)
        ),
        by_function=facts["by_function"],
        last_success=facts["last_success"],
    )


def _interval(connection: Connection, schema: str) -> Interval:
    recorded = read_trail(connection, schema)
    if not recorded:
        raise UsageError(
            f"there is no audit trail in schema {schema!r} of this database",
            hint="run audit install, or name its schema with --audit-schema",
        )
    return Interval(recorded.get("interval", Interval.MONTH))


def _facts(connection: Connection, schema: str) -> dict[str, Any]:
    try:
        return fetch(connection, render("partitions/facts", schema=schema))[0]
    except import_psycopg().errors.UndefinedTable as error:
        raise AuditError(
            "the trail was installed by an older audit-toolkit: it keeps no record of maintenance",
            hint="upgrade the trail: run audit install and apply the migration",
        ) from error


def _leaf(connection: Connection, row: dict[str, Any], schema: str) -> Leaf:
    name = QualifiedName(row.pop("schema_name"), row.pop("name"))
    catches_all = row["plain"] and row["upper"] is None
    return Leaf(
        **row, name=name, has_rows=catches_all and _is_used(connection, name, row["lower"], schema)
    )


def _is_used(
    connection: Connection, name: QualifiedName, lower: datetime | None, schema: str
) -> bool:
    """Whether the tail or a DEFAULT holds events; of the tail, whoever reads the trail may know."""
    if lower is None:
        return has_rows(connection, name)
    values = {"schema": schema, "lower": lower}
    used: bool = fetch(connection, render("partitions/tail_is_used", **values))[0]["is_used"]
    return used


def has_rows(connection: Connection, leaf: QualifiedName) -> bool:
    """Whether a table holds anything; needs SELECT on it."""
    found: bool = fetch(connection, render("partitions/has_rows", leaf=leaf))[0]["has_rows"]
    return found


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**(row | {"state": State(row["state"])}))


def _stray(connection: Connection, row: dict[str, Any], function_in: str | None) -> Stray:
    """A maintainer asks a function of the trail, in the schema `function_in`, what a table holds."""
    name = QualifiedName(row["schema_name"], row["name"])
    if function_in is None:
        return Stray(oid=row["oid"], name=name, has_rows=has_rows(connection, name))
    asked = fetch(connection, render("maintainer/has_rows", schema=function_in, leaf=name))
    return Stray(oid=row["oid"], name=name, has_rows=asked[0]["has_rows"])
