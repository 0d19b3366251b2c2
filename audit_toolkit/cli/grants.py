"""`audit grants`: who may do what with the trail, as SQL to read and run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.partitions import Span
from audit_toolkit.schema import Limits, render_grants
from audit_toolkit.templates import query


def grants(
    reader: Annotated[
        str | None, typer.Option("--reader", metavar="ROLE", help="May read the trail.")
    ] = None,
    maintainer: Annotated[
        str | None,
        typer.Option(
            "--maintainer",
            metavar="ROLE",
            help="May run audit maintain: create partitions, detach and drop those that are due.",
        ),
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="With --maintainer: minimum age of events before their partition may be "
            "detached. Without it, nothing may be detached or dropped.",
            show_default=False,
        ),
    ] = None,
    quarantine: Annotated[
        str,
        typer.Option(
            metavar="SPAN", help="With --retention: minimum time a detached partition is kept."
        ),
    ] = "7 days",
    unarchived: Annotated[
        bool,
        typer.Option(
            "--unarchived", help="With --retention: also allow dropping what is not archived."
        ),
    ] = False,
    archiver: Annotated[
        str | None,
        typer.Option(
            "--archiver", metavar="ROLE", help="May read detached partitions and archive them."
        ),
    ] = None,
    installer: Annotated[
        str | None,
        typer.Option(
            "--installer",
            metavar="ROLE",
            help="May pause and resume capture of its own tables.",
        ),
    ] = None,
    deployer: Annotated[
        str | None,
        typer.Option(
            "--deployer",
            metavar="ROLE",
            help="May apply migrations of capture, and so act as the owner.",
        ),
    ] = None,
    recorder: Annotated[
        str | None,
        typer.Option(
            "--recorder",
            metavar="ROLE",
            help="May record events of the application (record_event).",
        ),
    ] = None,
    consumer: Annotated[
        str | None,
        typer.Option("--consumer", metavar="ROLE", help="May run audit stream."),
    ] = None,
    redactor: Annotated[
        str | None,
        typer.Option("--redactor", metavar="ROLE", help="May run audit redact; reads nothing."),
    ] = None,
    sealer: Annotated[
        str | None,
        typer.Option("--sealer", metavar="ROLE", help="May run audit seal; reads no event."),
    ] = None,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Print the GRANTs that a role needs; runs nothing.

    Review them, then pipe them into psql.
    """
    asked = (
        reader,
        maintainer,
        archiver,
        installer,
        deployer,
        recorder,
        consumer,
        redactor,
        sealer,
    )
    if not any(asked):
        raise UsageError(
            "no role given",
            hint="add --reader, --maintainer, --archiver, --installer, --deployer, "
            "--recorder, --consumer, --redactor or --sealer ROLE",
        )
    limits = _limits(retention, quarantine, unarchived=unarchived, maintainer=maintainer)
    with open_database(dsn, config) as connection:
        found = fetch(connection, query("trail"), {"schema": audit_schema})
        values = {"schema": audit_schema, "role": installer}
        captures = fetch(connection, query("captures_of_role"), values) if installer else []
    if not found:
        raise UsageError(
            f"the database has no audit trail in the schema {audit_schema}",
            hint="create one: audit install --table NAME",
        )
    for note in _notes(
        found[0], maintainer=maintainer, limits=limits, installer=installer, deployer=deployer
    ):
        print(f"note: {visible(note)}", file=sys.stderr)
    for statement in render_grants(
        audit_schema,
        found[0]["owner"],
        reader=reader,
        maintainer=maintainer,
        archiver=archiver,
        installer=installer,
        deployer=deployer,
        recorder=recorder,
        consumer=consumer,
        redactor=redactor,
        sealer=sealer,
        limits=limits,
        captures=[row["name"] for row in captures],
    ):
        print(f"{statement};\n")


def _limits(
    retention: str | None, quarantine: str, *, unarchived: bool, maintainer: str | None
) -> Limits | None:
    if retention is None:
        return None
    if maintainer is None:
        raise UsageError("--retention needs --maintainer", hint="add --maintainer ROLE")
    return Limits(
        retention=str(Span.parse(retention)),
        quarantine=str(Span.parse(quarantine)),
        archived_only=not unarchived,
    )


def _notes(
    trail: dict[str, Any],
    *,
    maintainer: str | None,
    limits: Limits | None,
    installer: str | None,
    deployer: str | None,
) -> Iterator[str]:
    """What whoever runs the statements has to know."""
    owner = trail["owner"]
    if not trail["owned"]:
        yield (
            f"run these statements as {owner}, which owns the trail, or as a member of it; "
            "the role of this connection cannot"
        )
    if maintainer and limits is None:
        yield (
            f"without --retention, {maintainer} can create partitions but neither detach nor "
            "drop any, unless limits were granted before"
        )
    if installer:
        yield (
            "migrations that add or change capture create a function that writes the trail: "
            f"{owner} or a member of it (--deployer) must apply them; {installer} can write "
            "them"
        )
    if deployer:
        yield (
            f"{deployer} becomes a member of {owner}, and can do whatever it can (docs/security.md)"
        )
