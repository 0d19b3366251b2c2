"""What grows: rows in one statement, events in the trail."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.arms import NONE, Arm
from benchmarks.backend import Backend, Databases, read_sql
from benchmarks.compare import prepare
from benchmarks.operations import Operation, restart_numbers, work

SINGLE_STATEMENTS = 3000
"""Statements of one row that a connection runs before its first of many: their plans are kept by then."""
WRITES = 2000
"""Single-row changes that are measured at each size of the trail."""
TABLE_ROWS = 20_000
_BULK = (Operation.INSERT_N, Operation.UPDATE_N, Operation.DELETE_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Microseconds on a CPU for one row, where `size` is what grows."""

    arm: str
    operation: Operation
    size: int
    cpu: float


def rows_per_statement(
    databases: Databases, arms: Sequence[Arm], sizes: Sequence[int], say: Callable[[str], None]
) -> list[Point]:
    """The cost per row of one statement over so many rows, after thousands of single-row statements."""
    points = []
    for arm in arms:
        template = prepare(databases, arm)
        for size in sizes:
            say(f"{arm.name}: statements of {size} rows")
            with databases.copy(template) as backend:
                points += _bulk_points(arm, backend, size)
    return points


def _bulk_points(arm: Arm, backend: Backend, size: int) -> list[Point]:
    for operation in list(Operation)[:3]:
        backend.run(work(arm, operation, first=1, last=SINGLE_STATEMENTS))
    repeats = max(1, min(20, 2000 // size))
    costs: dict[Operation, list[float]] = {operation: [] for operation in _BULK}
    for _ in range(repeats):
        restart_numbers(backend, arm.shape)
        for operation in _BULK:
            statement = work(arm, operation, first=1, last=size)
            costs[operation].append(backend.measure(statement, size).cpu)
    return [
        Point(arm=arm.name, operation=operation, size=size, cpu=statistics.median(values))
        for operation, values in costs.items()
    ]


def events_in_trail(
    databases: Databases, arm: Arm, sizes: Sequence[int], say: Callable[[str], None]
) -> tuple[list[Point], str]:
    """The cost of a write at each size of the trail, all events in the leaf that is written to.

    Also the name of the database, with as many events as the last size says.
    """
    template = prepare(databases, arm)
    with Backend(databases.dsn(template)) as backend:
        backend.run(work(arm, Operation.INSERT_N, first=1, last=TABLE_ROWS))
        points: list[Point] = []
        events = 0
        for size in sizes:
            say(f"{arm.name}: {size} events in the trail")
            _fill(backend, size - events)
            events = size
            points += _write_points(arm, backend, size)
    return points, template


def _fill(backend: Backend, events: int) -> None:
    step = 1_000_000
    for first in range(0, events, step):
        count = str(min(step, events - first))
        backend.run(read_sql("fill").replace("{events}", count))
        backend.run("checkpoint")


def _write_points(arm: Arm, backend: Backend, size: int) -> list[Point]:
    costs: dict[Operation, list[float]] = {Operation.INSERT1: [], Operation.UPDATE1: []}
    for _ in range(5):
        for operation, values in costs.items():
            values.append(backend.measure(work(arm, operation, first=1, last=WRITES), WRITES).cpu)
    return [
        Point(arm=arm.name, operation=operation, size=size, cpu=statistics.median(values))
        for operation, values in costs.items()
    ]


def net(points: Sequence[Point], arm: Arm, operation: Operation, size: int) -> float:
    """What the arm adds at that size to a write without audit."""
    found = {
        point.arm: point.cpu
        for point in points
        if (point.operation, point.size) == (operation, size)
    }
    return found[arm.name] - found[NONE.name]
