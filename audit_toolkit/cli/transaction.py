"""`audit transaction`: show everything that one transaction changed."""

from __future__ import annotations

from typing import Annotated

import typer

from audit_toolkit.cli import times
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
from audit_toolkit.cli.transaction_ids import HELP, METAVAR, parse_transaction
from audit_toolkit.errors import UsageError
from audit_toolkit.trail import Selection


def transaction(
    transaction: Annotated[
        str,
        typer.Argument(
            metavar="TRANSACTION",
            help=f"Its number, as `audit history` shows it, or {METAVAR}: {HELP}.",
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only events from this time on: " + times.HELP + ".",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only events before this time.", show_default=False),
    ] = None,
    output: OutputFormat = Format.TEXT,
    hide: Hide = None,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show everything that one transaction changed."""
    number, start = parse_transaction(transaction, "TRANSACTION", utc=utc)
    selection = Selection(
        transaction=number,
        transaction_start=start,
        since=times.parse_moment(since, "--since", utc=utc) if since else None,
        until=times.parse_moment(until, "--until", utc=utc) if until else None,
    )
    if not print_selected(selection, output, dsn, config, audit_schema, hide or (), utc=utc):
        raise UsageError(
            f"the trail has no events of transaction {transaction}",
            hint="audit history TABLE shows the transactions of its events",
        )
