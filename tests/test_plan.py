"""Plans: one transaction or step by step, printed as they run, patient where that hurts nobody."""

from __future__ import annotations

import re
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from audit_toolkit.errors import AuditError, BusyError
from audit_toolkit.plan import Plan, Step, Wait, apply, single_flight
from tests.plugins.database import Database
from tests.plugins.golden import Golden

BUILD = Step(
    why="Build the index",
    statements=("create unique index concurrently things_n on things (n)",),
    cleanup=("drop index concurrently if exists things_n",),
    lock="SHARE UPDATE EXCLUSIVE on things",
    effect="queries by n are fast",
    wait=Wait.LONG,
    transactional=False,
)
COLUMN = Step(
    why="Add a column",
    statements=("alter table things add column note text", "comment on column things.note is 'n'"),
    lock="ACCESS EXCLUSIVE on things",
)
WRONG = Step(why="Fail", statements=("alter table things add column other text", "select 1/0"))


@pytest.fixture
def things(database: Database) -> Database:
    """A table with three different numbers."""
    database.execute("create table things as select n from generate_series(1, 3) n")
    return database


def columns(database: Database) -> list[str]:
    found = database.execute(
        "select attname from pg_attribute where attrelid = 'things'::regclass and attnum > 0"
        " and not attisdropped order by attnum"
    )
    return [name for (name,) in found]


def indexes(database: Database) -> list[tuple[str, bool]]:
    return [
        (name, valid)
        for name, valid in database.execute(
            "select indexrelid::regclass::text, indisvalid from pg_index"
            " where indrelid = 'things'::regclass"
        )
    ]


def wait_until_blocked(database: Database, query: str) -> None:
    blocked = (
        "select from pg_stat_activity"
        " where wait_event_type = 'Lock' and query = %s and datname = current_database()"
    )
    while not database.connection.execute(blocked, [query]).rowcount:
        database.execute("select pg_sleep(0.01)")


def test_an_atomic_plan_happens_whole_or_not_at_all(things: Database) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        apply(Plan(steps=(COLUMN, WRONG)), things.connection)
    assert columns(things) == ["n"]
    apply(Plan(steps=(COLUMN,)), things.connection)
    assert columns(things) == ["n", "note"]


def test_step_by_step_what_was_done_stays_done(things: Database) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        apply(Plan(steps=(COLUMN, WRONG, BUILD), atomic=False), things.connection)
    assert columns(things) == ["n", "note"]  # the failing step's own transaction was rolled back
    assert indexes(things) == []


def test_a_step_runs_outside_a_transaction_and_tells_of_itself(things: Database) -> None:
    told: list[str] = []
    plan = Plan(steps=(COLUMN, BUILD), atomic=False)
    apply(plan, things.connection, on_step=lambda step: told.append(step.why))
    assert told == ["Add a column", "Build the index"]
    assert columns(things) == ["n", "note"]
    assert indexes(things) == [("things_n", True)]


@pytest.mark.parametrize("change", [{"wait": Wait.LONG}, {"transactional": False}], ids=str)
def test_an_atomic_plan_refuses_steps_that_wait_long(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="may not wait long"):
        Plan(steps=(replace(COLUMN, **change),))


@pytest.mark.parametrize("rows", [1, 2])
def test_a_step_that_changes_other_rows_than_it_says_is_undone(things: Database, rows: int) -> None:
    deletion = Step(why="Delete", statements=("delete from things\n where n = 1",), rows=rows)
    with expected_rows(1, rows):
        apply(Plan(steps=(COLUMN, deletion)), things.connection)
    assert columns(things) == (["n", "note"] if rows == 1 else ["n"])
    assert things.execute("select count(*) from things") == [(2 if rows == 1 else 3,)]


def expected_rows(done: int, rows: int) -> AbstractContextManager[Any]:
    if done == rows:
        return nullcontext()
    message = f"a statement changed {done} of {rows} rows: delete from things where n = 1 …"
    return pytest.raises(AuditError, match=re.escape(message))


def test_timeouts_are_those_of_the_step_and_afterwards_what_they_were(things: Database) -> None:
    things.execute("set lock_timeout = '7s'; set statement_timeout = '9min'")
    things.execute("create table seen (lock_timeout text, statement_timeout text)")
    settings = "current_setting('lock_timeout'), current_setting('statement_timeout')"
    record = (f"insert into seen select {settings}",)
    steps = (
        Step(why="Short", statements=record),
        Step(why="Long", statements=record, wait=Wait.LONG),
        Step(why="Outside, long", statements=record, wait=Wait.LONG, transactional=False),
        Step(why="Outside, short", statements=record, transactional=False),
    )
    plan = Plan(steps=steps, atomic=False, lock_timeout="250ms", statement_timeout="2h")
    apply(plan, things.connection)
    long, short = ("0", "2h"), ("250ms", "9min")
    assert things.execute("table seen") == [short, long, long, short]
    assert things.execute("show lock_timeout") == [("7s",)]
    assert things.execute("show statement_timeout") == [("9min",)]


