"""Moments with names: an event of the trail itself, to which tables can be put back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.attribution.attach import apply_context
from audit_toolkit.attribution.current import current_document
from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.templates import render
from audit_toolkit.trail.revert.database_errors import database_errors
from audit_toolkit.trail.rows.lookup import require_readable_trail, trail_table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A named moment of the trail."""

    name: str
    event_id: int
    """What has a higher number came later."""
    at: datetime | None = None


def set_mark(connection: Connection, name: str, *, schema: str = "audit") -> Mark:
    """Write a mark into the trail, in the transaction that is open or one of its own.

    What other transactions do at the same moment falls before or after it, event by event.
    Needs the right to insert into the trail: its owner's. Raises `UsageError` for a name that is taken.
    """
    if not name.strip():
        raise UsageError("a mark needs a name", hint="add a name: audit mark before-import")
    require_readable_trail(connection, schema)
    with database_errors("set the mark"), connection.transaction():
        if _read_marks(connection, schema, name):
            raise UsageError(f"a mark {name!r} already exists", hint="choose another name")
        if current_document():
            apply_context(connection)
        [row] = fetch(
            connection, render("undo/mark", schema=schema, name=name).replace("%", "%%"), {}
        )
    return Mark(name=name, event_id=row["event_id"])


def find_mark(connection: Connection, name: str, *, schema: str = "audit") -> Mark:
    """The mark of that name; raises `UsageError` where there is none."""
    require_readable_trail(connection, schema)
    if found := _read_marks(connection, schema, name):
        return found[0]
    there = ", ".join(mark.name for mark in _read_marks(connection, schema, None))
    raise UsageError(
        f"the trail has no mark {name!r}",
        hint=f"there are {there}" if there else "audit mark NAME sets one",
    )


def _read_marks(connection: Connection, schema: str, name: str | None) -> list[Mark]:
    sql = render("queries/marks", trail=trail_table(schema), named=name is not None)
    return [
        Mark(name=row["name"], event_id=row["event_id"], at=row["action_tstamp"])
        for row in fetch(connection, sql, {"schema_name": schema, "name": name})
    ]
