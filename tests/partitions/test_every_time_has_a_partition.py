"""No committed state lacks a partition for any time to come: killed before every statement, watched all along."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import psycopg
import pytest

from audit_toolkit.connection import connect
from audit_toolkit.partitions import Policy, Run, Stage
from tests.plugins.rotating import EVENT, START, MakeRotating, Rotating, months
from tests.plugins.trail import SCHEMA

EVERY = int(os.environ.get("KILL_EVERY", "12"))
"""Killed before every statement of that number; 1 takes minutes."""
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
    with connect(rotating.database.dsn, purpose="killed") as connection, closing(connection):
        execute = connection.execute

        def counting(statement: Any, *values: Any, **options: Any) -> Any:
            before(str(statement))
            if "set_config" not in str(statement) and next(numbers) == last:
                raise KilledError(statement)
            return execute(statement, *values, **options)

        setattr(connection, "execute", counting)  # noqa: B010
        policy = replace(rotating.policy, trust_clock=True)
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
    # More than can happen to a step that is one message: the server has all of it, or nothing.
    monkeypatch.setattr("audit_toolkit.plan._goes_in_one_message", lambda *_: False)
    statements = 0
    rotating = make_rotating(scenario)
    with psycopg.connect(rotating.database.dsn) as watcher:

        def look(statement: str) -> None:
            nonlocal statements
            statements += "set_config" not in statement
            # What is committed is what a kill leaves behind: maintenance stays dead, and the clock goes on.
            if not holds_the_trail(watcher):
                assert watcher.execute(FOR_EVER, [now]).fetchone() == (True,), statement
                # The bound that proves what a tail in use holds ends with the session of the run.
                capped = watcher.execute(
                    "select from pg_constraint where conname = 'audit_relabel_cap'"
                )
                days = 20 if capped.rowcount else 20000
                watcher.execute(EVENT, [now, now + timedelta(days=days), f"{days / 2} days"])
            watcher.rollback()

        assert not run_until(rotating, now, -1, look)
    assert statements > 12
    for boundary in range(EVERY // 2, statements, EVERY):
        rotating = make_rotating(scenario)
        assert run_until(rotating, now, boundary, lambda _: None)
        wait_for_the_end(rotating)
        assert rotating.execute(FOR_EVER, [now]) == [(True,)]
        rotating.fill(now, now + timedelta(days=20000), "10000 days")
        rotating.run(now + timedelta(days=1))
        assert rotating.execute(FOR_EVER, [now]) == [(True,)]
    print(f"\n{scenario.__name__}: looked before each of {statements} statements")


def wait_for_the_end(rotating: Rotating) -> None:
    """A session that was killed ends when the server notices."""
    while rotating.execute(
        "select 1 from pg_stat_activity where datname = current_database()"
        " and application_name = 'audit-toolkit/killed'"
    ):
        time.sleep(0.01)


def holds_the_trail(watcher: psycopg.Connection[Any]) -> bool:
    """Whether a swap is under way: nothing of it is committed, and a look would wait for it."""
    found = watcher.execute(
        "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted"
        " and (relation = 'audit.logged_actions'::regclass or exists"
        " (select from pg_inherits where inhrelid = relation and inhparent = 'audit.logged_actions'::regclass))"
    ).fetchone()
    watcher.rollback()
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
    rotating.execute(
        "insert into audit.consumers (name, event_id, hold_for) values ('c', 0, '1 day')"
    )
    assert rotating.run() == []
    assert rotating.execute(f"select audit.ensure_partitions({AHEAD + 70})") == [(60,)]
