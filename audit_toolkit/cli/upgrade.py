"""`audit upgrade`: what an older toolkit installed, brought to this one by a migration."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn


def add_to(app: typer.Typer) -> None:
    """Add `audit upgrade`."""
    app.command()(upgrade)


def upgrade(
    audit_schema: Annotated[
        str | None,
        typer.Option(
            "--audit-schema",
            metavar="SCHEMA",
            help="The schema of the audit trail. [default: that of the project, else audit]",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="REVISION", help="The head to follow, if several."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")
    ] = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Write the revisions that bring the trail and all capture to this version of the toolkit.

    The database has to be at the head of the project. Rules stay as they are; events are not touched.
    """
    from audit_toolkit.migrations import find_project, recorded_state, write_revisions
    from audit_toolkit.migrations.project import shown
    from audit_toolkit.migrations.renewal import plan_renewal

    project = find_project(config)
    follows = project.head(head)
    state = recorded_state(project.scripts, follows, audit_schema)
    with open_database(dsn, config) as connection:
        renewal = plan_renewal(connection, state)
    if not renewal.revisions:
        print("nothing to upgrade: all is of this version", file=sys.stderr)
        return
    if dry_run:
        for revision in renewal.revisions:
            print("\n".join([revision.message, *(f"  {text}" for text in revision.summary)]))
        return
    for file in write_revisions(project, renewal.revisions, follows):
        print(f"wrote {shown(file.path)}", file=sys.stderr)
    print(f"\nnext:\n  {project.upgrade_command} head", file=sys.stderr)
