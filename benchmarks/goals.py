"""The goals, each a ratio (or milliseconds) within one run, and whether it was reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.arms import (
    AUDITRUM,
    CHANGES,
    CLASSIC,
    DELTA,
    HAND_ROW,
    HAND_STATEMENT,
    NONE,
    POSTGRESQL_AUDIT,
    ROW,
    STATEMENT,
    Arm,
    on_shape,
)
from benchmarks.backend import Cost
from benchmarks.compare import Comparison
from benchmarks.curves import WRITES, Layout, Point, net
from benchmarks.operations import Operation
from benchmarks.reading import Reading
from benchmarks.shapes import VARIED, WIDE

DELTA_ARMS = (
    NONE,
    ROW,
    DELTA,
    *(on_shape(arm, shape) for shape in (WIDE, VARIED) for arm in (NONE, ROW, DELTA)),
)
"""Those of goal 9."""

ARMS = (
    NONE,
    HAND_ROW,
    HAND_STATEMENT,
    CLASSIC,
    AUDITRUM,
    POSTGRESQL_AUDIT,
    ROW,
    STATEMENT,
    CHANGES,
    *DELTA_ARMS[2:],
)
"""Those that the goals speak of."""

_BULK = (Operation.INSERT_N, Operation.DELETE_N)
_ALL_BULK = (Operation.INSERT_N, Operation.UPDATE_N, Operation.DELETE_N)
_UPDATES = (Operation.UPDATE1, Operation.UPDATE_N)
Measure = Callable[[Cost], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What was to be reached, and what was: the worst of all operations."""

    number: int
    words: str
    reached: float
    limit: float
    where: str = ""

    @property
    def passed(self) -> bool:
        """Whether it was reached."""
        return self.reached <= self.limit


def cost_goals(found: Comparison) -> list[Goal]:
    """Goals 1 to 4, but for those that need a curve."""
    row = _worst(found, ROW, Operation)
    statement = _worst(found, STATEMENT, _BULK)
    return [
        row(
            1, "row mode, of the cheapest peer that keeps both rows as JSON", 0.8, POSTGRESQL_AUDIT
        ),
        row(1, "row mode, of a classic trigger that keeps both rows as text", 0.8, CLASSIC),
        row(1, "row mode, of auditrum", 0.35, AUDITRUM),
        statement(2, "statement mode, of the cheapest JSON peer's row mode", 0.4, POSTGRESQL_AUDIT),
        statement(2, "statement mode, of the classic trigger", 0.4, CLASSIC),
        _worst(found, STATEMENT, (Operation.UPDATE_N,))(
            2, "statement mode, of the cheapest JSON peer's row mode", 0.5, POSTGRESQL_AUDIT
        ),
        _worst(found, STATEMENT, (Operation.UPDATE_N,))(
            2, "statement mode, of the classic trigger", 0.5, CLASSIC
        ),
        row(3, "row mode, of its INSERT by hand", 1.25, HAND_ROW),
        _worst(found, STATEMENT, _ALL_BULK)(
            3, "statement mode, of its INSERT ... SELECT by hand", 1.1, HAND_STATEMENT
        ),
        _worst(found, CHANGES, _UPDATES, lambda cost: cost.wal)(
            4, "WAL of --store changes, of --store rows", 0.6, ROW
        ),
        _worst(found, CHANGES, _UPDATES, lambda cost: cost.stored)(
            4, "storage of --store changes, of --store rows", 0.6, ROW
        ),
    ]


def delta_goals(found: Comparison) -> list[Goal]:
    """Goal 9: an update of two columns with `--store delta`, of tables of 10 and of 60 columns."""
    sizes: tuple[tuple[str, Measure], ...] = (
        ("WAL", lambda cost: cost.wal),
        ("storage", lambda cost: cost.stored),
    )
    words = "of --store delta, of --store rows"
    goals = [
        _worst(found, DELTA, _UPDATES, size)(9, f"{what} {words}, 10 columns", 0.6, ROW)
        for what, size in sizes
    ]
    for shape, columns in (
        (WIDE, "60 columns that repeat one text"),
        (VARIED, "60 columns like the ten"),
    ):
        delta, rows = on_shape(DELTA, shape), on_shape(ROW, shape)
        goals += [
            _worst(found, delta, _UPDATES, size)(9, f"{what} {words}, {columns}", 0.25, rows)
            for what, size in sizes
        ]
        goals.append(_worst(found, delta, _UPDATES)(9, f"CPU {words}, {columns}", 1, rows))
    return goals


def _worst(
    found: Comparison,
    arm: Arm,
    operations: Iterable[Operation],
    measure: Measure = lambda cost: cost.cpu,
) -> Callable[[int, str, float, Arm], Goal]:
    def goal(number: int, words: str, limit: float, other: Arm) -> Goal:
        ratios = {
            operation: measure(found.net(arm, operation)) / measure(found.net(other, operation))
            for operation in operations
        }
        worst = max(ratios, key=lambda operation: ratios[operation])
        return Goal(number=number, words=words, reached=ratios[worst], limit=limit, where=worst)

    return goal


def linear_goal(points: Sequence[Point], few: int, many: int) -> Goal:
    """Goal 2: a row of a large statement costs what one of a small one costs."""
    ratios = {
        operation: net(points, STATEMENT, operation, many) / net(points, STATEMENT, operation, few)
        for operation in _ALL_BULK
    }
    worst = max(ratios, key=lambda operation: ratios[operation])
    words = f"statement mode, a row of {many} to one of {few}"
    return Goal(number=2, words=words, reached=ratios[worst], limit=1.2, where=worst)


def flat_goal(points: Sequence[Point], arm: Arm, layout: Layout) -> Goal:
    """Goal 5: a write costs what it costs in an empty trail, measured in turn with it."""
    cpu = {(point.arm, point.operation, point.size): point.cpu for point in points}
    filled = f"{arm.name}, {layout}"
    last = max(point.size for point in points if point.arm == filled)
    ratios = {
        operation: cpu[filled, operation, last] / cpu[f"{filled}, empty", operation, last]
        for operation in WRITES
    }
    worst = max(ratios, key=lambda operation: ratios[operation])
    words = f"a write with {last / 1e6:g} million events in {layout}, of one with none"
    return Goal(number=5, words=words, reached=ratios[worst], limit=1.1, where=worst)


def reading_goals(reading: Reading) -> list[Goal]:
    """Goal 7."""
    events = f"{reading.events / 1e6:g} million events"
    return [
        Goal(
            number=7,
            words=f"history of one row of {events}, ms in the server",
            reached=reading.history,
            limit=5,
        ),
        Goal(
            number=7,
            words="a partition run with nothing to do, ms",
            reached=reading.idle_run,
            limit=200,
        ),
    ]
