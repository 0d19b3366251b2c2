"""`audit capture run`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from audit_toolkit.cli.database import find_address
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.connection import connect
from audit_toolkit.errors import ConnectError
from audit_toolkit.plurals import counted, parse_bytes
from audit_toolkit.trail.rows.lookup import require_readable_trail
from audit_toolkit.wal.one_worker import rest
from audit_toolkit.wal.worker import Worker

RECONNECT_SECONDS = 5.0


def run(
    once: Annotated[
        bool, typer.Option("--once", help="End when all that has committed is in the trail.")
    ] = False,
    every: Annotated[
        float,
        typer.Option(
            "--every", metavar="SECONDS", min=0.05, help="Look for new changes this often."
        ),
    ] = 1.0,
    fallback: Annotated[
        str | None,
        typer.Option(
            "--fallback",
            metavar="SIZE",
            help="Go back to triggers once the server keeps more WAL than this, such as 20GB.",
        ),
    ] = None,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Record changes of tables captured from the WAL.

    Each change is recorded exactly once, in the order of commits. The first run creates the replication slot;
    tables installed since the last one are taken over from their triggers. One worker runs at a time; another one waits
    until it ends or stands still for a minute. Runs until Ctrl-C, or with --once until all was read.

    With --fallback, triggers record the tables again once the server keeps more WAL than that, as soon as the rest was
    read, or at once where the server gave the slot up; audit capture resume ends that.
    """
    limit = None if fallback is None else parse_bytes(fallback)
    address = find_address(dsn, config)
    total = 0
    try:
        while True:
            try:
                for events in _turns(address, audit_schema, once=once, every=every, fallback=limit):
                    total += events
                break
            except ConnectError as error:
                if once:
                    raise
                _say(f"warning: {error.message}; trying again")
                time.sleep(RECONNECT_SECONDS)
    except KeyboardInterrupt:
        pass
    _say(f"{counted(total, 'change')} read")


def _turns(
    address: str, schema: str, *, once: bool, every: float, fallback: int | None
) -> Iterator[int]:
    """The changes that each reading brought."""
    with (
        connect(address, purpose="capture") as writer,
        connect(address, purpose="capture") as reader,
    ):
        require_readable_trail(writer, schema)
        worker = Worker(writer=writer, reader=reader, schema=schema, say=_say, fallback=fallback)
        if once:
            worker.heartbeat = 0
        worker.start(wait=not once)
        worker.require_logical()
        try:
            while True:
                found = worker.turn()
                yield found.events
                if found.is_all and once:
                    return
                if found.is_all:
                    rest(worker.writer, every)
        except Exception as error:
            worker.fail(error)
            raise


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr)
