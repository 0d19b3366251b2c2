"""The comparison itself: arms in random order, round after round, and the medians of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.arms import NONE, Arm
from benchmarks.backend import Cost, Databases, median_cost
from benchmarks.operations import Operation, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one arm costs: the medians of its rounds."""

    arm: Arm
    costs: dict[Operation, Cost]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The results of all arms of one run."""

    results: tuple[Result, ...]

    def gross(self, arm: Arm, operation: Operation) -> Cost:
        """What a change costs with this arm."""
        return next(result for result in self.results if result.arm == arm).costs[operation]

    def net(self, arm: Arm, operation: Operation) -> Cost:
        """What the arm adds to the same change of the same table without any audit."""
        cost = self.gross(arm, operation)
        floor = next(
            result.costs[operation]
            for result in self.results
            if result.arm.install is NONE.install and result.arm.shape == arm.shape
        )
        return Cost(
            cpu=cost.cpu - floor.cpu, wal=cost.wal - floor.wal, stored=cost.stored - floor.stored
        )


def prepare(databases: Databases, arm: Arm) -> str:
    """The name of a new database with the arm's table and audit."""
    name = databases.template(arm.shape.ddl)
    arm.install(databases.dsn(name))
    return name


def compare(
    databases: Databases,
    arms: Sequence[Arm],
    *,
    rows: int,
    rounds: int,
    say: Callable[[str], None],
) -> Comparison:
    """Each round runs every arm once, on a new copy of its database: no arm meets another's rows."""
    templates = {arm.name: prepare(databases, arm) for arm in arms}
    costs: dict[str, list[dict[Operation, Cost]]] = {arm.name: [] for arm in arms}
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}: {len(arms)} arms, {rows} rows an operation")
        for arm in random.sample(arms, len(arms)):
            with databases.copy(templates[arm.name]) as backend:
                costs[arm.name].append(measure(arm, backend, rows))
    return Comparison(
        results=tuple(Result(arm=arm, costs=_medians(costs[arm.name])) for arm in arms)
    )


def _medians(rounds: Sequence[dict[Operation, Cost]]) -> dict[Operation, Cost]:
    return {
        operation: median_cost([costs[operation] for costs in rounds]) for operation in Operation
    }
