"""What grows: rows in one statement, events in the trail."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.arms import NONE, Arm
from benchmarks.backend import Backend, Databases, read_sql
from benchmarks.compare import prepare
from benchmarks.operations import Operation, restart_numbers, work

SINGLE_STATEMENTS = 3000
"""Statements of one row that a connection runs before its first of many: their plans are kept by then."""
WRITES = (Operation.INSERT1, Operation.UPDATE1)
WRITE_ROWS = 1000
"""Single-row changes of each kind that are measured at once, at each size of the trail."""
TABLE_ROWS = 20_000
LEAF_EVENTS = 1_000_000
_BULK = (Operation.INSERT_N, Operation.UPDATE_N, Operation.DELETE_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Microseconds on a CPU for one row, where `size` is what grows."""

    arm: str
    operation: Operation
    size: int
    cpu: float


def rows_per_statement(
    databases: Databases,
    arms: Sequence[Arm],
    sizes: Sequence[int],
    rows: int,
    say: Callable[[str], None],
) -> list[Point]:
    """The cost per row of one statement over so many rows, after thousands of single-row statements.

    Small statements are repeated until so many rows are changed.
    """
    points = []
    for arm in arms:
        template = prepare(databases, arm)
        for size in sizes:
            say(f"{arm.name}: statements of {size} rows")
            with databases.copy(template) as backend:
                points += _bulk_points(arm, backend, size, max(1, min(20, rows // size)))
    return points


def _bulk_points(arm: Arm, backend: Backend, size: int, repeats: int) -> list[Point]:
    for operation in list(Operation)[:3]:
        backend.run(work(arm, operation, first=1, last=SINGLE_STATEMENTS))
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


class Layout(StrEnum):
    """Where the events lie that are there already."""

    ONE_LEAF = "one leaf"
    """All in the leaf that is written to: the worst case."""
    PAST_LEAVES = "past leaves"
    """A million in each of the months before, as years leave them."""


class GrowingTrail:
    """A trail that events are put into, and a twin that stays empty, measured in turn.

    So that what the machine does meanwhile hits both alike.
    """

    def __init__(self, databases: Databases, arm: Arm, layout: Layout) -> None:
        self.layout = layout
        self.events = 0
        self._databases = databases
        self._arm = arm
        self.name, self._twin = (_with_rows(databases, arm) for _ in range(2))

    def at(self, events: int, rounds: int, say: Callable[[str], None]) -> list[Point]:
        """The cost of a write once so many events are there, beside that in the empty twin.

        Medians of so many rounds; one more warms the connections.
        """
        say(f"{self._arm.name}: {events} events in {self.layout}")
        self._fill(events - self.events)
        self.events = events
        found = _writes_in_turn(self._databases, self._arm, (self.name, self._twin), rounds)
        return [
            Point(arm=f"{self._arm.name}, {kind}", operation=operation, size=events, cpu=cpu)
            for kind, costs in zip((self.layout, f"{self.layout}, empty"), found, strict=True)
            for operation, cpu in costs.items()
        ]

    def drop(self) -> None:
        """Give the room back."""
        for name in (self.name, self._twin):
            self._databases.drop(name)

    def _fill(self, events: int) -> None:
        fill = read_sql("fill" if self.layout is Layout.ONE_LEAF else "fill_past_leaf")
        with Backend(self._databases.dsn(self.name)) as backend:
            for first in range(0, events, LEAF_EVENTS):
                backend.run(fill.replace("{events}", str(min(LEAF_EVENTS, events - first))))
                backend.run("checkpoint")


def _with_rows(databases: Databases, arm: Arm) -> str:
    template = prepare(databases, arm)
    with Backend(databases.dsn(template)) as backend:
        backend.run(work(arm, Operation.INSERT_N, first=1, last=TABLE_ROWS))
    return template


def _writes_in_turn(
    databases: Databases, arm: Arm, names: Sequence[str], rounds: int
) -> list[dict[Operation, float]]:
    with ExitStack() as stack:
        backends = [stack.enter_context(Backend(databases.dsn(name))) for name in names]
        costs = [{operation: list[float]() for operation in WRITES} for _ in backends]
        for _ in range(rounds + 1):
            for number in random.sample(range(len(backends)), len(backends)):
                for operation, values in costs[number].items():
                    statement = work(arm, operation, first=1, last=WRITE_ROWS)
                    values.append(backends[number].measure(statement, WRITE_ROWS).cpu)
    return [
        {operation: statistics.median(values[1:]) for operation, values in each.items()}
        for each in costs
    ]


def net(points: Sequence[Point], arm: Arm, operation: Operation, size: int) -> float:
    """What the arm adds at that size to a write without audit."""
    found = {
        point.arm: point.cpu
        for point in points
        if (point.operation, point.size) == (operation, size)
    }
    return found[arm.name] - found[NONE.name]
