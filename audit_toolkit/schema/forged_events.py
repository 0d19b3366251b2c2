"""Events that cannot have been captured as they say: somebody wrote them by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

NEWEST = 10_000
"""How many of the newest events a check looks at, unless all are asked for."""


def event_findings(
    connection: Connection, schema: str, *, newest: int | None = NEWEST
) -> Iterator[Finding]:
    """One finding for each event that contradicts what the server notes of its row; of all events with None.

    Raises what psycopg raises where this role may not ask.
    """
    errors = import_psycopg().errors
    try:
        rows = fetch(connection, render("queries/doubtful_events", schema=schema, newest=newest))
    except (errors.UndefinedFunction, errors.UndefinedTable, errors.InvalidSchemaName):
        return  # from an older release, or reported by another finding
    for row in rows:
        yield Finding(
            kind=FindingKind.EVENT_FORGED,
            severity=Severity.ERROR,
            subject=f"event {row['event_id']}",
            message=f"{row['reason']}: somebody inserted it by hand",
            remedy="find out who: compare it with the archive or another copy; events are never "
            "removed",
        )
