"""`audit grants`: who may do what with the trail, as SQL to read and run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.errors import UsageError


def add_to(app: typer.Typer) -> None:
    """Add `audit grants`."""
    app.command()(grants)


def grants(
    reader: Annotated[
        str | None, typer.Option("--reader", metavar="ROLE", help="May read the trail.")
    ] = None,
    maintainer: Annotated[
        str | None,
        typer.Option("--maintainer", metavar="ROLE", help="May make, archive and drop leaves."),
    ] = None,
    installer: Annotated[
        str | None,
        typer.Option("--installer", metavar="ROLE", help="May put capture on its own tables."),
    ] = None,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Print the GRANTs that a role needs. Nothing is run: read them, then pipe them into psql."""
    from audit_toolkit.cli.output import visible
    from audit_toolkit.connection import fetch
    from audit_toolkit.install import render_grants
    from audit_toolkit.templates import query

    if not (reader or maintainer or installer):
        raise UsageError(
            "no role is named", hint="name one: --reader ROLE, --maintainer ROLE, --installer ROLE"
        )
    with open_database(dsn, config) as connection:
        found = fetch(connection, query("trail"), {"schema": audit_schema})
    if not found:
        raise UsageError(
            f"the database has no audit trail in the schema {audit_schema}",
            hint="make one: audit install --table NAME",
        )
    if not found[0]["owned"]:
        owner = visible(found[0]["owner"])
        print(
            f"note: these statements are for {owner}, which owns the trail, or a member of it; "
            "the role of this connection cannot run them",
            file=sys.stderr,
        )
    for role, needs in (
        (maintainer, "attach and detach partitions"),
        (installer, "replace capture"),
    ):
        if role:
            print(
                f"note: {visible(role)} becomes a member of the owner, as only owners {needs}: it can "
                "do whatever the owner can (docs/security.md)",
                file=sys.stderr,
            )
    for statement in render_grants(
        audit_schema,
        found[0]["owner"],
        reader=reader,
        maintainer=maintainer,
        installer=installer,
    ):
        print(f"{statement};\n")
