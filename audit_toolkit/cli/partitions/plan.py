"""`audit partitions plan`: show what `run` would do now; changes nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from audit_toolkit.cli.options import Format, OutputFormat
from audit_toolkit.cli.partition_run import (
    Rotation,
    plan_tasks,
    takes_rotation,
)
from audit_toolkit.cli.partitions.common import show_plan


@takes_rotation
def plan(
    rotation: Rotation,
    sql: Annotated[bool, typer.Option("--sql", help="Print a script for psql.")] = False,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Show what `run` would do now; changes nothing."""
    with rotation.open() as run:
        show_plan(plan_tasks(run), sql=sql, output=output)
