"""`audit indexes progress`: show index builds in progress, and what they wait for."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.indexes import output as shown
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat
from audit_toolkit.indexes import read_builds


def progress(
    dsn: Dsn = None,
    config: AlembicConfig = None,
    watch: Annotated[
        float, typer.Option(metavar="SECONDS", help="Refresh interval of the live view.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print once and exit.")] = False,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Show index builds in progress, and what they wait for.

    On a terminal the view is live until nothing runs; elsewhere, and as JSON, it is printed once.
    """
    with open_database(dsn, config) as connection:
        builds = read_builds(connection)
        if output is Format.JSON:
            print(json.dumps({"builds": [build.as_dict() for build in builds]}, indent=2))
        elif once or not sys.stdout.isatty():
            shown.print_builds(builds)
        else:
            shown.watch_builds(lambda: read_builds(connection), watch)
