"""`audit partitions`: leaves created ahead, detached, kept for a while, dropped, and what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli import partitions_output as view
from audit_toolkit.cli.monitoring import TIMEOUT, Timeout, impatient
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.partition_run import (
    Rotation,
    exit_code,
    plan_tasks,
    print_outcomes,
    print_standby,
    print_tasks,
    rotate,
    takes_rotation,
)
from audit_toolkit.cli.report import CheckFormat, ReportFormat, end_with

if TYPE_CHECKING:
    from audit_toolkit.partitions import Run, Task, Thresholds

LeafName = Annotated[
    str, typer.Argument(metavar="LEAF", help="The leaf, as `audit partitions list` names it.")
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever reads it next year.")]


@takes_rotation
def plan(
    rotation: Rotation,
    sql: Annotated[bool, typer.Option("--sql", help="Print it as a script for psql.")] = False,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Show what `run` would do, as things are now; changes nothing."""
    with rotation.open() as run:
        _show_plan(plan_tasks(run), sql=sql, output=output)


@takes_rotation
def run(
    rotation: Rotation,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Finish what was interrupted, create ahead, archive, detach, drop. Run it as often as you like.

    Every step commits by itself and none keeps a write waiting for longer than --lock-timeout. One that fails does
    not stop the others: the exit code is then 1.
    """
    from audit_toolkit.partitions import is_standby

    if dry_run:
        with rotation.open() as run:
            _show_plan(plan_tasks(run), sql=False, output=output)
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


@takes_rotation
def check(
    rotation: Rotation,
    warning: Annotated[
        float, typer.Option(metavar="DAYS", help="WARNING below this many days of leaves.")
    ] = 14,
    critical: Annotated[float, typer.Option(metavar="DAYS", help="CRITICAL below this many.")] = 3,
    stale: Annotated[
        float,
        typer.Option(
            metavar="DAYS", help="WARNING when no run succeeded for so long; CRITICAL after 7 days."
        ),
    ] = 2,
    textfile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write Prometheus metrics there, atomically.",
            show_default=False,
        ),
    ] = None,
    timeout: Timeout = TIMEOUT,
    output: CheckFormat = ReportFormat.TEXT,
) -> None:
    """Tell what is wrong, or soon will be: the horizon, gaps, the tail, interrupted work, leaves that were touched.

    Exit code 3 with findings; with --format nagios 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    """
    from audit_toolkit.partitions import Thresholds

    limits = Thresholds(
        horizon_warning=timedelta(days=warning),
        horizon_critical=timedelta(days=critical),
        success_warning=timedelta(days=stale),
        success_critical=timedelta(days=max(7, stale)),
    )
    _check(rotation, limits, textfile, output, timeout)


def hold(
    leaf: LeafName,
    reason: Reason,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Keep a leaf, attached or detached, from retention until it is released."""
    from audit_toolkit.partitions import plan_hold

    with Rotation(dsn=dsn, config=config, audit_schema=audit_schema).open() as run:
        _do(run, plan_hold(run.read(), leaf, reason))


def release(
    leaf: LeafName,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """End the hold of a leaf."""
    from audit_toolkit.partitions import plan_release

    with Rotation(dsn=dsn, config=config, audit_schema=audit_schema).open() as run:
        _do(run, plan_release(run.read(), leaf))


def attach(
    leaf: LeafName,
    reason: Reason,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Bring a detached leaf back into the trail, and hold it there."""
    from audit_toolkit.partitions import plan_attach

    with Rotation(dsn=dsn, config=config, audit_schema=audit_schema).open_alone() as run:
        _do(run, plan_attach(run.read(), leaf, reason))


@takes_rotation
def convert_default(
    rotation: Rotation,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
) -> None:
    """Turn a DEFAULT partition into a leaf with bounds, with leaves ahead and a tail behind it; moves no row."""
    from audit_toolkit.partitions import plan_default

    with rotation.open_alone() as run:
        task = plan_default(run.connection, run.read(), run.policy)
        if dry_run:
            _show_plan((task,), sql=True, output=Format.TEXT)
        else:
            _do(run, task)


def list_leaves(
    output: OutputFormat = Format.TEXT,
    timeout: Timeout = TIMEOUT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """List the leaves: their bounds, sizes, states, holds and archives."""
    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema)
    with options.open() as run, impatient(run.connection, run.schema, timeout):
        rows = list(view.leaf_rows(run.read()))
    if output is Format.JSON:
        print(json.dumps({"leaves": [asdict(row) for row in rows]}, indent=2))
    else:
        print("\n".join(map(str, rows)))


def _show_plan(tasks: tuple[Task, ...], *, sql: bool, output: Format) -> None:
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


def _check(
    rotation: Rotation,
    limits: Thresholds,
    textfile: Path | None,
    output: ReportFormat,
    timeout: float,
) -> None:
    from audit_toolkit.partitions import check_partitions, partition_report, write_textfile

    with rotation.open() as run, impatient(run.connection, run.schema, timeout):
        partitions = run.read()
        findings = check_partitions(partitions, run.policy, limits)
        if rotation.archive:
            from audit_toolkit.archive import archive_findings

            findings += tuple(archive_findings(run.connection, run.schema, rotation.archive))
    report = partition_report(partitions, findings, limits, needs_archive=run.policy.archived_only)
    if textfile:
        write_textfile(textfile, report.as_prometheus())
    end_with(report, output)


def _do(run: Run, task: Task) -> None:
    from audit_toolkit.errors import AuditError
    from audit_toolkit.partitions import Result

    outcome = run.attempt(task)
    if outcome.result is not Result.DONE:
        raise AuditError(outcome.message, hint=outcome.hint)
    print(task.what)
