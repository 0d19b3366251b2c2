"""The comparison itself: arms in random order, round after round, and the medians of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.arms import Arm
from benchmarks.backend import Cost, Databases, median_cost
from benchmarks.operations import Operation, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The medians of one arm, and what its events take on disk."""

    arm: Arm
    costs: dict[Operation, Cost]
    stored: float
    """Bytes a change that the database grew by, indexes included, over all six operations."""


def prepare(databases: Databases, arms: Sequence[Arm]) -> dict[str, str]:
    """A template for each arm; their names by the arm's."""
    templates = {}
    for arm in arms:
        templates[arm.name] = databases.template(arm.shape.ddl)
        arm.install(databases.dsn(templates[arm.name]))
    return templates


def compare(
    databases: Databases,
    arms: Sequence[Arm],
    *,
    rows: int,
    rounds: int,
    say: Callable[[str], None],
) -> list[Result]:
    """Each round runs every arm once, on a new copy of its database, so that no arm meets another's rows."""
    templates = prepare(databases, arms)
    costs: dict[str, list[dict[Operation, Cost]]] = {arm.name: [] for arm in arms}
    sizes: dict[str, float] = {}
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}: {len(arms)} arms, {rows} rows an operation")
        for arm in random.sample(arms, len(arms)):
            with databases.copy(templates[arm.name]) as backend:
                before = backend.value("select pg_database_size(current_database())")
                costs[arm.name].append(measure(arm, backend, rows))
                after = backend.value("select pg_database_size(current_database())")
                sizes[arm.name] = (after - before) / (rows * len(Operation))
    return [
        Result(arm=arm, costs=_medians(costs[arm.name]), stored=sizes[arm.name]) for arm in arms
    ]


def _medians(rounds: Sequence[dict[Operation, Cost]]) -> dict[Operation, Cost]:
    return {
        operation: median_cost([costs[operation] for costs in rounds]) for operation in Operation
    }
