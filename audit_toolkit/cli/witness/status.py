"""`audit witness status`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.cli.witness.drop import no_witness
from audit_toolkit.plurals import counted
from audit_toolkit.trail.rows.lookup import require_readable_trail
from audit_toolkit.wal import lsn_text
from audit_toolkit.witness.health import Status, compared, metrics, read_status


class StatusFormat(StrEnum):
    """How `status` prints."""

    TEXT = "text"
    JSON = "json"
    PROMETHEUS = "prometheus"


def status(
    output: Annotated[
        StatusFormat, typer.Option("--format", help="Output format.")
    ] = StatusFormat.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Show what the witness compares, and how far it is."""
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        found = read_status(connection, audit_schema)
    if found is None:
        raise no_witness(audit_schema)
    match output:
        case StatusFormat.JSON:
            print(json.dumps(found.as_dict(), indent=2))
        case StatusFormat.PROMETHEUS:
            print("".join(f"{line}\n" for one in metrics(found) for line in one.lines()), end="")
        case _:
            for line in _lines(found):
                print(visible(line))


def _lines(found: Status) -> list[str]:
    state, counts, server = found.state, found.state.counts, found.server
    running = f"runs (pid {found.pid})" if found.is_running else "does not run"
    kept = (server.retained_bytes or 0) / 2**20
    slot = f"{server.wal_status}, keeps {kept:,.0f} MB of WAL" if server.has_slot else "gone"
    compared_so_far = (
        f"compared {counted(counts.transactions, 'transaction')}, {counted(counts.changes, 'change')}, "
        f"{counted(counts.events, 'event')}: {counted(counts.findings, 'finding')}, "
        f"{found.open_findings} not reviewed"
    )
    lines = [
        f"the witness {running}; last at {lsn_text(state.kept)}, {state.age or 0:.0f} s ago",
        f"slot {found.names.slot}: {slot}",
        compared_so_far,
    ]
    lines += [f"watched: {one.name}: {compared(one)}" for one in found.watched]
    lines += [
        f"not watched: {one.name}: {one.trouble or 'not published yet'}"
        for one in found.not_watched
    ]
    lines += [
        f"not judged: {table}: {number:,} ({reason})"
        for (table, reason), number in sorted(counts.unjudged.items())
    ]
    return lines
