"""`audit capture fallback`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from audit_toolkit.catalog import find_relation
from audit_toolkit.cli.database import find_address
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.connection import connect
from audit_toolkit.errors import BusyError
from audit_toolkit.trail.rows.lookup import require_readable_trail
from audit_toolkit.wal.worker import Worker

ATTEMPTS = 6


def fallback(
    reason: Annotated[
        str,
        typer.Option("--reason", metavar="TEXT", help="Why; it is recorded in the trail."),
    ],
    table: Annotated[
        str | None,
        typer.Option("--table", "-t", metavar="TABLE", help="Only this table; without it, all."),
    ] = None,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Record tables captured from the WAL by triggers again.

    No worker may run: this reads what is left in the WAL itself, and enables the triggers while writers wait, for
    10 seconds at most. Nothing is lost, and nothing is recorded twice. Where the slot is lost, the trail says what is
    missing. The tables stay with triggers until audit capture resume.
    """
    address = find_address(dsn, config)
    with (
        connect(address, purpose="capture") as writer,
        connect(address, purpose="capture") as reader,
    ):
        require_readable_trail(writer, audit_schema)
        worker = Worker(writer=writer, reader=reader, schema=audit_schema, say=_say)
        only = None if table is None else find_relation(writer, table).oid
        worker.start(wait=False)
        try:
            if not worker.go_back(reason, only=only, attempts=ATTEMPTS):
                raise BusyError(
                    "tables are still read from the WAL: transactions hold them, or more is written than can be read",
                    hint="try again when less is written",
                )
        except Exception as error:
            worker.fail(error)
            raise


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr)
