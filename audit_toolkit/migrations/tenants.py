"""A schema for each tenant: a new one captured as another one is, within the transaction that makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from audit_toolkit.capture.selection import is_of_schema
from audit_toolkit.catalog import Relation, read_installed, read_relations
from audit_toolkit.config import TableRule, TrailSettings
from audit_toolkit.connection import import_psycopg
from audit_toolkit.errors import UnknownTableError, UsageError
from audit_toolkit.migrations.sync import Wanted, Wants, plan_sync
from audit_toolkit.names import QualifiedName

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy
    from sqlalchemy import orm

    Connection = psycopg.Connection[Any]
    Source: TypeAlias = "Connection | sqlalchemy.Connection | orm.Session"


def capture_schema(
    connection: Source, schema: str, *, like: str, audit_schema: str = "audit"
) -> list[str]:
    """Put capture on the tables of `schema`, with the rules that those of the schema `like` have.

    For applications that make a schema for each tenant: it runs in the transaction of `connection` (of psycopg, or a
    connection or session of SQLAlchemy; of an async one: `await connection.run_sync(capture_schema, …)`), so that
    the tenant and its capture come together or not at all. The role needs what `audit install` needs. Takes
    SHARE ROW EXCLUSIVE on each table that is not captured yet, and leaves alone what is.

    Returns the tables that are captured now and were not, as `schema.table`.
    Raises `UnknownTableError` for a table that only `like` has, and `UsageError` where nothing of it is captured.
    """
    reading, execute = _ways(connection)
    relations = read_relations(reading)
    wants = wants_like(reading, relations, schema, like=like, audit_schema=audit_schema)
    present = {relation.name for relation in relations}
    if missing := [wanted.table for wanted in wants.tables if wanted.table not in present]:
        raise UnknownTableError(
            f"table {missing[0]} does not exist, but is captured in the schema {like!r}",
            hint="create the tables first, in the same transaction",
        )
    found = plan_sync(reading, relations, wants)
    for statement in found.plan.statements:
        execute(statement)
    return [str(change.table) for change, _ in found.changes]


def wants_like(
    connection: Connection,
    relations: Sequence[Relation],
    schema: str,
    *,
    like: str,
    audit_schema: str,
) -> Wants:
    """The tables of `like`, which may be captured in any way, for each schema that matches `schema`.

    Raises `UsageError` where nothing of `like` is captured, or no schema matches.
    """
    rules = {
        installed.table.name: TableRule.from_dict(installed.options)
        for installed in read_installed(connection, audit_schema)
        if installed.table.schema == like and installed.triggers
    }
    if not rules:
        raise UsageError(
            f"no table of the schema {like!r} is captured",
            hint=f"capture one tenant first: audit install --all-tables --schema {like}",
        )
    schemas = {r.name.schema for r in relations if is_of_schema(r, schema, relations)} - {like}
    if not schemas:
        raise UsageError(f"no other schema {schema!r} has tables", hint="create its tables first")
    return Wants(
        tables=tuple(
            Wanted(table=QualifiedName(each, name), rule=rule, source=f"like {like}")
            for each in sorted(schemas)
            for name, rule in rules.items()
        ),
        trail=TrailSettings(schema=audit_schema),
        trail_is_recorded=False,
    )


def _ways(connection: Any) -> tuple[Connection, Any]:
    """How to read catalogues, and how to run SQL, whatever the driver."""
    if isinstance(connection, import_psycopg().Connection):
        return connection, connection.execute
    import sqlalchemy as sa
    from sqlalchemy.orm import Session, scoped_session

    from audit_toolkit.migrations.sqlalchemy_catalog import reader

    if isinstance(connection, Session | scoped_session):
        connection.flush()
        connection = connection.connection()
    if not isinstance(connection, sa.Connection):
        raise UsageError(
            f"capture cannot be installed through {type(connection).__name__}",
            hint="pass a connection of psycopg, or a session or connection of SQLAlchemy; of an async one: "
            "await connection.run_sync(capture_schema, …)",
        )
    return reader(connection), lambda sql: connection.execute(sa.text(sql.replace(":", r"\:")))
