"""What is said beside the data, on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from audit_toolkit.cli.columns import nearest
from audit_toolkit.cli.output import visible
from audit_toolkit.trail.rows.lookup import Tables, since_when

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from audit_toolkit.trail.rows.lookup import Scope

    Connection = psycopg.Connection[Any]


def warn_of_columns(subject: Scope, columns: Iterable[str | None]) -> None:
    """Say where a column may be misspelt; one that the table had once is still in its events."""
    for column in columns:
        if column is not None and subject.columns and column not in subject.columns:
            close = nearest(column, subject.columns)
            note(f"{subject.table} has no column {column!a} now" + (close and f"; {close}"))


def nothing_found(connection: Connection, subject: Scope) -> str:
    """Why there may be no events of a subject."""
    row = f"{subject.table}" if subject.key is None else f"{subject.table} {visible(subject.key)}"
    if subject.known:
        return f"no events of {row} match these filters"
    since = since_when(connection, subject.schema)
    if isinstance(subject, Tables):
        return f"the trail has no events of {row}: nothing has changed {since}"
    if subject.key is not None:
        return f"no such row in the trail: {row}; it has not changed {since}"
    return f"the trail has no events of {row}: it has not changed {since}"


def note_name(subject: Scope) -> None:
    """Say what a table is called that somebody asked for by a name that it had before."""
    former = getattr(subject, "asked_for", None)
    if former is not None:
        note(f"{former} is now called {subject.table}")


def print_warning(diagnostic: psycopg.errors.Diagnostic) -> None:
    """Say what the server warns of, as it does of gaps in capture."""
    from audit_toolkit.cli.values import visible

    if diagnostic.severity_nonlocalized == "WARNING":
        message = (diagnostic.message_primary or "").removeprefix("audit: ")
        print(f"warning: {visible(message)}", file=sys.stderr)
        if diagnostic.message_hint:
            print(f"hint: {visible(diagnostic.message_hint)}", file=sys.stderr)


def note(text: str) -> None:
    """Say something beside the data."""
    from audit_toolkit.cli.values import visible

    print(f"note: {visible(text)}", file=sys.stderr)
