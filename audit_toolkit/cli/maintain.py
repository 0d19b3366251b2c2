"""`audit maintain`: all the work for cron in one run."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli.options import Format, OutputFormat
from audit_toolkit.cli.rotation import (
    Rotation,
    plan_tasks,
    print_outcomes,
    print_tasks,
    rotate,
    takes_rotation,
)

if TYPE_CHECKING:
    from audit_toolkit.indexes import Report
    from audit_toolkit.partitions import Finding, Run

FINDINGS = 3


def add_to(app: typer.Typer) -> None:
    """Add `audit maintain`."""
    app.command()(maintain)


@takes_rotation
def maintain(
    rotation: Rotation,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    textfile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write Prometheus metrics of the partitions there, atomically.",
            show_default=False,
        ),
    ] = None,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Do all regular work: partitions, archive, then the checks of partitions and indexes. One line in cron.

    Running it twice does nothing twice; a second run at the same time ends with exit code 5, a run on a standby does
    nothing. Exit code 1 when a step failed, 3 when all went well and a check found something.
    """
    from audit_toolkit.partitions import is_standby, succeeded

    if dry_run:
        _dry_run(rotation, output)
        return
    with rotation.open_alone() as run:
        standby = is_standby(run.connection)
        outcomes = rotate(rotation, run)
        findings = () if standby else _check_partitions(run, textfile)
        indexes = None if standby else _check_indexes(run)
        if not standby:
            run.finished("maintain", outcomes)
    wrong = bool(findings) or (indexes is not None and _is_wrong(indexes))
    status = "standby" if standby else "findings" if wrong else "ok"
    status = status if succeeded(outcomes) else "failed"
    summary = {
        "status": status,
        "outcomes": [outcome.as_dict() for outcome in outcomes],
        "partitions": {"findings": [finding.as_dict() for finding in findings]},
        "indexes": indexes.as_dict() if indexes else None,
    }
    if output is Format.JSON:
        print(json.dumps(summary, indent=2))
    else:
        print_outcomes(outcomes)
        for finding in findings:
            print(f"{finding.severity:<9} {finding.object}: {finding.message}; remedy: {finding.remedy}")
        if indexes is not None:
            print(indexes.as_text())
    if status in ("failed", "findings"):
        raise typer.Exit(1 if status == "failed" else FINDINGS)


def _dry_run(rotation: Rotation, output: Format) -> None:
    with rotation.open() as run:
        tasks = plan_tasks(run)
    if output is Format.JSON:
        print(json.dumps({"status": "dry_run", "tasks": [t.as_dict() for t in tasks]}, indent=2))
    else:
        print_tasks(tasks)


def _check_partitions(run: Run, textfile: Path | None) -> tuple[Finding, ...]:
    from audit_toolkit.partitions import Thresholds, check_partitions, monitoring

    partitions = run.read()
    # Whether this very run succeeded is told by its exit code.
    limits = Thresholds(success_warning=timedelta.max, success_critical=timedelta.max)
    findings = check_partitions(partitions, run.policy, limits)
    if textfile:
        text = monitoring.prometheus(partitions, findings, run.policy.archived_only)
        monitoring.write_textfile(textfile, text)
    return tuple(finding for finding in findings if finding.code != "last_success")


def _check_indexes(run: Run) -> Report:
    from audit_toolkit.indexes import Report, Scope, diagnose, plan_repairs, read_catalogue

    catalogue = read_catalogue(run.connection, Scope(schema=run.schema))
    repairs = plan_repairs(diagnose(catalogue), catalogue)
    return Report(repairs=repairs, total=len(catalogue.indexes))


def _is_wrong(report: Report) -> bool:
    from audit_toolkit.indexes import Severity

    return report.reaches(Severity.WARNING)
