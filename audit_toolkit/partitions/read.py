"""Read the partitions: catalogue queries and the two small tables that maintenance keeps."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_trail
from audit_toolkit.config import Interval
from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions.clock import LEAP, Clock
from audit_toolkit.partitions.model import (
    ConsumerHold,
    DetachBlocker,
    Entry,
    Leaf,
    Partitions,
    PartitionState,
    Stray,
)
from audit_toolkit.partitions.rate import WINDOW, Counted, events_a_day
from audit_toolkit.templates import query, render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

MOST = 100
"""Partitions beyond now that are asked for their newest event."""
PATIENCE = 300
"""Seconds after which an open transaction that used the trail counts as long."""


def read_partitions(
    connection: Connection,
    schema: str,
    *,
    now: datetime | None = None,
    patience: float = PATIENCE,
) -> Partitions:
    """Everything that decides what is to be done; takes no locks beyond those of a SELECT.

    `now` takes the place of the server's clock. Raises `UsageError` when the database has no trail.
    """
    interval = _interval(connection, schema)
    facts = _facts(connection, schema)
    trail = {"trail": facts["trail"], "patience": patience}
    named = {"schema": schema}
    leaves = tuple(
        _leaf(connection, row, schema)
        for row in fetch(connection, query("partition_leaves"), named)
    )
    clock = _clock(connection, schema, facts, leaves, now)
    recorded = [
        _entry(row) for row in fetch(connection, render("partitions/entries", schema=schema))
    ]
    known = {
        e.oid for e in recorded if e.state in (PartitionState.DETACHING, PartitionState.DETACHED)
    }
    # Detached partitions are not read here: a drop may have locked them.
    strays = [
        _stray(connection, row, schema if facts["by_function"] else None)
        for row in fetch(connection, query("partition_strays"), named)
        if row["oid"] not in known
    ]
    return Partitions(
        schema=schema,
        now=clock.now,
        clock=clock,
        interval=interval,
        leaves=leaves,
        entries=tuple(recorded),
        strays=tuple(strays),
        blockers=tuple(
            DetachBlocker(who=row["who"], application=row["application"], seconds=row["seconds"])
            for row in fetch(connection, render("queries/partition_blockers"), trail)
        ),
        taken_names=frozenset(
            row["name"] for row in fetch(connection, query("partition_names"), named)
        ),
        by_function=facts["by_function"],
        last_success=facts["last_success"],
        consumer_holds=_consumer_holds(connection, schema, leaves),
        events_a_day=_rate(connection, schema, leaves, clock.now),
    )


def _rate(
    connection: Connection, schema: str, leaves: tuple[Leaf, ...], now: datetime
) -> float | None:
    """How many events a day came lately: from the first event of the first partition that counts to the newest."""
    past = [
        leaf
        for leaf in leaves
        if leaf.filled and leaf.lower and leaf.upper and leaf.lower <= now < leaf.upper + WINDOW
    ]
    if not past:
        return None
    first = _edge(connection, schema, past[0], "first_captured")
    return events_a_day(first, _edge(connection, schema, past[-1], "newest_event"), now)


def _edge(connection: Connection, schema: str, leaf: Leaf, which: str) -> Counted | None:
    bounds = {"schema": schema, "lower": leaf.lower, "upper": leaf.upper}
    rows = fetch(connection, render(f"partitions/{which}", **bounds))
    return Counted(event_id=rows[0]["event_id"], at=rows[0]["action_tstamp"]) if rows else None


def _consumer_holds(
    connection: Connection, schema: str, leaves: tuple[Leaf, ...]
) -> tuple[ConsumerHold, ...]:
    """What consumers ask for; nothing where this role may not know, or the trail has no consumers."""
    errors = import_psycopg().errors
    with suppress(errors.UndefinedTable, errors.InsufficientPrivilege), connection.transaction():
        rows = fetch(connection, render("partitions/consumer_holds", schema=schema))
        holds = [
            ConsumerHold(since=since, hold_for=row["hold_for"])
            for row in rows
            if (since := _first_after(connection, schema, leaves, row["event_id"]))
        ]
        return tuple(holds)
    return ()


def _first_after(
    connection: Connection, schema: str, leaves: tuple[Leaf, ...], event_id: int
) -> datetime | None:
    """When the first event behind that one was; partition by partition, as all at once may be too many."""
    for leaf in leaves:
        if not leaf.filled:
            continue
        bounds = {"schema": schema, "lower": leaf.lower, "upper": leaf.upper}
        (found,) = fetch(
            connection, render("partitions/first_after", **bounds), {"event_id": event_id}
        )
        if found["since"]:
            since: datetime = found["since"]
            return since
    return None


def _interval(connection: Connection, schema: str) -> Interval:
    recorded = read_trail(connection, schema)
    if not recorded:
        raise UsageError(
            f"the database has no audit trail in the schema {schema!r}",
            hint="run audit install, or name its schema with --audit-schema",
        )
    return Interval(recorded.get("interval", Interval.MONTH))


def _facts(connection: Connection, schema: str) -> dict[str, Any]:
    try:
        return fetch(connection, render("partitions/facts", schema=schema))[0]
    except import_psycopg().errors.UndefinedTable as error:
        raise AuditError(
            "the trail was created by an older audit-toolkit, and has no maintenance records",
            hint="upgrade the trail: audit upgrade",
        ) from error


def _clock(
    connection: Connection,
    schema: str,
    facts: dict[str, Any],
    leaves: tuple[Leaf, ...],
    now: datetime | None,
) -> Clock:
    server, statement, here = clocks(facts, now)
    now = (now or server).astimezone(UTC)
    clock = Clock(
        now=now,
        server=server.astimezone(UTC),
        statement=statement.astimezone(UTC),
        here=here,
        newest_event=_newest_event(connection, schema, leaves, now),
        last_run=facts["last_run"],
    )
    return replace(clock, silent_since=_without_trace(connection, schema, clock))


def _newest_event(
    connection: Connection, schema: str, leaves: tuple[Leaf, ...], now: datetime
) -> datetime | None:
    """The time of the event that was captured last.

    It is in the last partition up to now that holds something, or, where a clock is or was wrong, in one beyond.
    """
    filled = [leaf for leaf in leaves if leaf.filled]
    beyond = [leaf for leaf in filled if leaf.lower and leaf.lower > now]
    candidates = [*[leaf for leaf in filled if leaf not in beyond][-1:], *beyond[-MOST:]]
    found = [
        row
        for leaf in candidates
        for row in fetch(
            connection,
            render("partitions/newest_event", schema=schema, lower=leaf.lower, upper=leaf.upper),
        )
    ]
    newest = max(found, key=lambda row: row["event_id"], default=None)
    return newest["action_tstamp"] if newest else None


def clocks(facts: dict[str, Any], now: datetime | None) -> tuple[datetime, datetime, datetime]:
    """The server's clock, when the statement began that asked for it, and the clock of this machine."""
    del now  # tests that simulate the server's clock put it in its place
    return facts["now"], facts["statement"], datetime.now(UTC)


