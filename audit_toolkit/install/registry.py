"""What the trail knows of the tables that it captures, kept up to what DDL did to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, translated_errors
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
