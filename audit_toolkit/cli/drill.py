"""`audit drill`: does a restore work, before it has to?"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli.archive.common import Url, open_store, progress_bar, shown
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.partition_run import Rotation
from audit_toolkit.cli.seal_options import PublicKeys, read_public_keys
from audit_toolkit.evidence import drill as run_drill
from audit_toolkit.findings import FINDINGS
from audit_toolkit.plurals import counted
from audit_toolkit.trail.rows.lookup import require_readable_trail

if TYPE_CHECKING:
    from audit_toolkit.evidence import Drill


def drill(
    archive: Url,
    partition: Annotated[
        str | None,
        typer.Argument(
            metavar="[PARTITION]",
            help="Restore this partition. [default: one at random]",
            show_default=False,
        ),
    ] = None,
    scratch: Annotated[
        str | None,
        typer.Option(
            "--scratch-schema",
            metavar="NAME",
            help="Restore into a new schema of this name. [default: a name of its own]",
            show_default=False,
        ),
    ] = None,
    key: PublicKeys = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Test the archive by restoring a partition.

    Restores it into a schema of its own, compares it with what was archived, verifies its seal, drops it, and
    records the result in the trail. Exits with code 3 if the restore failed, which is recorded as well.
    """
    keys = read_public_keys(key)
    store = open_store(archive)
    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema)
    with options.open_alone() as opened, progress_bar(None) as advance:
        require_readable_trail(opened.connection, audit_schema)
        done = run_drill(
            opened.connection,
            store,
            audit_schema,
            clock=lambda: datetime.now(UTC),
            partition=partition,
            scratch=scratch,
            keys=keys,
            progress=advance,
        )
    if output is Format.JSON:
        print(json.dumps(done.as_dict(), indent=2))
    else:
        print(_said(done))
    if not done.ok:
        raise typer.Exit(FINDINGS)


def _said(done: Drill) -> str:
    where = f"{shown(done.partition)} from {shown(done.archive)}"
    if not done.ok:
        return f"FAILED: {where}: {shown(done.problem)} [event {done.event_id}]"
    seal = ", and as they were sealed" if done.sealed else ""
    return (
        f"OK: {where}: {counted(done.events, 'event')} came back as they were archived{seal}, "
        f"in {done.seconds:.1f} s; dropped again [event {done.event_id}]"
    )
