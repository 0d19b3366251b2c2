"""Months of rotation with a hostile clock, killed all the time: no write fails, no future time lacks a partition.

`nox -s thorough` has a short one. `nox -s rotation-proof` sets ROTATION_PROOF=1: twelve months (or ROTATION_MONTHS) in
steps of two days, 16 writers. In each step maintenance is killed before a statement, one further each time, or its
session is terminated in the middle of one; every few steps the clock of everything is 30 days or 30 years ahead, or
behind, for a while.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import psycopg
import pytest

from audit_toolkit.connection import connect
from audit_toolkit.errors import AuditError
from audit_toolkit.partitions import Policy, Run, Stage
from tests.partitions.load import Load, deadlocks, events, write
from tests.plugins.rotating import START, Rotating, months
from tests.plugins.trail import SCHEMA

PROOF = "ROTATION_PROOF" in os.environ
MONTHS, STEP, WRITERS = (
    (int(os.environ.get("ROTATION_MONTHS", "12")), timedelta(days=2), 16)
    if PROOF
    else (2, timedelta(days=9), 3)
)
WRONG = [
    timedelta(days=30),
    timedelta(days=365 * 30),
    -timedelta(days=30),
    -timedelta(days=365 * 60),
]
FOR_EVER = """
    select coalesce(range_agg(tstzrange(lower_bound, upper_bound)), '{}') @> tstzrange(%s, null)
    from audit.leaves() where not detach_pending
"""


class KilledError(BaseException):
    """The process is gone: nothing catches this."""


@dataclass
class World:
    """The time that it is, and what the clocks say."""

    now: datetime = START
    wrong: timedelta = timedelta()
    looks: int = 0
    lacks: list[datetime] = field(default_factory=list)

    @property
    def clock(self) -> datetime:
        """What every clock says."""
        return self.now + self.wrong


def look(dsn: str, world: World, stop: threading.Event) -> None:
    """A second session looks at the bounds all the time."""
    with psycopg.connect(dsn, autocommit=True) as watcher:
        while not stop.is_set():
            # By then, whatever the main thread does meanwhile.
            now = world.now
            if watcher.execute(FOR_EVER, [now]).fetchone() != (True,):
                world.lacks.append(now)
            world.looks += 1
            stop.wait(0.002)


@contextmanager
def under_watch(rotating: Rotating, world: World) -> Iterator[Load]:
    load, stop, dsn = Load(), threading.Event(), rotating.database.dsn
    threads = [threading.Thread(target=write, args=(dsn, load, stop)) for _ in range(WRITERS)]
    threads.append(threading.Thread(target=look, args=(dsn, world, stop)))
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def maintain(rotating: Rotating, world: World, *, last: int = -1, terminate: float = 0) -> str:
    """A run; killed before the statement of that number, or terminated so many seconds after it began."""
    numbers = count()
    with suppress(AuditError), connect(rotating.database.dsn) as connection, closing(connection):
        execute = connection.execute

        def counting(statement: Any, *values: Any, **options: Any) -> Any:
            if next(numbers) == last:
                raise KilledError(statement)
            return execute(statement, *values, **options)

        setattr(connection, "execute", counting)  # noqa: B010
        policy = Policy(retention=months(3), drop=False)
        now = lambda: world.clock  # noqa: E731
        run = Run(
            connection=connection, schema=SCHEMA, policy=policy, now=now, lock_timeout="500ms"
        )
        killer = threading.Timer(terminate, end, (rotating.database.dsn, connection.info))
        if terminate:
            killer.start()
        try:
            for stage in Stage:
                run.stage(stage)
            run.finished("partitions", run.outcomes)
        except (KilledError, psycopg.Error):
            return "killed"
        finally:
            if terminate:
                killer.join()
        return "failed" if any(o.result == "failed" for o in run.outcomes) else "done"
    return "killed"


def end(dsn: str, info: Any) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(%s)", [info.backend_pid])


def move_on(rotating: Rotating, world: World, load: Load, wrong: timedelta = timedelta()) -> None:
    """The time goes on, and everybody has written since."""
    world.wrong = wrong
    rotating.execute("update clock set at = %s", [world.clock])
    written = load.writes
    while load.writes < written + 2 * WRITERS and not load.failures:
        time.sleep(0.002)


@pytest.mark.thorough
@pytest.mark.usefixtures("orders")
def test_months_of_kills_and_wrong_clocks(
    rotating: Rotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, results = World(), {"killed": 0, "done": 0, "failed": 0}
    monkeypatch.setattr("audit_toolkit.partitions.read.clocks", lambda *_: (world.clock,) * 3)
    chance = random.Random(15)
    with under_watch(rotating, world) as load:
        for step in range(int(MONTHS * timedelta(days=30) / STEP)):
            world.now += STEP
            if step % 3 == 1:
                move_on(rotating, world, load, WRONG[step // 3 % len(WRONG)])
                results[maintain(rotating, world)] += 1
            move_on(rotating, world, load)
            results[maintain(rotating, world, last=step % 45)] += 1
            results[maintain(rotating, world, terminate=chance.uniform(0.001, 0.3))] += 1
            if step % 4 == 3:
                results[maintain(rotating, world)] += 1
    while maintain(rotating, world) != "done":
        pass
    rotating.now = world.now
    past = [leaf for leaf in rotating.read().leaves if leaf.is_past]
    detached = [e for e in rotating.read().entries if e.state == "detached"]
    print(
        f"\n{MONTHS} months, {WRITERS} writers: {load.writes} writes, {len(load.failures)} failed, the longest took"
        f" {load.longest * 1000:.0f} ms; runs: {results}; {world.looks} looks,"
        f" {len(world.lacks)} without a partition for a future time; {len(detached)} partitions detached;"
        f" {deadlocks(rotating)} deadlocks"
    )
    assert load.failures == []
    assert world.lacks == []
    assert results["killed"] > 0
    assert events(rotating) == load.writes
    assert deadlocks(rotating) == 0
    assert past
    assert not PROOF or len(detached) >= MONTHS - 5
    assert rotating.read().horizon > timedelta(days=60)
    assert set(rotating.findings()) <= {"past_has_rows", "far_future"}
