"""Random work on a partitioned table, captured by triggers and from the WAL: the same events, however it is read."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from audit_toolkit.config import Capture, Mask
from tests.wal.conftest import WalTrail

ROOT = "create table {0} (id int, p int, v text, secret text, primary key (id, p)) partition by list (p)"
RULES: list[dict[str, Any]] = [
    {},
    {"exclude": ("secret",)},
    {"mask": (Mask(column="secret"),)},
    {"when": "v <> 'skip'"},
    {"log_unchanged": True},
]
STEPS = 60


@dataclass
class Work:
    """What is done to both tables, and which partitions they have."""

    trail: WalTrail
    chance: random.Random
    rule: dict[str, Any]
    parts: list[int] = field(default_factory=lambda: [0, 1, 2])
    detached: list[int] = field(default_factory=list)
    has_extra: bool = False

    def begin(self) -> None:
        self.both(
            ROOT,
            *(f"create table {{0}}_{p} partition of {{0}} for values in ({p})" for p in (0, 1, 2)),
        )
        self.trail.audit("by_wal", capture=Capture.WAL, **self.rule)
        self.renew()

    def renew(self) -> None:
        """Read what there is; with triggers, partitions get theirs on TRUNCATE by an installation."""
        self.trail.read()
        self.trail.audit("by_row", **self.rule)

    def both(self, *statements: str) -> bool:
        """Whether PostgreSQL took all of them."""
        done = True
        for statement in statements:
            for name in ("by_row", "by_wal"):
                try:
                    self.trail.execute(statement.format(name))
                except (
                    psycopg.errors.UniqueViolation,
                    psycopg.errors.CheckViolation,
                    psycopg.errors.DatatypeMismatch,
                ):
                    done = False
                    self.trail.execute("rollback")
        return done

    def change(self) -> str:
        """A statement that changes rows."""
        row, part, other = self.chance.randrange(20), self.part(), self.part()
        value = self.chance.choice(["a", "b", "skip", 'é"x', ""])
        several = f"select number, {part} from generate_series({row}, {row + 3}) as number"
        statements = (
            f"insert into {{0}} values ({row}, {part}, '{value}', 's{row}') on conflict do nothing",
            f"insert into {{0}} (id, p) {several} on conflict do nothing",
            f"update {{0}} set v = '{value}' where id % 3 = {row % 3}",
            f"update {{0}} set p = {other} where id = {row}",
            f"update {{0}} set id = id + 1 where id = {row}",
            f"delete from {{0}} where id = {row}",
            f"truncate {{0}}_{part}" if row < 8 else f"update {{0}}_{part} set id = id",
            "truncate {0}" if row < 4 else f"insert into {{0}}_{part} values ({row + 20}, {part})",
        )
        return self.chance.choice(statements)

    def part(self) -> int:
        return self.chance.choice(self.parts)

    def transaction(self) -> None:
        statements = [self.change() for _ in range(3)]
        end = self.chance.choice(["commit", "rollback"])
        self.both(f"begin; {'; '.join(statements)}; {end}")

    def create(self) -> None:
        new = max([*self.parts, *self.detached]) + 1
        self.both(f"create table {{0}}_{new} partition of {{0}} for values in ({new})")
        self.parts.append(new)
        self.renew()

    def detach(self) -> None:
        if len(self.parts) > 1:
            part = self.part()
            self.trail.read()
            self.both(
                f"alter table {{0}} detach partition {{0}}_{part}",
                f"update {{0}}_{part} set v = 'out'",
            )
            self.parts.remove(part)
            self.detached.append(part)

    def attach(self) -> None:
        if self.detached:
            part = self.chance.choice(self.detached)
            self.trail.read()
            if self.both(f"alter table {{0}} attach partition {{0}}_{part} for values in ({part})"):
                self.detached.remove(part)
                self.parts.append(part)
                self.renew()

    def alter(self) -> None:
        self.both(f"alter table {{0}} {'drop column x' if self.has_extra else 'add column x int'}")
        self.has_extra = not self.has_extra


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(10))
def test_random_work_has_the_same_events_as_by_triggers(wal_trail: WalTrail, seed: int) -> None:
    chance = random.Random(seed)
    work = Work(wal_trail, chance, RULES[seed % len(RULES)])
    work.begin()
    rare: list[Callable[[], None]] = [work.create, work.detach, work.attach, work.alter]
    for _ in range(STEPS):
        kind = chance.random()
        if kind < 0.15:
            chance.choice(rare)()
        elif kind < 0.3:
            work.transaction()
        else:
            work.both(work.change())
        if chance.random() < 0.2:
            wal_trail.read()
    wal_trail.read()
    assert wal_trail.rows("by_wal") == wal_trail.rows("by_row")
    # A column that was dropped and made again in the same shape before the WAL was read is one to the worker.
    gaps = [event for event in wal_trail.events() if event["action"] == "G"]
    assert not [gap for gap in gaps if not gap["new_row"].get("exchanged")]
