"""`audit partitions run`: create, archive, detach and drop partitions as due."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from audit_toolkit.cli.options import Format, OutputFormat
from audit_toolkit.cli.partition_run import (
    Rotation,
    exit_code,
    plan_tasks,
    print_outcomes,
    print_standby,
    rotate,
    takes_rotation,
)
from audit_toolkit.cli.partitions.common import show_plan
from audit_toolkit.partitions import is_standby


@takes_rotation
def run(
    rotation: Rotation,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")
    ] = False,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Create, archive, detach and drop partitions as due.

    Finishes interrupted work first. Safe to re-run. Each step commits on its own and blocks writes for
    at most --lock-timeout. If a step fails, the others still run, and the exit code is 1.
    """
    if dry_run:
        with rotation.open() as run:
            show_plan(plan_tasks(run), sql=False, output=output)
        return
    with rotation.open_alone() as run:
        outcomes, standby = rotate(rotation, run), is_standby(run.connection)
    if output is Format.JSON:
        print(json.dumps({"outcomes": [outcome.as_dict() for outcome in outcomes]}, indent=2))
    elif standby:
        print_standby()
    else:
        print_outcomes(outcomes)
    if code := exit_code(outcomes):
        raise typer.Exit(code)
