"""What no setting of a role or a database may decide while the trail is verified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@contextmanager
def pinned(connection: Connection) -> Iterator[None]:
    """Nothing that a role or a database has set decides which functions are called, or which rows are seen."""
    statement = render("seals/pin")
    values = {
        "search_path": "pg_catalog, pg_temp",
        "row_security": "off",
        "standard_conforming_strings": "on",
    }
    former = {row["name"]: row["former"] for row in fetch(connection, statement, values)}
    yield
    fetch(connection, statement, former)
