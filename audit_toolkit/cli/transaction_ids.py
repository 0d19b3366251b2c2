"""Transactions as people name them: by number, and by the beginning where two have one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_toolkit.cli import times
from audit_toolkit.errors import UsageError
from audit_toolkit.trail import transaction_starts

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

    Connection = psycopg.Connection[Any]

MOST_DIGITS = 20
METAVAR = "N[@TIME]"
HELP = "with @TIME, the one that began then, if two clusters used the same number"


def parse_transaction(
    text: str | None, option: str, *, utc: bool = False
) -> tuple[int | None, datetime | None]:
    """The number, and the beginning if one is named. Raises `UsageError`, which names the option."""
    if text is None:
        return None, None
    number, at, time = text.partition("@")
    if not number.isascii() or not number.isdigit():
        raise UsageError(
            f"{option}: {text!a} is not a valid transaction number", hint="use 757, or 757@TIME"
        )
    if len(number) > MOST_DIGITS:
        raise UsageError(f"{option}: {number} is too high for a transaction number")
    return int(number), times.parse_moment(time, option, utc=utc) if at else None


def start_of(
    connection: Connection, number: int | None, start: datetime | None, schema: str
) -> datetime | None:
    """The exact beginning of that transaction; None where none was named. Raises `UsageError`."""
    if number is None or start is None:
        return None
    there = [began for began in transaction_starts(connection, number, schema=schema) if began]
    # Without a fraction, any moment of that second is meant.
    found = [
        began
        for began in there
        if (began if start.microsecond else began.replace(microsecond=0)) == start
    ]
    if len(found) != 1:
        began = ", ".join(each.isoformat(timespec="microseconds") for each in there)
        raise UsageError(
            f"no single transaction {number} began at {start.isoformat()}",
            hint=f"transactions with that number began at {began}" if there else None,
        )
    return found[0]
