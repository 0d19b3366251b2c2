"""`audit init`: an Alembic project, for whoever has none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit_toolkit.cli.options import EditEnv
from audit_toolkit.cli.revisions import say
from audit_toolkit.migrations import init_project
from audit_toolkit.migrations.environment import IMPORT_LINE, add_import


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Directory for the scripts.")
    ] = Path("migrations"),
    template: Annotated[
        str, typer.Option("--template", help="Alembic's template: generic, async, pyproject, …")
    ] = "generic",
    edit_env: EditEnv = False,
) -> None:
    """Create an Alembic project that reads DATABASE_URL.

    Uses Alembic's own templates.
    """
    for path in init_project(directory, template=template):
        say(f"created {path}")
    env = directory / "env.py"
    if edit_env:
        add_import(env)
    else:
        say(f"\nfor autogenerate to know the trail, add as the first line of {env}:")
        say(f"  {IMPORT_LINE}")
    say("\nnext, with DATABASE_URL set to your database:")
    say("  audit install --table NAME --upgrade")
