"""`audit capture status`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.plurals import show_bytes
from audit_toolkit.trail.rows.lookup import require_readable_trail
from audit_toolkit.wal.health import (
    CaptureStatus,
    Read,
    prometheus,
    read_capture_status,
    show_progress,
)


class StatusFormat(StrEnum):
    """How the status is printed."""

    TEXT = "text"
    JSON = "json"
    PROMETHEUS = "prometheus"


def status(
    output: Annotated[
        StatusFormat, typer.Option("--format", "-f", help="How the status is printed.")
    ] = StatusFormat.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Show how far the worker is that reads the WAL."""
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        found = read_capture_status(connection, audit_schema)
    match output:
        case StatusFormat.JSON:
            print(json.dumps(found.as_dict(), indent=2))
        case StatusFormat.PROMETHEUS:
            print(prometheus(found), end="")
        case StatusFormat.TEXT:
            _print(found)


def _print(found: CaptureStatus) -> None:
    slot = found.slot
    if slot is None and found.tables:
        print("no worker has run yet: audit capture run", file=sys.stderr)
    elif slot is not None and (slot.state == "ready" or any(table.since for table in found.tables)):
        state = {"ready": "", "missing": " [missing]", "lost": " [lost]"}[slot.state]
        running = "a worker is running" if slot.is_running else "no worker is running"
        print(f"slot {slot.name}{state}: {running}; {show_progress(slot)}")
        kept = (
            f"{show_bytes(slot.retained_bytes)} of WAL kept for it, " if slot.retained_bytes else ""
        )
        print(f"  {kept}{slot.events:,} changes read in all")
        if slot.last_error:
            print(visible(f"  last error: {slot.last_error}"))
    for table in found.tables:
        print(visible(f"{table.table}: {_recorded(table)}"))
    if not found.tables:
        print(
            "no table is captured from the WAL: audit install --table NAME --capture wal",
            file=sys.stderr,
        )


def _recorded(table: Read) -> str:
    if table.since:
        return f"from the WAL since {table.since}"
    if table.fallback:
        return f"by triggers, until audit capture resume: {table.fallback}"
    return "by triggers, until a worker runs"
