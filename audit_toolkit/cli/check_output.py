"""How a command prints what it found, and ends: text, JSON, Nagios or Prometheus, and the exit code."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from audit_toolkit.findings import FINDINGS, Report, Severity


class ReportFormat(StrEnum):
    """How a check prints."""

    TEXT = "text"
    JSON = "json"
    NAGIOS = "nagios"
    PROMETHEUS = "prometheus"


_SEVERITIES = [severity.value for severity in list(Severity)[1:]]


def _severity(word: str) -> Severity:
    if word == "critical":
        print("warning: --fail-on critical is called --fail-on error now", file=sys.stderr)
    elif word not in _SEVERITIES:
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(_SEVERITIES)}")
    return Severity(word)


CheckFormat = Annotated[ReportFormat, typer.Option("--format", help="Output format.")]
FailOn = Annotated[
    Severity,
    typer.Option(
        "--fail-on",
        parser=_severity,
        metavar=f"[{'|'.join(_SEVERITIES)}]",
        autocompletion=lambda: _SEVERITIES,
        help="Exit with code 3 from this severity on.",
    ),
]


def end_with(report: Report, output: ReportFormat, fail_on: Severity = Severity.WARNING) -> None:
    """Print the report; raises `Exit` with code 3 when something is as bad as that, or with Nagios' code."""
    print_report(report, output, fail_on)
    if output is ReportFormat.NAGIOS:
        raise typer.Exit(report.nagios_code)
    if report.failing(fail_on):
        raise typer.Exit(FINDINGS)


def print_report(
    report: Report, output: ReportFormat, fail_on: Severity = Severity.WARNING
) -> None:
    """Print the report."""
    match output:
        case ReportFormat.TEXT:
            print_lines(report)
        case ReportFormat.JSON:
            print(json.dumps(report.as_dict(fail_on), indent=2))
        case ReportFormat.NAGIOS:
            print(_visible(report.as_nagios()))
        case ReportFormat.PROMETHEUS:
            print(report.as_prometheus(), end="")


def print_lines(report: Report) -> None:
    """Print the report for people."""
    for line in report.as_lines():
        print(_visible(line))


def _visible(line: str) -> str:
    from audit_toolkit.cli.values import visible

    return visible(line)
