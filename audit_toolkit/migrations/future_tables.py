"""Tables as they will be: what the catalogue would say of them after a revision that is yet to run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.dialects import postgresql

from audit_toolkit.catalog import Column, Table
from audit_toolkit.connection import fetch
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg

FOREIGN = frozenset({"foreign"})
NOWHERE = 0
"""The oid of a table that is not there yet."""


def new_table(
    model: sa.Table, name: QualifiedName, dialect: sa.Dialect, reader: psycopg.Connection[Any]
) -> Table:
    """The table that `op.create_table` of this model will make."""
    return Table(
        oid=NOWHERE,
        name=name,
        partitioned=bool(model.dialect_options["postgresql"]["partition_by"]),
        columns=_columns(model, model.columns, dialect, reader),
    )


def changed_table(
    table: Table,
    model: sa.Table,
    changes: Iterable[ops.MigrateOperation],
    dialect: sa.Dialect,
    reader: psycopg.Connection[Any],
) -> Table:
    """The table after `changes` to it, which lead from the catalogue to the model."""
    columns = {column.name: column for column in table.columns}
    fresh, rekeyed = set(), False
    for change in changes:
        match change:
            case ops.DropColumnOp():
                gone = columns.pop(change.column_name, None)
                rekeyed |= gone is not None and gone.key_position is not None
            case ops.AddColumnOp():
                fresh.add(change.column.name)
                rekeyed |= change.column.primary_key
            case ops.AlterColumnOp() if change.modify_type is not None:
                fresh.add(change.column_name)
            case ops.CreatePrimaryKeyOp():
                rekeyed = True
            case ops.DropConstraintOp(constraint_type="primary"):
                rekeyed = True
    changed = [column for column in model.columns if column.name in fresh]
    for column in _columns(model, changed, dialect, reader):
        before = columns.get(column.name)
        position = before.key_position if before else None
        columns[column.name] = replace(column, key_position=position)
    if rekeyed:
        key = [column.name for column in model.primary_key.columns]
        columns = {
            name: replace(column, key_position=key.index(name) if name in key else None)
            for name, column in columns.items()
        }
    return replace(table, columns=tuple(columns.values()))


def _columns(
    model: sa.Table,
    columns: Iterable[sa.Column[Any]],
    dialect: sa.Dialect,
    reader: psycopg.Connection[Any],
) -> tuple[Column, ...]:
    key = [column.name for column in model.primary_key.columns]
    chosen = [(column, _ddl(column, dialect)) for column in columns]
    types = _read_types(reader, {ddl for _, ddl in chosen})
    return tuple(
        Column(
            name=column.name,
            type_name=_with_length(kind.name or ddl, ddl),
            not_null=not column.nullable,
            generated=column.computed is not None,
            identity=column.identity is not None,
            key_position=key.index(column.name) if column.name in key else None,
            type_parts=kind.parts,
            plain_type=kind.plain,
            computed_from=_computed_from(column, [other.name for other in columns]),
            virtual=_is_virtual(column, dialect),
        )
        for column, ddl in chosen
        for kind in [types[ddl] if types[ddl].name else _unborn(column, dialect, reader)]
    )


def _computed_from(column: sa.Column[Any], names: Iterable[str]) -> frozenset[str]:
    """The columns that its expression may name; one too many is hidden rather than one too few."""
    if column.computed is None:
        return frozenset()
    text = str(column.computed.sqltext).lower()
    return frozenset(name for name in names if name.lower() in text and name != column.name)


def _is_virtual(column: sa.Column[Any], dialect: sa.Dialect) -> bool:
    """Whether it is computed when it is read: from PostgreSQL 18 on, whatever does not say STORED."""
    if column.computed is None:
        return False
    text = str(sa.schema.CreateColumn(column).compile(dialect=dialect))
    return re.search(r"\)\s*STORED\b", text, re.IGNORECASE) is None


def _ddl(column: sa.Column[Any], dialect: sa.Dialect) -> str:
    """The type as CREATE TABLE names it, without its collation, which is no part of its name."""
    ddl = dialect.type_compiler_instance.process(column.type, type_expression=column)
    return re.sub(r'\s+COLLATE\s+("([^"]|"")*"|\S+)', "", ddl, flags=re.IGNORECASE)


def _with_length(type_name: str, ddl: str) -> str:
    length = re.search(r"\(.*\)", ddl)
    return type_name + length[0] if length else type_name


@dataclass(frozen=True, slots=True)
class _Type:
    name: str | None
    """None for a type that the server does not know yet."""
    parts: frozenset[str]
    plain: str | None


def _read_types(reader: psycopg.Connection[Any], names: set[str]) -> Mapping[str, _Type]:
    if not names:
        return {}
    rows = fetch(reader, query("types"), {"names": sorted(names)})
    return {
        row["name"]: _Type(row["type_name"], frozenset(row["type_parts"] or ()), row["plain_type"])
        for row in rows
    }


def _unborn(column: sa.Column[Any], dialect: sa.Dialect, reader: psycopg.Connection[Any]) -> _Type:
    """A type that the same revision makes: an enum, a domain.

    Anything else that the server does not know is of an extension still to be created.
    """
    kind, brackets = column.type.dialect_impl(dialect), ""
    while isinstance(kind, sa.ARRAY):
        kind, brackets = kind.item_type.dialect_impl(dialect), "[]"
    if isinstance(kind, postgresql.ENUM):
        return _Type(None, frozenset(), None)
    if isinstance(kind, postgresql.DOMAIN):
        base = _ddl(sa.Column(column.name, kind.data_type), dialect)
        found = _read_types(reader, {base})[base]
        if found.name:
            return _Type(None, found.parts, found.plain and found.plain + brackets)
    return _Type(None, FOREIGN, None)
