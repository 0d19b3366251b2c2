"""Killed at every boundary between two steps: the next run completes, and the end is the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from audit_toolkit.cli.partition_run import exit_code
from audit_toolkit.connection import connect
from audit_toolkit.errors import AuditError
from audit_toolkit.partitions import Policy
from audit_toolkit.plan import Step
from tests.plugins.rotating import START, MakeRotating, Rotating, months

FORGET = "begin; select count(*) from audit.logged_actions; prepare transaction 'forgotten'"
GAVE_UP = "canceling statement due to lock timeout"


class KilledError(BaseException):
    """The process is gone: nothing catches this."""


def swap(rotating: Rotating) -> None:
    """Leaves to detach and to drop, and an empty tail to be put behind new leaves."""
    rotating.fill(START, START + timedelta(days=40))
    rotating.run(START + timedelta(days=120), retention=months(3))


def relabel(rotating: Rotating) -> None:
    """After a long silence: the tail has taken events."""
    rotating.fill(START, START + timedelta(days=400))
    rotating.policy = Policy(retention=months(12))


SCENARIOS = pytest.mark.parametrize(
    ("scenario", "now", "policy"),
    [
        (swap, START + timedelta(days=240), Policy(retention=months(3), most_at_once=2)),
        pytest.param(
            *(relabel, START + timedelta(days=400), Policy(retention=months(12), most_at_once=2)),
            marks=pytest.mark.thorough,
        ),
    ],
)
Scenario = Callable[[Rotating], None]


def test_a_client_that_stalls_keeps_no_write_waiting(make_rotating: MakeRotating) -> None:
    """A step is one message: whatever becomes of the client, the server commits it or takes it back by itself."""
    rotating = make_rotating(swap)
    now = START + timedelta(days=240)
    written: list[Any] = []
    with connect(rotating.database.dsn) as connection, closing(connection):
        execute = connection.execute

        def stalling(statement: Any, *values: Any, **options: Any) -> Any:
            done = execute(statement, *values, **options)
            if not written and "detach partition" in str(statement):
                written.append(str(statement))
                with rotating.connection.transaction():
                    rotating.execute("set local lock_timeout = '1ms'")
                    rotating.fill(now, now)
            return done

        setattr(connection, "execute", stalling)  # noqa: B010
        rotating.run(now, connection=connection, retention=months(3))
    assert written
    assert rotating.execute(
        "select count(*) from audit.logged_actions where action_tstamp = %s and action = 'I'", [now]
    ) == [(1,)]
    assert rotating.read().horizon > timedelta(days=60)


@SCENARIOS
def test_killed_between_two_steps(
    make_rotating: MakeRotating, scenario: Scenario, now: datetime, policy: Policy
) -> None:
    reference = make_rotating(scenario)
    reference.policy = policy
    reference.run(now)
    expected = write_and_finish(reference, now)
    for boundary in count():
        rotating = make_rotating(scenario)
        rotating.policy = policy
        if not killed(rotating, now, boundary):
            break
        # Whatever the moment was, every write of now and of the near future finds its place.
        assert write_and_finish(rotating, now) == expected
        assert rotating.findings() == {}
    assert boundary >= 9
    print(f"\n{scenario.__name__}: killed at each of {boundary} boundaries")


def write_and_finish(rotating: Rotating, now: datetime) -> dict[str, tuple[str, int]]:
    """Write, then run until there is nothing to do (a run detaches only a few leaves); the tables then."""
    rotating.fill(now, now + timedelta(days=10))
    for _ in range(10):
        if not rotating.run(now):
            return rotating.tables()
    raise AssertionError("a run always finds something to do")


def killed(rotating: Rotating, now: datetime, boundary: int) -> bool:
    """A run whose process dies before its step of that number; False when it came to its end."""
    numbers = count()

    def die(step: Step) -> None:
        if next(numbers) == boundary:
            raise KilledError(step.why)

    with connect(rotating.database.dsn) as connection:
        try:
            rotating.run(now, on_step=die, connection=connection)
        except KilledError:
            return True
    return False


@SCENARIOS
@pytest.mark.thorough
def test_killed_while_a_detach_waits_for_a_reader(
    make_rotating: MakeRotating, scenario: Scenario, now: datetime, policy: Policy
) -> None:
    reference = make_rotating(scenario)
    reference.policy = policy
    reference.run(now)
    expected = write_and_finish(reference, now)

    rotating = make_rotating(scenario)
    rotating.policy = policy
    with rotating.database.connect(autocommit=False) as reader:
        reader.execute("select count(*) from audit.logged_actions")
        victim = threading.Thread(target=run_and_be_killed, args=(rotating, now))
        victim.start()
        wait_until_pending(rotating)
        assert rotating.findings()["detach_pending"]
        rotating.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where query like 'alter table % concurrently' and pid <> pg_backend_pid()"
        )
        victim.join()
    assert rotating.read().pending
    assert write_and_finish(rotating, now) == expected
    assert rotating.findings() == {}


def run_and_be_killed(rotating: Rotating, now: datetime) -> None:
    with pytest.raises(AuditError), connect(rotating.database.dsn) as connection:
        rotating.run(now, connection=connection)


def wait_until_pending(rotating: Rotating) -> None:
    deadline = time.monotonic() + 60
    while not rotating.execute("select 1 from pg_inherits where inhdetachpending"):
        assert time.monotonic() < deadline, "no detach began"
        time.sleep(0.01)


def test_a_sibling_that_is_pending_is_the_one_that_is_finished(rotating: Rotating) -> None:
    """Somebody else's DETACH CONCURRENTLY was interrupted: that one is completed, then ours go on.

    What somebody detached by hand is reported, and never dropped.
    """
    first, second = rotating.read().bounded[:2]
    rotating.fill(rotating.now, rotating.now)
    with rotating.database.connect(autocommit=False) as reader:
        reader.execute("select count(*) from audit.logged_actions")
        with rotating.database.connect() as other:
            other.execute("set statement_timeout = '100ms'")
            with pytest.raises(Exception, match="statement timeout"):
                other.execute(
                    f"alter table audit.logged_actions detach partition {second.name} concurrently"
                )
    assert rotating.read().pending
    outcomes = rotating.run(rotating.now + timedelta(days=120), retention=months(2))
    assert [outcome.result.value for outcome in outcomes] == ["done"] * len(outcomes)
    tables = rotating.tables()
    assert tables[first.name.name][0] == "detached"
    assert tables[second.name.name] == ("stray", 1)
    assert rotating.findings()["unattached"] == "warning"
    rotating.run(rotating.now + timedelta(days=30))
    rotating.run(rotating.now + timedelta(days=30))
    assert rotating.tables()[second.name.name] == ("stray", 1)


def test_long_transactions_defer_the_detach_and_are_named(rotating: Rotating) -> None:
    now = rotating.now + timedelta(days=120)
    rotating.policy = Policy(retention=months(2))
    with rotating.database.connect(autocommit=False, application_name="nightly report") as reader:
        reader.execute("select count(*) from audit.logged_actions")
        outcomes = rotating.run(now, patience=0)
        assert {outcome.stage: outcome.result.value for outcome in outcomes} == {
            "create": "deferred",
            "detach": "deferred",
        }
        assert "nightly report" in outcomes[-1].message
        assert rotating.read().pending is None
    assert {outcome.result.value for outcome in rotating.run(now)} == {"done"}


def test_a_detach_gives_up_on_a_prepared_transaction_and_names_it(
    rotating: Rotating, prepares: None
) -> None:
    now = rotating.now + timedelta(days=120)
    rotating.policy = Policy(retention=months(2))

    def forget(step: Step) -> None:
        if step.why.startswith("Detach "):
            rotating.execute(FORGET)

    outcomes = rotating.run(now, patience=0.2, on_step=forget, most_at_once=1)
    try:
        [gave_up] = [outcome for outcome in outcomes if outcome.stage == "detach"]
        assert gave_up.result.value == "failed"
        who = "the prepared transaction forgotten (postgres, no application_name) has ACCESS SHARE"
        assert f"could not obtain a lock within lock_timeout: {GAVE_UP}: {who}" in gave_up.message
        assert exit_code(outcomes) == 1
        again = rotating.run(patience=0)
        assert (again[0].stage, again[0].result.value) == ("finalize", "deferred")
        assert who in again[0].message
        assert ["is not finished" in o.message for o in again if o.stage == "detach"] == [True]
    finally:
        rotating.execute("rollback prepared 'forgotten'")
    assert {outcome.result.value for outcome in rotating.run()} == {"done"}
    assert rotating.read().pending is None


def test_a_prepared_transaction_that_is_open_for_long_defers_the_detach(
    rotating: Rotating, prepares: None
) -> None:
    rotating.policy = Policy(retention=months(2))
    rotating.execute(FORGET)
    try:
        outcomes = rotating.run(rotating.now + timedelta(days=120), patience=0)
    finally:
        rotating.execute("rollback prepared 'forgotten'")
    assert {o.result.value for o in outcomes if o.stage == "detach"} == {"deferred"}
    [message] = {o.message for o in outcomes if o.stage == "detach"}
    assert "waits for the prepared transaction forgotten" in message


def test_one_failing_task_does_not_stop_the_others(rotating: Rotating) -> None:
    now = rotating.now + timedelta(days=120)
    oldest = rotating.read().bounded[0]
    # Nobody can detach it: its name is recorded, but the detach itself fails.
    rotating.execute(
        "create function refuse() returns event_trigger language plpgsql as $$ begin"
        f" if current_query() like '%%detach partition {oldest.name}%%' then raise 'disk full'; end if; end $$;"
        "create event trigger refuse on ddl_command_start execute function refuse()"
    )
    outcomes = rotating.run(now, retention=months(2))
    assert [(o.stage, o.result.value) for o in outcomes] == [
        ("create", "done"),
        ("detach", "failed"),
        ("detach", "done"),
        ("detach", "done"),
        ("create", "done"),
    ]
    assert outcomes[1].message == "disk full"
    assert rotating.findings()["last_success"] == "warning"
