"""Which transaction is meant by its number, where a trail that was moved has several of one number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.templates import render
from audit_toolkit.trail.rows.lookup import require_readable_trail, trail_table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def transaction_starts(
    connection: Connection, number: int, *, schema: str = "audit"
) -> list[datetime | None]:
    """When the transactions of this number began; None for those of which the trail does not know it.

    It is one, unless the trail went on in another cluster, whose numbers begin anew.
    """
    return [row["transaction_tstamp"] for row in _read_starts(connection, number, schema)]


def require_one_transaction(
    connection: Connection,
    number: int,
    schema: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> None:
    """Refuse a number that two clusters have given: their transactions have nothing in common.

    With `since` and `until`, only what was captured in between counts. Raises `UsageError`.
    """
    found = _read_starts(connection, number, schema, since, until)
    if len(found) < 2:
        return
    listed = "; ".join(
        f"events {row['first_event']} to {row['last_event']}, begun {_shown(row)}" for row in found
    )
    raise UsageError(
        f"{len(found)} transactions have the number {number}, in different clusters: {listed}",
        hint=f"name one by its start, {number}@TIME, or tell them apart with --since and --until",
    )


def _shown(row: dict[str, Any]) -> str:
    began: datetime | None = row["transaction_tstamp"]
    if began is None:
        return "before the trail recorded it"
    return began.astimezone(UTC).isoformat(timespec="microseconds")


def _read_starts(
    connection: Connection,
    number: int,
    schema: str,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[dict[str, Any]]:
    require_readable_trail(connection, schema)
    sql = render(
        "queries/transaction_starts",
        trail=trail_table(schema),
        since=since is not None,
        until=until is not None,
    )
    parameters = {"transaction_id": str(number), "since": since, "until": until}
    return fetch(connection, sql, parameters)
