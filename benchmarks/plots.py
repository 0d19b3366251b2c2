"""The figures as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.arms import Kind
from benchmarks.commits import Commits
from benchmarks.compare import Comparison
from benchmarks.curves import Point
from benchmarks.operations import Operation
from benchmarks.report import Report
from benchmarks.shapes import ORDERS

_COLOURS = {Kind.FLOOR: "0.75", Kind.LIMIT: "0.45", Kind.PEER: "tab:orange", Kind.OURS: "tab:blue"}
_CUT = 160.0
"""Microseconds at which bars are cut off, with their figure: one arm is quadratic."""


def save_plots(report: Report, folder: Path) -> None:
    """Write one SVG for each part of the report that there is."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "audit-toolkit", "font.size": 9})
    if report.comparison:
        _save(_cost_figure(report.comparison), folder / "cost.svg")
    if report.bulk:
        _save(
            _curve_figure(report.bulk, "rows in one statement"), folder / "rows-per-statement.svg"
        )
    if report.growth:
        _save(_curve_figure(report.growth, "events in the trail"), folder / "events-in-trail.svg")
    if report.commits:
        _save(_commits_figure(report.commits), folder / "commits.svg")


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def _cost_figure(comparison: Comparison) -> Any:
    from matplotlib import pyplot

    arms = [result.arm for result in comparison.results if result.arm.shape == ORDERS][::-1]
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 8), sharey=True, sharex=True)
    for axis, operation in zip(axes.flat, Operation, strict=True):
        costs = [comparison.net(arm, operation).cpu for arm in arms]
        shown = [min(cost, _CUT) for cost in costs]
        bars = axis.barh([arm.name for arm in arms], shown, color=[_COLOURS[a.kind] for a in arms])
        axis.bar_label(bars, [f"{cost:.0f}" for cost in costs], padding=2)
        axis.set_title(operation)
        axis.set_xlim(0, _CUT * 1.1)
    figure.supxlabel("microseconds on a CPU that auditing adds to a row")
    return figure


def _curve_figure(points: Sequence[Point], what: str) -> Any:
    from matplotlib import pyplot

    operations = [
        operation for operation in Operation if any(p.operation == operation for p in points)
    ]
    figure, axes = pyplot.subplots(
        1, len(operations), figsize=(4.5 * len(operations), 4), sharey=True
    )
    for axis, operation in zip(axes, operations, strict=True):
        for arm in dict.fromkeys(point.arm for point in points):
            line = [p for p in points if (p.arm, p.operation) == (arm, operation)]
            axis.plot([p.size for p in line], [p.cpu for p in line], marker="o", label=arm)
        axis.set(title=operation, xlabel=what, ylabel="microseconds a row")
        axis.set_xscale("symlog" if any(p.size == 0 for p in points) else "log")
        highest = max(point.cpu for point in points)
        axis.set_ylim(bottom=0, top=min(1.3 * highest, _CUT / 2))
    axes[0].legend()
    return figure


def _commits_figure(commits: Sequence[Commits]) -> Any:
    from matplotlib import pyplot

    clients = list(dict.fromkeys(run.clients for run in commits))
    figure, axes = pyplot.subplots(1, len(clients), figsize=(4.5 * len(clients), 4), sharey=True)
    for axis, count in zip(axes, clients, strict=True):
        runs = [run for run in commits if run.clients == count][::-1]
        bars = axis.barh(
            [run.arm for run in runs], [run.per_second / runs[-1].per_second for run in runs]
        )
        axis.bar_label(bars, fmt="%.2f", padding=2)
        axis.set(title=f"{count} clients", xlabel="transactions a second, of no audit")
    return figure
