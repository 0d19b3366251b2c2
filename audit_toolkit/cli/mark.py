"""`audit mark`: name this moment, for `audit revert --to-mark`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from audit_toolkit import exact_json
from audit_toolkit.attribution.current import nested
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.cli.undo_output import (
    Reason,
    actor_of,
)
from audit_toolkit.trail import set_mark


def mark(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the mark.")],
    actor: Annotated[
        str | None,
        typer.Option(
            "--as",
            "--actor",
            metavar="WHO",
            help="Actor to record in the trail. [default: os:USER, as in audit psql]",
            show_default=False,
        ),
    ] = None,
    reason: Reason = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Name this moment, for `audit revert --to-mark`.

    Only the owner of the trail may. A change in progress counts as before or after the mark, each on
    its own.
    """
    claims = {"actor": actor_of(actor), "reason": reason}
    with nested(claims), open_database(dsn, config) as connection:
        made = set_mark(connection, name, schema=audit_schema)
    if output is Format.JSON:
        print(exact_json.dumps({"mark": made.name, "event_id": made.event_id}, ascii_only=True))
    else:
        print(f"marked {visible(made.name)}: event {made.event_id}", file=sys.stderr)
