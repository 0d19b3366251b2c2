"""No committed state lacks a partition for any time to come: killed before every statement, watched all along."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import psycopg
import pytest

from audit_toolkit.connection import connect
from audit_toolkit.partitions import Policy, Run, Stage
from tests.partitions.conftest import START, MakeRotating, Rotating, months
from tests.plugins.trail import SCHEMA

AHEAD = int(os.environ.get("PARTITIONS_AHEAD", "70"))
FOR_EVER = """
    select coalesce(range_agg(tstzrange(lower_bound, upper_bound)), '{}') @> tstzrange(%s, null)
    from audit.leaves() where not detach_pending
"""


class KilledError(BaseException):
    """The process is gone: nothing catches this."""


def refill(rotating: Rotating) -> None:
    """An empty tail to be put behind new leaves, in batches."""
    rotating.fill(START, START + timedelta(days=40))
    rotating.run(START + timedelta(days=120), retention=months(3))


def silence(rotating: Rotating) -> None:
    """Nobody ran it for a year: the tail has taken events."""
    rotating.fill(START, START + timedelta(days=400), "10 days")


def tail_lost(rotating: Rotating) -> None:
    """A release that took the tail off in a step of its own was killed there."""
    rotating.execute("alter table audit.logged_actions detach partition audit.logged_actions_tail")


def run_until(rotating: Rotating, now: datetime, last: int, before: Callable[[str], None]) -> bool:
    """A run whose process dies before the statement of that number; False when it came to its end."""
    numbers = count()
    with connect(rotating.database.dsn) as connection, closing(connection):
        execute = connection.execute

        def counting(statement: Any, *values: Any, **options: Any) -> Any:
            before(str(statement))
            if "set_config" not in str(statement) and next(numbers) == last:
                raise KilledError(statement)
            return execute(statement, *values, **options)

        connection.execute = counting  # type: ignore[method-assign]
        policy = rotating.policy
        run = Run(connection=connection, schema=SCHEMA, policy=policy, now=lambda: now)
        try:
            run.stage(Stage.CREATE)
        except KilledError:
            return True
    return False


@pytest.mark.parametrize(
    ("scenario", "now"),
    [(refill, START + timedelta(days=240)), (silence, START + timedelta(days=400))],
)
def test_killed_before_every_statement(
    make_rotating: MakeRotating,
    scenario: Callable[[Rotating], None],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("audit_toolkit.partitions.creation.BATCH", 3)
    for boundary in count():
        rotating = make_rotating(scenario)
        with psycopg.connect(rotating.database.dsn, autocommit=True) as watcher:

            def look(statement: str, watcher: psycopg.Connection[Any] = watcher) -> None:
                # What is committed can only have changed by the statement before this one.
                if "access exclusive" in statement or not holds_the_trail(watcher):
                    assert watcher.execute(FOR_EVER, [now]).fetchone() == (True,), statement

            if not run_until(rotating, now, boundary, look):
                break
        assert rotating.execute(FOR_EVER, [now]) == [(True,)]
        # Maintenance stays dead, and the clock goes on.
        rotating.fill(now, now + timedelta(days=20000), "10000 days")
    assert boundary > 12
    print(f"\n{scenario.__name__}: killed before each of {boundary} statements")


def holds_the_trail(watcher: psycopg.Connection[Any]) -> bool:
    """Whether a swap is under way: nothing of it is committed, and a look would wait for it."""
    found = watcher.execute(
        "select count(*) from pg_locks where relation = 'audit.logged_actions'::regclass"
        " and mode = 'AccessExclusiveLock' and granted"
    ).fetchone()
    return found != (0,)


def test_a_tail_that_is_off_is_put_back_first(rotating: Rotating) -> None:
    tail_lost(rotating)
    states: list[Any] = []

    def look(statement: str) -> None:
        if not states and "attach partition" in statement:
            assert "maxvalue" in statement
            states.append(statement)

    rotating.policy = Policy(ahead=7)
    assert not run_until(rotating, START, -1, look)
    assert states
    assert rotating.execute(FOR_EVER, [START]) == [(True,)]
    assert len(rotating.read().bounded) > 7


def test_a_great_many_leaves_come_in_batches(rotating: Rotating) -> None:
    """PARTITIONS_AHEAD=3000 makes as many; with one transaction for all, the server's lock table would overflow."""
    assert [o.result.value for o in rotating.run(ahead=AHEAD)] == ["done"]
    assert len(rotating.read().bounded) > AHEAD
    assert rotating.run() == []
    assert rotating.execute(f"select audit.ensure_partitions({AHEAD + 70})") == [(60,)]
