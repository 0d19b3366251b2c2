"""What the commands of `audit partitions` share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli.options import Format
from audit_toolkit.cli.partition_run import (
    print_tasks,
)
from audit_toolkit.errors import AuditError
from audit_toolkit.partitions import Result

if TYPE_CHECKING:
    from audit_toolkit.partitions import Run, Task


LeafName = Annotated[
    str,
    typer.Argument(metavar="PARTITION", help="The partition, as `audit partitions list` names it."),
]


Reason = Annotated[str, typer.Option(metavar="TEXT", help="Reason to record with the partition.")]


def show_plan(tasks: tuple[Task, ...], *, sql: bool, output: Format) -> None:
    """Print tasks that are not run."""
    if output is Format.JSON:
        print(json.dumps({"tasks": [task.as_dict() for task in tasks]}, indent=2))
    elif sql:
        for task in tasks:
            print(
                task.plan.as_sql()
                if not task.deferred
                else f"-- {task.what}: not now, {task.deferred}\n"
            )
    else:
        print_tasks(tasks)


def carry_out(run: Run, task: Task) -> None:
    """Run one task; raises `AuditError` where it does not succeed."""
    outcome = run.attempt(task)
    if outcome.result is not Result.DONE:
        raise AuditError(outcome.message, hint=outcome.hint)
    print(task.what)
