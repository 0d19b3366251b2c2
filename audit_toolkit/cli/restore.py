"""`audit restore`: show how to put a row back, or do it with --apply."""

from __future__ import annotations

from typing import Annotated

import typer

from audit_toolkit.attribution.current import nested
from audit_toolkit.cli import times
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.notes import print_warning
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema, Utc
from audit_toolkit.cli.undo_output import (
    Apply,
    Ignore,
    Reason,
    Sql,
    actor_of,
    print_undo,
    require_one,
)
from audit_toolkit.trail import apply_restore, plan_restore


def restore(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The audited table.")],
    key: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY",
            help="The primary key: one value per column, or one JSON array; after -- if it starts "
            "with a dash.",
        ),
    ],
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help=f"As it was at this time: {times.HELP}.", show_default=False
        ),
    ] = None,
    event: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="As this event left it; if the event deleted the row, as it was before.",
            show_default=False,
        ),
    ] = None,
    with_children: Annotated[
        bool,
        typer.Option(
            "--with-children",
            help="Also restore rows that referred to it by foreign keys then, and those that "
            "referred to them.",
        ),
    ] = False,
    ignore: Ignore = None,
    apply: Apply = False,
    sql: Sql = False,
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
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show how to put a row back, or do it with --apply.

    To undo everything that a transaction changed, use `audit revert --transaction`.
    """
    require_one(apply=apply, sql=sql)
    moment = times.parse_past(at, "--at", utc=utc) if at else None
    run = apply_restore if apply else plan_restore
    with nested({"actor": actor_of(actor)}), open_database(dsn, config) as connection:
        connection.add_notice_handler(print_warning)
        undo = run(
            connection,
            table,
            tuple(key),
            at=moment,
            event=event,
            with_children=with_children,
            ignore=tuple(ignore or ()),
            reason=reason,
            schema=audit_schema,
        )
    print_undo(undo, output, applied=apply, sql=sql)