def test_a_build_waits_longer_than_the_lock_timeout(things: Database) -> None:
    # A lock timeout would end the wait for the writer's transaction and leave an invalid index.
    writer = things.connect(autocommit=False)
    writer.execute("insert into things values (4)")
    builder = things.connect()
    plan = Plan(steps=(BUILD,), atomic=False, lock_timeout="1ms")
    build = threading.Thread(target=apply, args=(plan, builder))
    build.start()
    wait_until_blocked(things, BUILD.statements[0])
    things.execute("select pg_sleep(0.05)")  # fifty lock timeouts
    writer.commit()
    build.join()
    assert indexes(things) == [("things_n", True)]


def test_a_short_step_tries_again_until_the_lock_is_free(things: Database) -> None:
    reader = things.connect(autocommit=False)
    reader.execute("select from things")
    told: list[int] = []

    def free(attempt: int, _message: str) -> None:
        told.append(attempt)
        if attempt == 2:
            reader.rollback()

    plan = Plan(steps=(COLUMN,), atomic=False, lock_timeout="20ms")
    apply(plan, things.connection, on_retry=free)
    assert told == [1, 2]
    assert columns(things) == ["n", "note"]


def test_after_the_last_attempt_the_error_says_what_stays_done(things: Database) -> None:
    other = Step(why="Elsewhere", statements=("create table elsewhere ()",))
    things.connect(autocommit=False).execute("lock things")
    plan = Plan(steps=(other, COLUMN), atomic=False, lock_timeout="1ms")
    with pytest.raises(BusyError) as caught:
        apply(plan, things.connect(), attempts=2)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("the steps before it are done")
    assert things.execute("select to_regclass('elsewhere')::text") == [("elsewhere",)]


def test_a_failed_build_leaves_no_invalid_index(things: Database) -> None:
    things.execute("insert into things values (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        apply(Plan(steps=(BUILD,), atomic=False), things.connection)
    assert indexes(things) == []


def test_a_deadlocked_build_is_tried_again(things: Database) -> None:
    # The build waits for the writer's transaction, and the writer for the table lock of the build.
    gate, writer = things.connect(autocommit=False), things.connect(autocommit=False)
    builder = things.connect()
    builder.execute("set deadlock_timeout = '10ms'")
    writer.execute("set deadlock_timeout = '1min'")
    writer.execute("insert into things values (4)")
    lock = "lock things in share update exclusive mode"
    gate.execute(lock)
    told: list[str] = []

    def lock_and_go() -> None:
        writer.execute(lock)
        writer.rollback()

    plan = Plan(steps=(BUILD,), atomic=False)
    listening = {"on_retry": lambda _attempt, message: told.append(message)}
    build = threading.Thread(target=apply, args=(plan, builder), kwargs=listening)
    locking = threading.Thread(target=lock_and_go)
    build.start()
    wait_until_blocked(things, BUILD.statements[0])
    locking.start()
    wait_until_blocked(things, lock)
    gate.rollback()
    locking.join()
    build.join()
    assert len(told) == 1
    assert "deadlock detected" in told[0]
    assert indexes(things) == [("things_n", True)]


def test_a_build_that_was_cancelled_is_left_as_it_is(things: Database) -> None:
    # Its clean-up would wait for the same transaction; `audit indexes fix` finds it later.
    things.connect(autocommit=False).execute("insert into things values (4)")
    plan = Plan(steps=(BUILD,), atomic=False, statement_timeout="50ms")
    with pytest.raises(AuditError, match="statement timeout"):
        apply(plan, things.connection)
    assert indexes(things) == [("things_n", False)]
    assert things.execute("show statement_timeout") == [("0",)]


def test_what_is_printed_runs_in_psql(things: Database, golden: Golden) -> None:
    plan = Plan(steps=(COLUMN, BUILD), atomic=False, lock_timeout="2s")
    golden("plan/step_by_step.sql", plan.as_sql())
    golden("plan/atomic.sql", Plan(steps=(COLUMN, COLUMN)).as_sql())
    answer = things.psql(plan.as_sql())
    assert answer.returncode == 0, answer.stderr
    assert columns(things) == ["n", "note"]
    assert indexes(things) == [("things_n", True)]


def test_a_plan_as_json_names_every_choice() -> None:
    plan = Plan(steps=(BUILD,), atomic=False)
    assert plan.as_dict() == {
        "atomic": False,
        "lock_timeout": "3s",
        "statement_timeout": "1h",
        "steps": [
            {
                "why": "Build the index",
                "effect": "queries by n are fast",
                "lock": "SHARE UPDATE EXCLUSIVE on things",
                "wait": "long",
                "transactional": False,
                "statements": list(BUILD.statements),
            }
        ],
    }


def test_an_index_of_that_name_that_was_there_before_is_never_cleaned_up(things: Database) -> None:
    things.execute("create table other (n int); create index things_n on other (n)")
    with pytest.raises(psycopg.errors.DuplicateTable):
        apply(Plan(steps=(BUILD,), atomic=False), things.connection)
    assert things.execute("select to_regclass('things_n')::text") == [("things_n",)]


def test_one_run_at_a_time(database: Database) -> None:
    with (
        single_flight(database.dsn, "audit"),
        single_flight(database.dsn, "other"),
        pytest.raises(BusyError, match="another run"),
        single_flight(database.dsn, "audit"),
    ):
        raise AssertionError("two at once")
    with single_flight(database.dsn, "audit"):
        held = "select count(*) from pg_locks where locktype = 'advisory' and granted"
        assert database.execute(held) == [(1,)]
