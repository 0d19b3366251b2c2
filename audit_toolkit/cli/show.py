"""`audit show`: show one event: who, when, and what changed."""

from __future__ import annotations

from typing import Annotated

import typer

from audit_toolkit.cli.event_output import print_selected
from audit_toolkit.cli.options import (
    AlembicConfig,
    Dsn,
    Format,
    Hide,
    OutputFormat,
    TrailSchema,
    Utc,
)
from audit_toolkit.trail import Selection


def show(
    event: Annotated[int, typer.Argument(metavar="EVENT", help="The event's id.")],
    output: OutputFormat = Format.TEXT,
    hide: Hide = None,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show one event: who, when, and what changed."""
    print_selected(
        Selection(event_ids=(event,)), output, dsn, config, audit_schema, hide or (), utc=utc
    )
