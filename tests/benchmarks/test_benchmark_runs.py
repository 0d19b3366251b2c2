"""The benchmark runs; what it measures on a few rows means nothing and is not looked at."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import commands, goals, wal
from benchmarks.__main__ import TINY, measure
from benchmarks.against import against
from benchmarks.arms import (
    CLASSIC,
    MAIN,
    NONE,
    PGHISTORY_STATEMENT,
    POSTGRESQL_AUDIT_STATEMENT,
    ROW,
    SHAPES,
    STATEMENT,
    Arm,
    Kind,
    from_folder,
)
from benchmarks.backend import Backend, Databases, server
from benchmarks.compare import Comparison, Result, prepare
from benchmarks.curves import Point
from benchmarks.operations import Operation, beforehand, restart_numbers, work
from benchmarks.plots import save_plots
from benchmarks.questions import ask
from benchmarks.report import save
from tests.plugins.seeds import some_quick

ROWS = 3
EVENT_TABLES = {
    "pgMemento": "pgmemento.row_log",
    "supa_audit": "audit.record_version",
    "classic": "audit.logged_actions",
    "auditrum": "auditlog",
    "postgresql-audit": "activity",
    "pghistory": "pghistory_orderevent",
}
AUDITED = [arm for arm in (*MAIN, *SHAPES) if arm.kind is not Kind.FLOOR]


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with server() as cluster:
        yield Databases(cluster)


def table_of_events(arm: Arm) -> str:
    return next(
        (table for name, table in EVENT_TABLES.items() if arm.name.startswith(name)),
        "audit.logged_actions",
    )


# Of the other tools and of the other shapes of the table every run takes one.
OURS = [arm for arm in MAIN if arm.kind is not Kind.PEER]


@pytest.mark.parametrize(
    "arm", some_quick(AUDITED, [*OURS, PGHISTORY_STATEMENT, SHAPES[-1]]), ids=lambda arm: arm.name
)
def test_every_arm_writes_one_event_a_row(arm: Arm, databases: Databases) -> None:
    template = prepare(databases, arm)
    with Backend(databases.dsn(template)) as backend:
        for operation in Operation:
            before = backend.value(f"select count(*) from {table_of_events(arm)}")
            restart_numbers(backend, arm.shape)
            backend.run(beforehand(arm, operation))
            backend.run(work(arm, operation, first=1, last=ROWS))
            after = backend.value(f"select count(*) from {table_of_events(arm)}")
            assert after - before == ROWS, operation
        assert backend.value("select count(*) from orders") == 0


@pytest.mark.thorough
def test_capture_from_the_wal_is_measured_with_its_worker() -> None:
    with server(**wal.SETTINGS) as cluster:
        found = wal.measure(Databases(cluster), rows=ROWS, rounds=1, say=lambda _: None)
    assert found.reading.keys() == set(wal.OPERATIONS)
    assert {goal.number for goal in wal.goals(found)} == {8}
    assert "| ours, wal" in wal.as_text(found)


@pytest.mark.thorough
def test_commands_are_timed_in_a_project(databases: Databases) -> None:
    found = commands.measure(databases, tables=2, rounds=2, say=lambda _: None)
    assert [len(times.wall) for times in found] == [1, 1, 2, 2]
    assert all(cpu > 0 for times in found for cpu in times.cpu)
    assert "| `audit history table_1 1`" in commands.as_text(found, tables=2)
    assert {goal.number for goal in commands.goals(found, tables=2)} == {10, 12}


def test_tools_of_plain_sql_come_from_a_folder(databases: Databases, tmp_path: Path) -> None:
    """`AUDIT_PEER_FOLDER` names one with their repositories, which are not ours to ship."""
    with pytest.raises(
        FileNotFoundError, match=r"has none of audit-trigger/audit\.sql, supa_audit"
    ):
        from_folder(tmp_path)
    folder = os.environ.get("AUDIT_PEER_FOLDER")
    if folder is None:
        return
    for arm in from_folder(Path(folder)):
        test_every_arm_writes_one_event_a_row(arm, databases)


@pytest.mark.thorough
def test_it_measures_reports_and_draws(databases: Databases, tmp_path: Path) -> None:
    extent = replace(TINY, arms=(*goals.ARMS, POSTGRESQL_AUDIT_STATEMENT, PGHISTORY_STATEMENT))
    report = measure(databases, replace(extent, pgbench_seconds=0))
    save(report, tmp_path)
    save_plots(report, tmp_path)
    document = json.loads((tmp_path / "results.json").read_text())
    assert {goal["number"] for goal in document["goals"]} == {1, 2, 3, 4, 5, 7, 9}
    assert {point["size"] for point in document["rows_per_statement"]} == set(TINY.bulk_sizes)
    assert document["environment"]["postgresql"]
    assert "| ours, row " in (tmp_path / "results.md").read_text()
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        "cost.svg",
        "rows-per-statement.svg",
        "events-in-trail.svg",
    }


class TestGoals:
    def test_the_worst_operation_decides(self) -> None:
        def point(arm: Arm, operation: Operation, size: int, cpu: float) -> Point:
            return Point(arm=arm.name, operation=operation, size=size, cpu=cpu)

        points = [
            point(arm, operation, size, 1.0 if arm is NONE else 11.0)
            for arm in (NONE, STATEMENT)
            for operation in (Operation.INSERT_N, Operation.UPDATE_N, Operation.DELETE_N)
            for size in (10, 100)
        ]
        assert goals.linear_goal(points, 10, 100).passed
        slow = point(STATEMENT, Operation.UPDATE_N, 100, 14.0)
        kept = [
            p for p in points if (p.arm, p.operation, p.size) != (slow.arm, slow.operation, 100)
        ]
        goal = goals.linear_goal([*kept, slow], 10, 100)
        assert (goal.reached, goal.where, goal.passed) == (1.3, "updateN", False)

    def test_net_is_what_an_arm_adds(self) -> None:
        from benchmarks.backend import Cost

        def result(arm: Arm, cpu: float) -> Result:
            cost = Cost(cpu=cpu, wal=cpu * 10, stored=cpu * 5)
            return Result(arm=arm, costs=dict.fromkeys(Operation, cost))

        found = Comparison(results=(result(NONE, 5.0), result(ROW, 25.0), result(CLASSIC, 30.0)))
        assert found.net(ROW, Operation.INSERT1) == Cost(cpu=20.0, wal=200.0, stored=100.0)


def test_questions_find_what_they_ask_for(databases: Databases) -> None:
    asked = {question.words: question.found for question in ask(databases, 1000)}
    assert asked["`table-at` at the end"] == asked["`diff` of the second half"] == 100
    assert asked["`history --actor`, all"] == 1
    assert asked["`history` of a row"] == asked["`history` of a row, the first"] == 11


def test_a_release_is_measured_beside_this_version(databases: Databases) -> None:
    ratios = against(databases, "0.2.0", rounds=2, rows=5, say=lambda _: None)
    assert [(r.columns, r.operation.verb) for r in ratios] == [
        (columns, verb) for columns in (5, 30) for verb in ("insert", "update", "delete")
    ]
    assert all(r.former > 0 and r.present > 0 for r in ratios)
