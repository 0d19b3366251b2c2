"""How capture from the WAL stands: for people, for `audit check` and for Prometheus."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psycopg

from audit_toolkit.connection import application_name, fetch, translated_errors
from audit_toolkit.findings import Finding, FindingKind, Metric, Severity
from audit_toolkit.names import QualifiedName, quote_identifier, wal_publication
from audit_toolkit.plurals import counted, show_bytes
from audit_toolkit.remedies import psql_command
from audit_toolkit.templates import render
from audit_toolkit.wal.slot import slot_name

Connection = psycopg.Connection[Any]

GIGABYTE = 1024**3
WARN_RETAINED = GIGABYTE
"""WAL that the slot keeps, from which on it is a warning."""
MOST_RETAINED = 10 * GIGABYTE
"""WAL that the slot keeps, from which on it is an error."""
MOST_SECONDS = 300
"""How old what a running worker has read may be, before it is a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The replication slot, and how far its worker is."""

    name: str
    state: str
    """`ready`, `missing` or `lost`."""
    is_running: bool
    """Whether a worker is connected."""
    read_until: str
    """All that committed before this position of the WAL is in the trail."""
    behind_bytes: int
    """WAL behind that position, of whatever the server writes: none of it need be a change."""
    retained_bytes: int | None
    """WAL that the server keeps for the slot; None where there is none."""
    events: int
    """Changes that were read from the WAL so far."""
    ran_at: datetime | None
    caught_up_at: datetime | None
    """All that had committed by then is in the trail."""
    seconds_behind: float | None
    """How long ago that was: a few seconds where nothing is waiting. None before the first time."""
    seconds_unread: float
    """The same; before the first time, how long ago the first worker began."""
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A table that is captured from the WAL, or shall be."""

    table: str
    assurance: str
    """`wal`, or `trigger` as long as the worker has not taken it over."""
    since: str | None
    """The position in the WAL from which on it is read."""
    is_published: bool = True
    """Whether the publication has it as the worker left it."""
    fallback: str | None = None
    """Why triggers record it again, until `audit capture resume`."""
    has_old_rows: bool = True
    """Whether its old rows are in the WAL."""
    partitions_not_ready: tuple[str, ...] = ()
    """Partitions whose old rows are not in the WAL, or whose TRUNCATE would not be recorded."""
    partitions_not_in_wal: tuple[str, ...] = ()
    """Partitions whose changes are not in the WAL: unlogged or foreign tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureStatus:
    """Capture from the WAL in this database."""

    slot: Slot | None
    """None where no worker has run yet."""
    tables: tuple[Read, ...]
    wal_level: str
    max_slot_wal_keep_size: str

    def as_dict(self) -> dict[str, Any]:
        """It as JSON values, times as ISO 8601."""
        values = asdict(self)
        for name in ("ran_at", "caught_up_at") if self.slot else ():
            values["slot"][name] = values["slot"][name] and values["slot"][name].isoformat()
        return values | {"tables": list(values["tables"])}


def has_progress(connection: Connection, schema: str) -> bool:
    """Whether the trail has a place for it; one of an older release has not."""
    (found,) = fetch(connection, render("wal/is_there", schema=schema))
    return bool(found["is_there"])


def read_capture_status(connection: Connection, schema: str = "audit") -> CaptureStatus:
    """How capture from the WAL stands; for a role that may read what is noted of the trail."""
    (server,) = fetch(connection, render("wal/server"))
    named = {"schema": schema, "publication": wal_publication(schema)}
    (place,) = fetch(connection, render("wal/is_there", schema=schema))
    seen = {"hidden": place["hidden"], "application": application_name("capture")}
    slots = fetch(connection, render("wal/slot", **named, **seen))
    tables = fetch(connection, render("wal/tables", **named))
    is_altered = bool(slots) and slots[0]["publication"] not in (None, slots[0]["publication_now"])
    return CaptureStatus(
        slot=_slot(slots[0]) if slots else None,
        tables=tuple(
            Read(
                table=str(QualifiedName(row["schema_name"], row["table_name"])),
                assurance="trigger" if row["wal_since"] is None else "wal",
                since=row["wal_since"],
                is_published=not is_altered and row["noted_entry"] in (None, row["entry"]),
                fallback=row["fallback"],
                has_old_rows=not row["lacks_old_rows"],
                partitions_not_ready=tuple(row["unready_partitions"]),
                partitions_not_in_wal=tuple(row["unseen_partitions"]),
            )
            for row in tables
        ),
        wal_level=server["wal_level"],
        max_slot_wal_keep_size=server["keep_size"],
    )


def has_unread(connection: Connection, schema: str = "audit") -> bool:
    """Whether changes that committed before this call may be in the WAL, and not yet in the trail.

    Waits for the worker, for 15 seconds at most (`audit.wait_for_wal`). Any role may ask.
    """
    (state,) = fetch(connection, render("wal/unread", schema=schema))
    if not state["is_read"]:
        return False
    named = {"slot": slot_name(connection, schema), "lsn": state["lsn"]}
    give_up_at = time.monotonic() + state["patience"]
    while read := fetch(connection, render("wal/is_read"), named):
        if read[0]["is_read"] or _has_nothing(connection, schema, named):
            return False
        if time.monotonic() > give_up_at:
            return True
        time.sleep(0.2)
    return True


def _has_nothing(connection: Connection, schema: str, named: dict[str, Any]) -> bool:
    """Whether the slot itself shows that no change is left, to a role that may look into it."""
    sql = render("wal/has_changes", publication=wal_publication(schema))
    try:
        with connection.transaction():
            (found,) = fetch(connection, sql, named)
    except psycopg.Error:
        return False  # not allowed, in use by the worker, or lost
    return bool(found["is_flushed"] and not found["has_changes"])


def worker_needs(connection: Connection) -> Iterator[str]:
    """What the server or the role of this connection lacks for `audit capture run`, in words."""
    (server,) = fetch(connection, render("wal/server"))
    if server["wal_level"] != "logical":
        yield (
            f"wal_level is {server['wal_level']}, and the worker needs logical; triggers record changes until then: "
            + psql_command("alter system set wal_level = logical")
            + ", then restart the server"
        )
    if server["slots"] >= server["max_slots"]:
        yield (
            f"no replication slot is free: {counted(server['max_slots'], 'slot')} of max_replication_slots in use: "
            + psql_command(f"alter system set max_replication_slots = {server['max_slots'] + 4}")
            + ", then restart the server"
        )
    if not server["may_read"]:
        role = quote_identifier(server["role"])
        yield (
            f"{server['role']} may not read the WAL; if the worker runs as this role: "
            + psql_command(f"alter role {role} replication")
        )


def resume_capture(
    connection: Connection, schema: str = "audit", *, only: int | None = None
) -> list[str]:
    """Let the worker take tables over again that had gone back to triggers, or the one of that OID; their names."""
    with translated_errors(), connection.transaction():
        rows = fetch(connection, render("wal/resume", schema=schema), {"relation": only})
    return [str(row["name"]) for row in rows]


def _slot(row: dict[str, Any]) -> Slot:
    # One that is being made has read nothing: it waits for all transactions that write.
    is_made = row["slot_is_there"] and row["confirmed_flush_lsn"] is not None
    state = "ready" if is_made and not row["is_foreign"] else "missing"
    return Slot(
        name=row["slot_name"],
        state="lost" if row["wal_status"] == "lost" or row["is_ahead"] else state,
        is_running=row["is_running"],
        read_until=row["read_until"],
        behind_bytes=row["behind_bytes"],
        retained_bytes=row["retained_bytes"],
        events=row["events"],
        ran_at=row["ran_at"] and row["ran_at"].astimezone(UTC),
        caught_up_at=row["caught_up_at"] and row["caught_up_at"].astimezone(UTC),
        seconds_behind=row["seconds_behind"],
        seconds_unread=row["seconds_unread"],
        last_error=row["last_error"],
    )


def capture_findings(
    connection: Connection, schema: str = "audit", *, only: Collection[str] | None = None
) -> list[Finding]:
    """What is wrong with capture from the WAL, of these tables alone; without any, a slot that is left."""
    if not has_progress(connection, schema):
        return []
    status = read_capture_status(connection, schema)
    tables = tuple(one for one in status.tables if only is None or one.table in only)
    if tables:
        return list(_findings(replace(status, tables=tables)))
    return list(_unused(status.slot)) if status.slot and not status.tables else []


def _unused(slot: Slot) -> Iterator[Finding]:
    if slot.state != "missing":
        yield _finding(
            FindingKind.SLOT_UNUSED,
            Severity.WARNING,
            f"slot {slot.name}",
            "no table is captured from the WAL any more, and the server keeps "
            f"{show_bytes(slot.retained_bytes or 0)} of WAL for it",
            f"{_RUN} --once, which drops it",
        )


_RUN = "audit capture run"


def _findings(status: CaptureStatus) -> Iterator[Finding]:
    read = [table for table in status.tables if table.assurance == "wal"]
    if status.wal_level != "logical":
        yield _finding(
            FindingKind.WAL_LEVEL,
            Severity.ERROR if read else Severity.WARNING,
            "wal_level",
            f"it is {status.wal_level}: "
            + ("changes are lost" if read else "triggers record the tables meanwhile"),
            psql_command("alter system set wal_level = logical")
            + "; then restart the server"
            + ("; or: audit capture fallback --reason TEXT" if read else ""),
        )
    for table in status.tables:
        if table.assurance == "trigger":
            yield _finding(
                FindingKind.NOT_FROM_WAL,
                Severity.WARNING,
                table.table,
                f"triggers record it again: {table.fallback}"
                if table.fallback
                else "no worker has taken it over yet: triggers record its changes",
                "audit capture resume" if table.fallback else _RUN,
            )
    for table in read:
        if not table.is_published:
            yield _finding(
                FindingKind.PUBLICATION_CHANGED,
                Severity.ERROR,
                table.table,
                "somebody altered the publication that the worker reads: changes may be missing",
                f"{_RUN}, which writes down the gap; then: audit baseline --table {shlex.quote(table.table)}",
            )
        if not table.has_old_rows:
            yield _finding(
                FindingKind.REPLICA_IDENTITY_CHANGED,
                Severity.ERROR,
                table.table,
                "its replica identity is not FULL: old rows are not in the WAL",
                f"{_RUN}, which sets it again, and writes down the gap",
            )
        yield from _partition_findings(table)
    if read:
        yield from _slot_findings(status)


def _partition_findings(table: Read) -> Iterator[Finding]:
    for partition in table.partitions_not_ready:
        yield _finding(
            FindingKind.PARTITION_NOT_READY,
            Severity.WARNING,
            partition,
            f"the worker has not prepared this partition of {table.table} yet: old rows and TRUNCATE would be gaps",
            _RUN,
        )
    for partition in table.partitions_not_in_wal:
        yield _finding(
            FindingKind.PARTITION_NOT_IN_WAL,
            Severity.ERROR,
            partition,
            f"it is unlogged or a foreign table: its changes are not recorded, as {table.table} is read from the WAL",
            psql_command(f"alter table {partition} set logged")
            + f"; or: audit install --table {shlex.quote(table.table)} --capture row",
        )


def _slot_findings(status: CaptureStatus) -> Iterator[Finding]:
    slot = status.slot
    if slot is None or slot.state != "ready":
        lost = slot is not None and slot.state == "lost"
        yield _finding(
            FindingKind.SLOT_LOST if lost else FindingKind.SLOT_MISSING,
            Severity.ERROR,
            f"slot {slot.name}" if slot else "the slot",
            "the server gave it up: changes that were not read are unknown"
            if lost
            else "it is gone: nothing is captured of tables that are read from the WAL",
            f"{_RUN}, which writes down the gap; then for each table: audit baseline --table TABLE",
        )
        return
    if not slot.is_running:
        why = f": {slot.last_error}" if slot.last_error else ""
        yield _finding(
            FindingKind.WORKER_STOPPED,
            Severity.WARNING,
            f"slot {slot.name}",
            f"no worker is running; {show_progress(slot)}{why}",
            _RUN,
        )
    elif slot.seconds_unread >= MOST_SECONDS:
        yield _finding(
            FindingKind.WORKER_BEHIND,
            Severity.WARNING,
            f"slot {slot.name}",
            f"the worker does not keep up, or its process is paused: {show_progress(slot)}",
            f"{_RUN}, which takes over from a worker that stands still; or capture the tables that are written most "
            "with triggers again: audit install --table TABLE --capture row; or start a faster machine",
        )
    elif slot.seconds_unread < -MOST_SECONDS:
        yield _finding(
            FindingKind.WORKER_BEHIND,
            Severity.WARNING,
            f"slot {slot.name}",
            "how far the worker is behind is unknown: all was read at a time that the server's clock has not reached",
            "set the clock of the server; a worker that keeps up notes the time anew within seconds",
        )
    if slot.retained_bytes is not None and slot.retained_bytes >= WARN_RETAINED:
        yield _finding(
            FindingKind.WAL_RETAINED,
            Severity.ERROR if slot.retained_bytes >= MOST_RETAINED else Severity.WARNING,
            f"slot {slot.name}",
            f"the server keeps {show_bytes(slot.retained_bytes)} of WAL for it",
            f"{_RUN}; where it runs, end old transactions, or start a faster machine",
        )
    if status.max_slot_wal_keep_size == "-1":
        yield _finding(
            FindingKind.WAL_UNLIMITED,
            Severity.WARNING,
            "max_slot_wal_keep_size",
            "it is unlimited: while no worker reads it, WAL could fill the disk",
            psql_command("alter system set max_slot_wal_keep_size = '20GB'")
            + "; then: select pg_reload_conf()",
        )


def _finding(
    kind: FindingKind, severity: Severity, subject: str, message: str, remedy: str
) -> Finding:
    return Finding(kind=kind, severity=severity, subject=subject, message=message, remedy=remedy)


def show_progress(slot: Slot) -> str:
    """How long ago all was read, and how much the server has written since."""
    written = f"{show_bytes(slot.behind_bytes)} of WAL written since"
    if slot.seconds_behind is None:
        return f"not all has been read yet, {written}"
    return f"all was read {show_seconds(slot.seconds_behind)} ago, {written}"


def show_seconds(number: float) -> str:
    """A time as people say it."""
    for unit, seconds in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if number >= 2 * seconds:
            return counted(int(number // seconds), unit)
    return counted(max(int(number), 0), "second")


def prometheus(status: CaptureStatus) -> str:
    """Metrics in the exposition format."""
    slot = status.slot
    if slot is None:
        return ""
    read = sum(table.assurance == "wal" for table in status.tables)
    values = (
        ("tables", "gauge", "Tables that are read from the WAL.", read),
        ("running", "gauge", "Whether a worker is connected.", slot.is_running),
        ("slot_ready", "gauge", "Whether the slot is there and whole.", slot.state == "ready"),
        (
            "behind_bytes",
            "gauge",
            "WAL written since the position that was read.",
            slot.behind_bytes,
        ),
        ("behind_seconds", "gauge", "Time since all was read.", slot.seconds_behind),
        ("retained_bytes", "gauge", "WAL kept for the slot.", slot.retained_bytes or 0),
        ("changes_total", "counter", "Changes read from the WAL.", slot.events),
    )
    metrics = [
        Metric(
            name=f"audit_capture_{name}",
            help=text,
            samples=[({"slot": slot.name}, float(value))],
            type=kind,
        )
        for name, kind, text, value in values
        if value is not None
    ]
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines())
