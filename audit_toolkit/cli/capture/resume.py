"""`audit capture resume`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from audit_toolkit.catalog import find_relation
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.trail.rows.lookup import require_readable_trail
from audit_toolkit.wal.health import resume_capture


def resume(
    table: Annotated[
        str | None,
        typer.Option("--table", "-t", metavar="TABLE", help="Only this table; without it, all."),
    ] = None,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Let the worker read tables from the WAL again.

    Triggers record them until it has taken them over.
    """
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        only = None if table is None else find_relation(connection, table).oid
        names = resume_capture(connection, audit_schema, only=only)
    for name in names:
        print(visible(f"{name}: the worker takes it over: audit capture run"))
    if not names:
        print("no table had gone back to triggers", file=sys.stderr)