def _without_trace(connection: Connection, schema: str, clock: Clock) -> datetime | None:
    last = clock.last_run
    if last is None or clock.now - last <= LEAP:
        return None
    values = {"schema": schema, "since": last, "until": clock.now, "leap": LEAP.days}
    found = fetch(connection, render("partitions/without_trace", **values))
    return found[0]["begun"] if found else None


def _leaf(connection: Connection, row: dict[str, Any], schema: str) -> Leaf:
    name = QualifiedName(row.pop("schema_name"), row.pop("name"))
    leaf = Leaf(**row, name=name)
    if not leaf.plain or leaf.detach_pending or not (leaf.is_past or leaf.upper is None):
        return leaf
    if leaf.is_default or (leaf.lower is None and leaf.upper is None):
        return replace(leaf, has_rows=has_rows(connection, name))
    values = {"schema": schema, "lower": leaf.lower, "upper": leaf.upper}
    if not fetch(connection, render("partitions/is_used", **values))[0]["is_used"]:
        return leaf
    if leaf.is_past:
        return replace(leaf, has_rows=True)
    found = fetch(connection, render("partitions/first_event", schema=schema, lower=leaf.lower))
    return replace(leaf, has_rows=True, first_event=found[0]["first"])


def has_rows(connection: Connection, leaf: QualifiedName) -> bool:
    """Whether a table holds anything; needs SELECT on it."""
    found: bool = fetch(connection, render("partitions/has_rows", leaf=leaf))[0]["has_rows"]
    return found


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**(row | {"state": PartitionState(row["state"])}))


def _stray(connection: Connection, row: dict[str, Any], function_in: str | None) -> Stray:
    """A maintainer asks a function of the trail, in the schema `function_in`, what a table holds."""
    name = QualifiedName(row["schema_name"], row["name"])
    if function_in is None:
        return Stray(oid=row["oid"], name=name, has_rows=has_rows(connection, name))
    asked = fetch(connection, render("maintainer/has_rows", schema=function_in, leaf=name))
    return Stray(oid=row["oid"], name=name, has_rows=asked[0]["has_rows"])
