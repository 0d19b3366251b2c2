"""`audit stream reset`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema, Utc
from audit_toolkit.cli.output import visible
from audit_toolkit.cli.stream.common import Name, parse_begin
from audit_toolkit.stream import reset as reset_consumer


def reset(
    name: Name,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="WHERE",
            help="New position: beginning, now, the id of the last event delivered, or a time.",
        ),
    ],
    utc: Utc = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Move a consumer to another position."""
    with open_database(dsn, config) as connection:
        event_id = reset_consumer(
            connection, name, parse_begin(to, "--to", utc=utc), schema=audit_schema
        )
    print(visible(f"{name} goes on behind event {event_id}"), file=sys.stderr)
