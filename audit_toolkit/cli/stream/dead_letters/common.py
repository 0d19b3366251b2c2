"""What the commands of `audit stream dead-letters` share."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.errors import UsageError
from audit_toolkit.stream import read_letters

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

Events = Annotated[
    list[int] | None,
    typer.Option(
        "--event",
        metavar="EVENT",
        min=1,
        help="Only this event. Repeatable. Without it: all.",
        show_default=False,
    ),
]


def require_letters(
    connection: Connection, name: str, events: Sequence[int] | None, number: int, schema: str
) -> None:
    """Raises `UsageError` where an event that was named is no dead letter of the consumer."""
    if not events or number == len(set(events)):
        return
    there = {letter.event_id for letter in read_letters(connection, name, schema=schema)}
    raise UsageError(
        f"{name} has no such dead letter: {', '.join(str(e) for e in events if e not in there)}",
        hint=f"audit stream dead-letters list {shlex.quote(name)}",
    )
