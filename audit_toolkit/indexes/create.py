"""A new index on a table and all its leaves without blocking a write, from an ordinary CREATE INDEX."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import Kind, Relation, find_relation
from audit_toolkit.connection import fetch, first_line, import_psycopg
from audit_toolkit.errors import UsageError
from audit_toolkit.indexes import steps
from audit_toolkit.indexes.complete import Completion, Wanted
from audit_toolkit.indexes.model import Catalogue, Index
from audit_toolkit.indexes.read import read_indexes
from audit_toolkit.names import MAX_NAME_BYTES, NamePattern, QualifiedName
from audit_toolkit.plan import Step
from audit_toolkit.templates import query, render_statements, split_statements

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_NAME = r'(?:"(?:[^"]|"")+"|[^\s".(]+)'
_STATEMENT = re.compile(
    rf"""\s* create \s+ (?P<unique>unique\s+)? index \s+ (?:concurrently\s+)? (?:if\s+not\s+exists\s+)?
        (?P<name>(?!on\s){_NAME}) \s+ on \s+ (?:only\s+)? (?P<table>{_NAME}(?:\s*\.\s*{_NAME})?)
        \s* (?:using\s+(?P<method>{_NAME}))? \s* (?P<rest>\(.*?) \s* ;? \s*""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRequest:
    """A CREATE INDEX statement as somebody wrote it."""

    name: str
    table: str
    unique: bool
    using: str

    @classmethod
    def parse(cls, statement: str) -> IndexRequest:
        """Read `create [unique] index NAME on TABLE …`; CONCURRENTLY, IF NOT EXISTS and ONLY are implied.

        Raises `UsageError` for anything else, and for an index without a name.
        """
        found = _STATEMENT.fullmatch(statement)
        if found is None or len(split_statements(statement)) > 1:
            raise UsageError(
                f"not a CREATE INDEX statement with an index name: {statement.strip()[:80]!r}",
                hint="use 'create index orders_actor_idx on orders (actor) where actor is not "
                "null'",
            )
        name = NamePattern.parse(
            found["name"] if found["name"][0] == '"' else found["name"].lower()
        )
        if len(name.name.encode()) > MAX_NAME_BYTES:
            raise UsageError(
                f"PostgreSQL would truncate the name {name.name!r}",
                hint=f"use at most {MAX_NAME_BYTES} bytes",
            )
        return cls(
            name=name.name,
            table=re.sub(r"\s*\.\s*", ".", found["table"]),
            unique=found["unique"] is not None,
            using=f"{found['method'] or 'btree'} {found['rest']}",
        )


def find_table(request: IndexRequest, connection: Connection) -> Relation:
    """The table that the statement is about; raises `UsageError` for what cannot carry the index."""
    relation = find_relation(connection, request.table)
    if relation.kind not in (Kind.TABLE, Kind.PARTITIONED_TABLE, Kind.MATERIALIZED_VIEW):
        raise UsageError(f"{relation.name} is a {relation.kind.words}, which cannot have an index")
    return relation


def understand(
    request: IndexRequest, relation: Relation, catalogue: Catalogue, connection: Connection
) -> Wanted:
    """The index as the server understands it, tried out on an empty temporary table that is gone again.

    Raises `UsageError` with the server's words for a definition that it refuses, and for a name that
    another index has.
    """
    tried = _try_out(request, relation, connection)
    name = QualifiedName(relation.name.schema, request.name)
    there = next((i for i in catalogue.on(relation.oid) if i.name == name), None)
    if there is None and _name_is_taken(name, connection):
        raise UsageError(f"something else is already named {name}", hint="choose another name")
    if there is not None and there.shape != tried.shape:
        raise UsageError(
            f"{name} exists with another definition: {there.definition}",
            hint="drop it first, or choose another name",
        )
    return Wanted(
        name=name,
        table=relation.name,
        table_oid=relation.oid,
        using=tried.using,
        shape=tried.shape,
        unique=request.unique,
        oid=there.oid if there else None,
        constraint=there.constraint if there else None,
        predicate=tried.predicate,
        tablespace=tried.tablespace,
    )


def plan_create(wanted: Wanted, relation: Relation, catalogue: Catalogue) -> list[Step]:
    """The steps that are still missing; none when the index is there, valid, and on every leaf."""
    completion = Completion(catalogue)
    if relation.kind is Kind.PARTITIONED_TABLE:
        declare = [] if wanted.oid else [_frame(wanted)]
        return [*declare, *completion.steps(wanted)]
    if wanted.oid is None:
        return [steps.build(wanted.name, wanted.table, wanted.clause, unique=wanted.unique)]
    index = catalogue.by_oid[wanted.oid]
    return [steps.rebuild(index, catalogue.names)] if index.broken else []


def _frame(wanted: Wanted) -> Step:
    return steps.frame(wanted.name, wanted.table, wanted.clause, unique=wanted.unique)


def _name_is_taken(name: QualifiedName, connection: Connection) -> bool:
    return bool(fetch(connection, query("index_name"), {"schema": name.schema, "name": name.name}))


def _try_out(request: IndexRequest, relation: Relation, connection: Connection) -> Index:
    psycopg = import_psycopg()
    statements = render_statements(
        "indexes/try_out", table=relation.name, unique=request.unique, using=request.using
    )
    try:
        with connection.transaction(force_rollback=True):
            for statement in statements:
                connection.execute(statement)
            table_oid = fetch(connection, query("index_tried_out"))[0]["table_oid"]
            return read_indexes(connection, table_oids=[table_oid])[0]
    except psycopg.errors.InsufficientPrivilege:
        raise
    except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.DataError) as error:
        raise UsageError(
            f"PostgreSQL rejects this index: {first_line(error)}", hint="correct the statement"
        ) from error
