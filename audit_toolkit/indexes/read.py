"""Read indexes, partitions and running builds: no locks beyond those of a SELECT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_relations, resolve
from audit_toolkit.connection import fetch
from audit_toolkit.errors import UnknownTableError
from audit_toolkit.indexes.model import Catalogue, Constraint, Index, Partition
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose indexes: those of named tables with all their leaves, of a schema, or of everything."""

    tables: tuple[str, ...] = ()
    schema: str | None = None
    everything: bool = False


def read_catalogue(connection: Connection, scope: Scope) -> Catalogue:
    """All indexes in scope; raises `UnknownTableError` for a table that is not there.

    Definitions are printed with every name qualified, so that they mean the same in any session.
    """
    tables = _table_oids(connection, scope.tables)
    if scope.schema is not None:
        _check_schema(connection, scope.schema)
    indexes = read_indexes(
        connection, table_oids=tables, schema=scope.schema, everything=scope.everything
    )
    partitions = _read_partitions(connection)
    schemas = {index.name.schema for index in indexes} | {p.name.schema for p in partitions}
    return Catalogue(
        indexes=indexes,
        partitions=partitions,
        names=_read_names(connection, sorted(schemas)),
        statistics_days=fetch(connection, query("statistics_age"))[0]["days"],
        server_version=connection.info.server_version,
    )


def read_indexes(
    connection: Connection,
    *,
    table_oids: Sequence[int] = (),
    schema: str | None = None,
    everything: bool = False,
) -> tuple[Index, ...]:
    """The indexes of these tables, of a schema, or of everything that is not PostgreSQL's own."""
    parameters = {"tables": list(table_oids), "schema": schema, "everything": everything}
    with connection.transaction():
        connection.execute("select set_config('search_path', 'pg_catalog', true)")
        return tuple(_index(row) for row in fetch(connection, query("indexes"), parameters))


def _read_names(connection: Connection, schemas: Sequence[str]) -> frozenset[QualifiedName]:
    rows = fetch(connection, query("relation_names"), {"schemas": schemas})
    return frozenset(QualifiedName(row["schema_name"], row["name"]) for row in rows)


def _read_partitions(connection: Connection) -> tuple[Partition, ...]:
    return tuple(
        Partition(
            oid=row["oid"],
            name=QualifiedName(row["schema_name"], row["table_name"]),
            parent_oid=row["parent_oid"],
            parent=QualifiedName(row["parent_schema"], row["parent_name"]),
            partitioned=row["partitioned"],
            detach_pending=row["detach_pending"],
        )
        for row in fetch(connection, query("index_partitions"))
    )


def _table_oids(connection: Connection, tables: Sequence[str]) -> list[int]:
    if not tables:
        return []
    relations = read_relations(connection)
    oids = [resolve(table, relations).oid for table in tables]
    return [
        row["oid"]
        for oid in oids
        for row in fetch(connection, query("index_tables"), {"table": oid})
    ]


def _check_schema(connection: Connection, schema: str) -> None:
    if not fetch(connection, query("index_schema"), {"schema": schema}):
        raise UnknownTableError(
            f"schema {schema!r} does not exist in this database",
            hint="--all covers all schemas, --table one table with its partitions",
        )


def _index(row: dict[str, Any]) -> Index:
    same = ("oid", "table_oid", "partitioned", "toast", "valid", "ready", "live", "exclusion",
            "replica_identity", "parent_oid", "definition", "predicate", "has_options", "tablespace",
            "access_method", "scans", "busy_pid")  # fmt: skip
    return Index(
        name=QualifiedName(row["schema_name"], row["index_name"]),
        table=QualifiedName(row["table_schema"], row["table_name"]),
        unique=row["is_unique"],
        primary=row["is_primary"],
        constraint=_constraint(row),
        keys=tuple(row["keys"]),
        included=tuple(row["included"] or ()),
        size=row["bytes"],
        **{name: row[name] for name in same},
    )


def _constraint(row: dict[str, Any]) -> Constraint | None:
    if row["constraint_name"] is None:
        return None
    return Constraint(
        name=row["constraint_name"],
        kind=row["constraint_type"],
        deferrable=row["deferrable"],
        deferred=row["deferred"],
    )
