"""`audit seal`: what is certain becomes part of the sealed tree."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.follow import describe_blocker
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.seal_options import (
    CheckpointTo,
    Key,
    SignerCommand,
    Timestamp,
    find_places,
    find_signer,
)
from audit_toolkit.cli.timeouts import as_span
from audit_toolkit.errors import AuditError, BusyError
from audit_toolkit.plurals import counted
from audit_toolkit.schema.captured_tables import note_coverage
from audit_toolkit.seals import open_sink, run_seal

if TYPE_CHECKING:
    from audit_toolkit.seals import SealRun


def seal(
    key: Key = None,
    signer: SignerCommand = None,
    checkpoint_to: CheckpointTo = None,
    timestamp: Timestamp = None,
    every: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="Keep sealing at this interval, such as '30 seconds'.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="How long to wait for open transactions to end."
        ),
    ] = 10,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Seal new events, so that later changes are detected.

    Adds every event whose order is final to a Merkle tree and signs its root with a key that is not in the
    database. Keep the checkpoints where those who can write the database cannot: `audit verify` compares the trail
    with them.
    """
    pause = as_span(every, "--every").milliseconds / 1000 if every else None
    signed_by = find_signer(key, signer)
    sinks = [open_sink(address) for address in find_places(checkpoint_to)]
    failed = False
    # A round that is interrupted is rolled back, and the next run begins with it.
    with nullcontext() if pause is None else suppress(KeyboardInterrupt):
        while True:
            with open_database(dsn, config) as connection:
                try:
                    # Captured and sealed settings are recorded together.
                    note_coverage(connection, audit_schema)
                    run = run_seal(
                        connection,
                        audit_schema,
                        signed_by,
                        sinks=sinks,
                        timestamp=timestamp,
                        wait=wait,
                    )
                    _print(run, output)
                    failed = bool(run.failed)
                except BusyError as error:
                    if pause is None:
                        raise
                    print(f"warning: {error.message}; trying again", file=sys.stderr, flush=True)
                except AuditError as error:
                    if pause is None or connection.closed:
                        raise
                    # `audit check` reports the failure; the next round may succeed.
                    print(f"error: {error.message}", file=sys.stderr, flush=True)
            if pause is None:
                break
            time.sleep(pause)
    if failed:
        raise typer.Exit(1)


def _print(run: SealRun, output: Format) -> None:
    if output is Format.JSON:
        print(json.dumps(as_dict(run)), flush=True)
        return
    checkpoint = run.checkpoint
    if checkpoint is None:
        print("nothing to seal: the trail has no events that are certain", flush=True)
    else:
        done = f"sealed {counted(run.events, 'event')}" if run.events else "nothing new to seal"
        print(f"{done}; {checkpoint.size:,} in all, up to event {checkpoint.up_to_id}", flush=True)
    for blocker in run.held_by:
        print(describe_blocker(blocker), file=sys.stderr, flush=True)
    for one in run.delivered:
        if one.failed:
            print(f"error: {one.failed}", file=sys.stderr, flush=True)
        if one.hint:
            print(f"hint: {one.hint}", file=sys.stderr, flush=True)


def as_dict(run: SealRun) -> dict[str, Any]:
    """A run as JSON values."""
    checkpoint = run.checkpoint
    return {
        "sealed": run.events,
        "size": checkpoint.size if checkpoint else 0,
        "up_to_event": checkpoint.up_to_id if checkpoint else None,
        "root": checkpoint.root.hex() if checkpoint else None,
        "sealed_at": checkpoint.sealed_at if checkpoint else None,
        "held_by": [describe_blocker(blocker) for blocker in run.held_by],
        "sinks": [
            {"address": one.address, "size": one.size, "failed": one.failed, "hint": one.hint}
            for one in run.delivered
        ],
    }
