"""`audit partitions check`: check partition coverage, gaps and interrupted work."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from audit_toolkit.cli.check_output import CheckFormat, ReportFormat, end_with
from audit_toolkit.cli.monitoring import TIMEOUT, Timeout, impatient
from audit_toolkit.cli.partition_run import (
    Rotation,
    takes_rotation,
)
from audit_toolkit.cli.whole_file import write_metrics
from audit_toolkit.partitions import Thresholds, check_partitions, partition_report


@takes_rotation
def check(
    rotation: Rotation,
    warning: Annotated[
        float,
        typer.Option(
            metavar="DAYS", help="WARNING if fewer days than this are covered by partitions."
        ),
    ] = 14,
    critical: Annotated[
        float, typer.Option(metavar="DAYS", help="CRITICAL if fewer days than this are covered.")
    ] = 3,
    stale: Annotated[
        float,
        typer.Option(
            metavar="DAYS", help="WARNING if no run succeeded for this long; CRITICAL after 7 days."
        ),
    ] = 2,
    textfile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write Prometheus metrics to this file, atomically.",
            show_default=False,
        ),
    ] = None,
    timeout: Timeout = TIMEOUT,
    output: CheckFormat = ReportFormat.TEXT,
) -> None:
    """Check partition coverage, gaps and interrupted work.

    Also the catch-all partition and changes made by hand. Exits with code 3 on findings; with
    --format nagios 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    """
    limits = Thresholds(
        horizon_warning=timedelta(days=warning),
        horizon_critical=timedelta(days=critical),
        success_warning=timedelta(days=stale),
        success_critical=timedelta(days=max(7, stale)),
    )
    _check(rotation, limits, textfile, output, timeout)


def _check(
    rotation: Rotation,
    limits: Thresholds,
    textfile: Path | None,
    output: ReportFormat,
    timeout: float,
) -> None:
    with rotation.open() as run, impatient(run.connection, run.schema, timeout):
        partitions = run.read()
        findings = check_partitions(partitions, run.policy, limits)
        if rotation.archive:
            from audit_toolkit.archive import archive_findings

            findings += tuple(archive_findings(run.connection, run.schema, rotation.archive))
    report = partition_report(partitions, findings, limits, needs_archive=run.policy.archived_only)
    if textfile:
        write_metrics(textfile, report.as_prometheus())
    end_with(report, output)
