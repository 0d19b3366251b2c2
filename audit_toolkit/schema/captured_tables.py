"""What the trail knows of the tables that it captures, kept up to what DDL did to them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, import_psycopg, translated_errors
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def note_changes(connection: Connection, schema: str) -> int:
    """Write an M event for each change that DDL made to an audited table since this was last asked.

    Returns their number; 0 on a trail of a release that has no such events. In the transaction that is
    open, or one of its own.
    """
    with translated_errors():
        [there] = fetch(connection, render("registry/is_there", schema=schema))
        if not there["is_there"]:
            return 0
        [noted] = fetch(connection, render("registry/note_changes", schema=schema))
    return int(noted["events"])


def note_coverage(connection: Connection, schema: str) -> int:
    """Write an M event for each table whose capture is not what the trail last said of it; how many.

    0 where this role may not, or the trail is of a release that has no such events.
    """
    errors = import_psycopg().errors
    with (
        suppress(errors.InsufficientPrivilege, errors.UndefinedFunction),
        connection.transaction(),
    ):
        [noted] = fetch(connection, render("registry/note_coverage", schema=schema))
        return int(noted["events"])
    return 0


def read_interrupted(connection: Connection, schema: str) -> frozenset[QualifiedName]:
    """The tables whose triggers are on, but were switched off or made anew since that was noted.

    None where this role may not read the registry, or the trail is of a release that has none.
    """
    errors = import_psycopg().errors
    with suppress(errors.InsufficientPrivilege, errors.UndefinedTable), connection.transaction():
        rows = fetch(connection, render("home/interrupted", schema=schema))
        return frozenset(QualifiedName(row["schema_name"], row["table_name"]) for row in rows)
    return frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidCaptured:
    """A table that is captured, says the trail."""

    table: QualifiedName
    event_id: int
    """The event that said so last."""
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unregistered:
    """What the registry of captured tables lacks."""

    functions: tuple[str, ...] = ()
    """Capture functions with triggers."""
    tables: tuple[SaidCaptured, ...] = ()


def read_unregistered(connection: Connection, schema: str) -> Unregistered:
    """What triggers and events say is captured, and the registry does not.

    Nothing where this role may not read that, or the trail is of a release that has no registry.
    """
    errors = import_psycopg().errors
    with suppress(errors.InsufficientPrivilege, errors.UndefinedTable), connection.transaction():
        rows = fetch(connection, render("registry/unregistered", schema=schema))
        return Unregistered(
            functions=tuple(row["function_name"] for row in rows if row["function_name"]),
            tables=tuple(
                SaidCaptured(
                    table=QualifiedName(row["schema_name"], row["table_name"]),
                    event_id=row["event_id"],
                    options=row["options"] or {},
                )
                for row in rows
                if row["event_id"] is not None
            ),
        )
    return Unregistered()
