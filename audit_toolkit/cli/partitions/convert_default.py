"""`audit partitions convert-default`: turn a DEFAULT partition into one with bounds."""

from __future__ import annotations

from typing import Annotated

import typer

from audit_toolkit.cli.options import Format
from audit_toolkit.cli.partition_run import (
    Rotation,
    takes_rotation,
)
from audit_toolkit.cli.partitions.common import carry_out, show_plan
from audit_toolkit.partitions import plan_default


@takes_rotation
def convert_default(
    rotation: Rotation,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")
    ] = False,
) -> None:
    """Turn a DEFAULT partition into one with bounds.

    Creates partitions ahead and a catch-all partition after them; moves no rows.
    """
    with rotation.open_alone() as run:
        task = plan_default(run.connection, run.read(), run.policy)
        if dry_run:
            show_plan((task,), sql=True, output=Format.TEXT)
        else:
            carry_out(run, task)
