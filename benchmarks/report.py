"""The figures as a table, and as JSON together with what they were measured on."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from audit_toolkit.version import __version__
from benchmarks.backend import SETTINGS, Backend, Databases, processor
from benchmarks.commits import Commits
from benchmarks.compare import Comparison
from benchmarks.curves import Point
from benchmarks.goals import Goal
from benchmarks.operations import Operation
from benchmarks.reading import Reading

_PACKAGES = ("auditrum", "django-pghistory", "postgresql-audit", "psycopg")


@dataclass(slots=True, kw_only=True)
class Report:
    """All that one run has measured."""

    environment: dict[str, Any]
    comparison: Comparison | None = None
    goals: list[Goal] = field(default_factory=list)
    bulk: list[Point] = field(default_factory=list)
    growth: list[Point] = field(default_factory=list)
    commits: list[Commits] = field(default_factory=list)
    reading: Reading | None = None


def environment(databases: Databases) -> dict[str, Any]:
    """Machine, versions and settings; nothing that names the machine."""
    with Backend(databases.dsn("postgres")) as backend:
        server = str(backend.value("show server_version"))
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "processors": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": server,
        "settings": SETTINGS | {"fsync": "off"},
        "packages": {"audit-toolkit": __version__} | {name: _version(name) for name in _PACKAGES},
    }


def as_json(report: Report) -> str:
    """All of it; times in microseconds, WAL and storage in bytes a change."""
    document = {
        "environment": report.environment,
        "goals": [dataclasses.asdict(goal) | {"passed": goal.passed} for goal in report.goals],
        "changes": list(_changes(report.comparison)),
        "rows_per_statement": [dataclasses.asdict(point) for point in report.bulk],
        "events_in_trail": [dataclasses.asdict(point) for point in report.growth],
        "commits": [dataclasses.asdict(run) for run in report.commits],
        "reading": report.reading and dataclasses.asdict(report.reading),
    }
    return json.dumps(document, indent=1) + "\n"


def as_text(report: Report) -> str:
    """Tables for a terminal or a page in Markdown."""
    parts = [_comparison_table(report.comparison), _commits_table(report.commits)]
    parts += [_curve("rows a statement", report.bulk), _curve("events in the trail", report.growth)]
    parts.append(goals_table(report.goals))
    return "\n".join(part for part in parts if part)


def goals_table(goals: Sequence[Goal]) -> str:
    """One line a goal: reached, limit, pass or short."""
    return table(
        ("goal", "what", "worst of", "reached", "limit", ""),
        [
            (
                str(goal.number),
                goal.words,
                goal.where,
                f"{goal.reached:.2f}",
                f"{goal.limit:g}",
                "pass" if goal.passed else "SHORT",
            )
            for goal in sorted(goals, key=lambda goal: goal.number)
        ],
    )


def save(report: Report, folder: Path) -> None:
    """Write `results.json` and `results.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(as_json(report), encoding="utf-8")
    (folder / "results.md").write_text(as_text(report), encoding="utf-8")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _changes(comparison: Comparison | None) -> Iterator[dict[str, Any]]:
    for result in comparison.results if comparison else ():
        yield {
            "arm": result.arm.name,
            "words": result.arm.words,
            "kind": result.arm.kind,
            "table": result.arm.shape.name,
            "gross": {name: dataclasses.asdict(cost) for name, cost in result.costs.items()},
        }


def _comparison_table(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    rows = []
    for result in comparison.results:
        nets = {operation: comparison.net(result.arm, operation) for operation in Operation}
        update = nets[Operation.UPDATE_N]
        figures = [f"{nets[operation].cpu:.1f}" for operation in Operation]
        rows.append((result.arm.name, *figures, f"{update.wal:.0f}", f"{update.stored:.0f}"))
    head = ("net of no audit, microseconds a row", *Operation, "WAL B/update", "stored B/update")
    return table(head, rows)


def _commits_table(commits: Sequence[Commits]) -> str:
    floor = {run.clients: run for run in commits if run.arm == "none"}
    return table(
        ("one update a commit", "clients", "per second", "of none", "p50 ms", "p95 ms", "p99 ms"),
        [
            (
                run.arm,
                str(run.clients),
                f"{run.per_second:.0f}",
                f"{run.per_second / floor[run.clients].per_second:.2f}",
                f"{run.p50:.3f}",
                f"{run.p95:.3f}",
                f"{run.p99:.3f}",
            )
            for run in commits
        ],
    )


def _curve(what: str, points: Sequence[Point]) -> str:
    sizes = sorted({point.size for point in points})
    lines = sorted({(point.arm, point.operation) for point in points})
    cpu = {(point.arm, point.operation, point.size): point.cpu for point in points}
    rows = [
        (f"{arm}: {operation}", *(_figure(cpu.get((arm, operation, size))) for size in sizes))
        for arm, operation in lines
    ]
    return table((f"microseconds a row; {what}", *(f"{size:,}" for size in sizes)), rows)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |\n"
        for line in lines
    )
