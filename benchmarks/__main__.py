"""Run the benchmark: `nox -s bench`, or `nox -s bench -- --short` for the goals alone.

`nox -s bench -- --against 0.2.0` compares a write with that of an earlier release;
`nox -s bench -- --wal 20000` measures capture from the WAL, with its worker;
`nox -s bench -- --questions 10000000` asks a trail of so many events what reads much of it;
`nox -s bench -- --commands 400` times commands from the shell, in a project of so many tables;
`nox -s bench -- --delta` compares updates with `--store delta` to those with whole rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import against, commands, goals, questions, wal
from benchmarks import arms as known
from benchmarks.arms import Arm
from benchmarks.backend import Databases, server
from benchmarks.commits import commits
from benchmarks.compare import compare
from benchmarks.curves import GrowingTrail, Layout, rows_per_statement
from benchmarks.reading import read_trail
from benchmarks.report import Report, as_text, environment, save

BULK_ARMS = (known.NONE, known.ROW, known.STATEMENT, known.CLASSIC)
COMMIT_ARMS = (
    known.NONE,
    known.CLASSIC,
    known.AUDITRUM,
    known.POSTGRESQL_AUDIT,
    known.PGHISTORY,
    known.ROW,
    known.STATEMENT,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured."""

    arms: tuple[Arm, ...]
    rows: int
    rounds: int
    bulk_arms: tuple[Arm, ...]
    bulk_sizes: tuple[int, ...]
    linear: tuple[int, int]
    """The two sizes of a statement that goal 2 compares."""
    bulk_rows: int
    """Rows that statements of each size change in all: small ones are repeated, twenty times at most."""
    trail_sizes: Mapping[Layout, tuple[int, ...]]
    read_at: int
    """The events in past leaves at which reading is measured."""
    write_rounds: int
    pgbench_seconds: int
    pgbench_rounds: int


