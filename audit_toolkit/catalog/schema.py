"""Everything that the schema of a trail holds, as facts that can be held against what is expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.names import quote_identifier
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

HOME = "audit"
"""The schema that definitions speak of, whatever the trail's own is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that the catalogue says: a column with its type and default, a trigger, a grant."""

    kind: str
    """`column`, `constraint`, `trigger`, `rule`, `policy`, `index`, `function`, `owner`, `grant`, …"""
    relation: str | None
    """The table that it is of, or the name of a function; None for the schema itself."""
    is_leaf: bool
    object: str
    """How it is called in SQL."""
    name: str | None
    """What identifies it within its relation; None for what leaves call each by another name."""
    definition: str


def read_facts(connection: Connection, schema: str) -> tuple[Fact, ...]:
    """The facts of a schema; any role may read them. Names in definitions are qualified."""
    with connection.transaction():
        connection.execute("set local search_path = pg_catalog, pg_temp")
        rows = fetch(connection, query("schema_facts"), {"schema": schema})
    return tuple(_fact(row, f"{quote_identifier(schema)}.") for row in rows)


def _fact(row: dict[str, Any], home: str) -> Fact:
    definition = " ".join(row["definition"].split())  # CASE is printed on several lines
    return Fact(**(row | {"definition": definition.replace(home, f"{HOME}.")}))