FULL = Extent(
    arms=(*known.MAIN, *known.SHAPES),
    rows=1000,
    rounds=12,
    bulk_arms=BULK_ARMS,
    bulk_sizes=(1, 10, 100, 1000, 10_000, 100_000, 1_000_000),
    linear=(1000, 100_000),
    bulk_rows=300_000,
    trail_sizes={
        Layout.ONE_LEAF: (0, 100_000, 1_000_000, 5_000_000, 10_000_000, 20_000_000),
        Layout.PAST_LEAVES: (0, 100_000, 1_000_000, 10_000_000, 20_000_000, 50_000_000),
    },
    read_at=10_000_000,
    write_rounds=15,
    pgbench_seconds=4,
    pgbench_rounds=3,
)
SHORT = Extent(
    arms=goals.ARMS,
    rows=400,
    rounds=7,
    bulk_arms=(known.NONE, known.STATEMENT),
    bulk_sizes=(1000, 100_000),
    linear=(1000, 100_000),
    bulk_rows=100_000,
    trail_sizes=dict.fromkeys(Layout, (0, 100_000)),
    read_at=100_000,
    write_rounds=7,
    pgbench_seconds=0,
    pgbench_rounds=0,
)
TINY = Extent(
    arms=(*known.MAIN, *known.SHAPES),
    rows=60,
    rounds=1,
    bulk_arms=BULK_ARMS,
    bulk_sizes=(1, 20),
    linear=(1, 20),
    bulk_rows=20,
    trail_sizes=dict.fromkeys(Layout, (0, 100)),
    read_at=100,
    write_rounds=2,
    pgbench_seconds=1,
    pgbench_rounds=1,
)
"""Enough to see that all of it runs; its figures mean nothing."""


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them with `--output`."""
    options = _parser().parse_args(arguments)
    if options.against:
        with server() as cluster:
            ratios = against.against(
                Databases(cluster), options.against, rounds=300, rows=200, say=_say
            )
        print(against.as_text(ratios, options.against))
        return
    if options.wal:
        with server(**wal.SETTINGS) as cluster:
            found = wal.measure(Databases(cluster), rows=options.wal, rounds=7, say=_say)
        print(wal.as_text(found))
        return
    if options.questions:
        with server() as cluster:
            asked = questions.ask(Databases(cluster), options.questions)
        print(questions.as_text(asked, options.questions))
        return
    if options.commands:
        with server() as cluster:
            times = commands.measure(Databases(cluster), options.commands, rounds=15, say=_say)
        print(commands.as_text(times, options.commands))
        return
    if options.delta:
        with server() as cluster:
            print(as_text(_measure_delta(Databases(cluster))))
        return
    extent = SHORT if options.short else TINY if options.tiny else FULL
    if options.events:
        extent = _at_most(extent, options.events)
    if options.peer_folder:
        extent = replace(extent, arms=(*extent.arms, *known.from_folder(options.peer_folder)))
    with server() as cluster:
        report = measure(Databases(cluster), extent)
    print(as_text(report))
    if options.output:
        from benchmarks.plots import save_plots

        save(report, options.output)
        save_plots(report, options.output)


def measure(databases: Databases, extent: Extent) -> Report:
    """All of it, one after the other, with nothing else running on the server."""
    report = Report(environment=environment(databases))
    comparison = compare(databases, extent.arms, rows=extent.rows, rounds=extent.rounds, say=_say)
    report.comparison = comparison
    report.goals += [*goals.cost_goals(comparison), *goals.delta_goals(comparison)]
    report.bulk = rows_per_statement(
        databases, extent.bulk_arms, extent.bulk_sizes, extent.bulk_rows, _say
    )
    report.goals.append(goals.linear_goal(report.bulk, *extent.linear))
    if extent.pgbench_seconds:
        report.commits = commits(
            databases,
            COMMIT_ARMS,
            seconds=extent.pgbench_seconds,
            rounds=extent.pgbench_rounds,
            say=_say,
        )
    _grow(databases, extent, report)
    return report


def _measure_delta(databases: Databases) -> Report:
    """As many rows that the trail is past its first megabyte, where BRIN notes each insert."""
    report = Report(environment=environment(databases))
    report.comparison = compare(databases, goals.DELTA_ARMS, rows=5000, rounds=5, say=_say)
    report.goals += goals.delta_goals(report.comparison)
    return report


def _at_most(extent: Extent, events: int) -> Extent:
    sizes = {
        layout: tuple(size for size in sizes if size <= events)
        for layout, sizes in extent.trail_sizes.items()
    }
    read_at = min(extent.read_at, sizes[Layout.PAST_LEAVES][-1])
    return replace(extent, trail_sizes=sizes, read_at=read_at)


def _grow(databases: Databases, extent: Extent, report: Report) -> None:
    for layout, sizes in extent.trail_sizes.items():
        trail = GrowingTrail(databases, known.ROW, layout)
        for size in sizes:
            report.growth += trail.at(size, extent.write_rounds, _say)
            if layout is Layout.PAST_LEAVES and size == extent.read_at:
                report.reading = read_trail(databases.dsn(trail.name), size)
                report.goals += goals.reading_goals(report.reading)
        report.goals.append(goals.flat_goal(report.growth, known.ROW, layout))
        trail.drop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--short", action="store_true", help="the goals alone, in under a minute")
    extent.add_argument("--tiny", action="store_true", help="all of it on a few rows: does it run?")
    extent.add_argument("--against", metavar="RELEASE", help="a write beside that release, alone")
    extent.add_argument(
        "--questions", type=int, metavar="EVENTS", help="what reads much of such a trail, alone"
    )
    extent.add_argument(
        "--wal", type=int, metavar="ROWS", help="capture from the WAL beside triggers, alone"
    )
    extent.add_argument(
        "--commands", type=int, metavar="TABLES", help="commands from the shell, alone"
    )
    extent.add_argument("--delta", action="store_true", help="what --store delta costs, alone")
    parser.add_argument("--events", type=int, help="fill the trail with at most so many events")
    parser.add_argument(
        "--peer-folder",
        type=Path,
        metavar="FOLDER",
        help="also measure the tools of plain SQL that are there: audit-trigger/, supa_audit/, pgMemento/",
    )
    parser.add_argument("--output", type=Path, help="folder for tables, JSON and plots")
    return parser


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
