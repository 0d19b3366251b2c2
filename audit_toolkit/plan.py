"""Plans: what would be done, step by step, and the only code that does it.

`plan_…()` functions are pure and return a `Plan`; `apply` alone changes a database. What `as_sql`
prints is what `apply` runs.

A plan is atomic (one transaction for all its steps, the default) or goes on step by step: each step
commits on its own, and a step may run outside a transaction, as every CONCURRENTLY must.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import connect, fetch, first_line, import_psycopg, translated_errors
from audit_toolkit.errors import AuditError, BusyError
from audit_toolkit.names import quote_literal
from audit_toolkit.templates import query, render

if TYPE_CHECKING:
    import psycopg

DEFAULT_LOCK_TIMEOUT = "3s"
DEFAULT_STATEMENT_TIMEOUT = "1h"
STALLED = "2s"
"""So long a client may send nothing in the middle of a step before the server ends it."""


class Wait(StrEnum):
    """How a step waits for others."""

    SHORT = "short"
    """At most `lock_timeout`, then again: for locks behind which the application's writes queue."""
    LONG = "long"
    """At most `patience`, and within `statement_timeout`: for CONCURRENTLY and VALIDATE, which no
    write waits for. A lock timeout also ends waits for *transactions*, and leaves an invalid index or
    a half-done detach: it is none, but where the next run goes on from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to be done to a database."""

    why: str
    """What it does, in words, without a final period."""
    statements: tuple[str, ...]
    """Its SQL, each statement without a final semicolon."""
    undo: tuple[str, ...] = ()
    """The SQL that takes it back, in the order in which it has to run."""
    lock: str = "none"
    """The strongest lock it takes on a table that the application uses."""
    effect: str = ""
    """What is different afterwards, in words, without a final period."""
    wait: Wait = Wait.SHORT
    transactional: bool = True
    """Whether its statements run in a transaction; outside of one each commits on its own."""
    cleanup: tuple[str, ...] = ()
    """Outside a transaction: the SQL that removes what a failed attempt leaves behind (an invalid
    index). A step without it is not tried again, as its second attempt would meet its first."""
    rows: int | None = None
    """How many rows its last statement has to change; None: however many it does."""

    @property
    def repeatable(self) -> bool:
        """Whether nothing is left of a failed attempt, so that the step can be tried again."""
        return self.transactional or bool(self.cleanup)

    def as_dict(self) -> dict[str, Any]:
        """The step as JSON values."""
        return {
            "why": self.why,
            "effect": self.effect,
            "lock": self.lock,
            "wait": self.wait.value,
            "transactional": self.transactional,
            "statements": list(self.statements),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in order: in one transaction, so that all happen or none, or each on its own."""

    steps: tuple[Step, ...]
    lock_timeout: str = DEFAULT_LOCK_TIMEOUT
    """How long a short wait is."""
    statement_timeout: str = DEFAULT_STATEMENT_TIMEOUT
    """How long one statement of a step with a long wait may take."""
    patience: str = "0"
    """How long a step with a long wait waits for one transaction, or for one lock; 0: as long as it may take."""
    atomic: bool = True
    """False: each step commits on its own, and what was done stays done when a later step fails."""

    def __post_init__(self) -> None:
        if self.atomic and any(s.wait is Wait.LONG or not s.transactional for s in self.steps):
            raise ValueError(
                "an atomic plan holds its locks to the end: its steps may not wait long"
            )

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def statements(self) -> tuple[str, ...]:
        """All SQL, in order."""
        return tuple(statement for step in self.steps for statement in step.statements)

    @property
    def undo(self) -> tuple[str, ...]:
        """All SQL that takes the plan back: the last step first."""
        return tuple(statement for step in reversed(self.steps) for statement in step.undo)

    def as_sql(self) -> str:
        """A script for psql that does what `apply` does, save for trying again."""
        if not self.atomic:
            return (
                "\n".join(["\\set ON_ERROR_STOP on", *map(self._own_transaction, self.steps)])
                + "\n"
            )
        lines = ["begin;", f"set local lock_timeout = {quote_literal(self.lock_timeout)};"]
        for step in self.steps:
            lines += ["", f"-- {step.why}.", *(f"{statement};\n" for statement in step.statements)]
        return "\n".join([*lines, "commit;"]) + "\n"

    def _own_transaction(self, step: Step) -> str:
        scope, before, after = "set", [], [f"reset {name};" for name in self.timeouts(step.wait)]
        if step.transactional:
            scope, before, after = "set local", ["begin;"], ["commit;"]
        timeouts = self.timeouts(step.wait).items()
        return "\n".join(
            [
                "",
                f"-- {step.why}." + (f" Then: {step.effect}." if step.effect else ""),
                f"-- Lock: {step.lock}.",
                *before,
                *(f"{scope} {name} = {quote_literal(value)};" for name, value in timeouts),
                *(f"{statement};" for statement in step.statements),
                *after,
            ]
        )

    def timeouts(self, wait: Wait) -> dict[str, str]:
        """The settings under which a step that waits like this runs."""
        if wait is Wait.SHORT:
            # A client that stalls or disappears must not hold a lock for long either.
            stalled = {} if self.atomic else {"idle_in_transaction_session_timeout": STALLED}
            return {"lock_timeout": self.lock_timeout} | stalled
        return {"lock_timeout": self.patience, "statement_timeout": self.statement_timeout}

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "atomic": self.atomic,
            "lock_timeout": self.lock_timeout,
            "statement_timeout": self.statement_timeout,
            "steps": [step.as_dict() for step in self.steps],
        }


def apply(
    plan: Plan,
    connection: psycopg.Connection[Any],
    *,
    attempts: int = 5,
    on_step: Callable[[Step], None] | None = None,
    on_retry: Callable[[int, str], None] | None = None,
) -> None:
    """Run a plan in one transaction, or step by step; again when a lock was not to be had in time.

    A waiting DDL statement makes every later write queue behind it; so each attempt waits at most
    `plan.lock_timeout`, and between attempts the queue can drain (full-jitter backoff). Steps
    outside transactions need a connection in autocommit mode, whose timeouts are restored.
    `on_step` is called before each step, once for all its attempts.

    Raises `BusyError` after the last attempt: nothing was changed then, or, in a plan that is not
    atomic, what came before that step stays done.
    """
    for steps in (plan.steps,) if plan.atomic else ((step,) for step in plan.steps):
        if on_step:
            for step in steps:
                on_step(step)
        _try(plan, steps, connection, attempts, on_retry)


def _try(
    plan: Plan,
    steps: tuple[Step, ...],
    connection: psycopg.Connection[Any],
    attempts: int,
    on_retry: Callable[[int, str], None] | None,
) -> None:
    for attempt in range(1, attempts + 1):
        try:
            with translated_errors():
                _run(plan, steps, connection)
        except BusyError as error:
            if attempt == attempts or not all(step.repeatable for step in steps):
                raise error if plan.atomic else BusyError(error.message, hint=_GO_ON) from error
            if on_retry:
                on_retry(attempt, error.message)
            time.sleep(random.uniform(0.05, 0.2 * 2**attempt))  # noqa: S311 - jitter, not a secret
        else:
            return


_GO_ON = (
    "the steps before it are done; a long transaction holds the lock (see pg_stat_activity): "
    "run the command again later to continue"
)


def _run(plan: Plan, steps: tuple[Step, ...], connection: psycopg.Connection[Any]) -> None:
    if not plan.atomic and connection.autocommit and _goes_in_one_message(steps[0], connection):
        _run_in_one_message(steps[0], plan.timeouts(Wait.SHORT), connection)
        return
    if all(step.transactional for step in steps):
        wait = Wait.SHORT if plan.atomic else steps[0].wait
        with connection.transaction():
            _set(connection, plan.timeouts(wait), local=True)
            for step in steps:
                _execute(connection, step.statements, rows=step.rows)
        return
    for step in steps:
        with _session_settings(connection, plan.timeouts(step.wait)):
            _run_outside(step, connection)


def _goes_in_one_message(step: Step, connection: psycopg.Connection[Any]) -> bool:
    is_idle = connection.info.transaction_status == import_psycopg().pq.TransactionStatus.IDLE
    return step.transactional and step.wait is Wait.SHORT and step.rows is None and is_idle


def _run_in_one_message(
    step: Step, timeouts: Mapping[str, str], connection: psycopg.Connection[Any]
) -> None:
    """Begin, statements and commit at once: a client that stalls or is gone keeps nobody's write waiting."""
    settings = [f"set local {name} = {quote_literal(value)}" for name, value in timeouts.items()]
    message = ";\n".join(["begin", *settings, *step.statements, "commit"])
    try:
        connection.execute(message)
    except import_psycopg().Error:
        if not connection.closed:
            connection.rollback()
        raise


def _run_outside(step: Step, connection: psycopg.Connection[Any]) -> None:
    errors = import_psycopg().errors
    try:
        _execute(connection, step.statements)
    except errors.QueryCanceled as error:
        # The blocking session is still there: a clean-up would wait for it, too.
        raise AuditError(f"stopped by the server: {first_line(error)}", hint=_GO_ON) from error
    except errors.DuplicateTable:
        raise  # the name belongs to another object, which must not be cleaned up
    except errors.Error:
        if not connection.closed:
            _execute(connection, step.cleanup)
        raise


def _execute(
    connection: psycopg.Connection[Any], statements: Iterable[str], *, rows: int | None = None
) -> None:
    done = None
    for statement in statements:
        done = connection.execute(statement).rowcount
    if rows is not None and done != rows:
        raise AuditError(
            f"a statement changed {done} of {rows} row{'' if rows == 1 else 's'}: "
            + " ".join(statement.split())[:80]
            + " …",
            hint="a trigger, a rule or row security of the table prevents it; nothing was changed",
        )


def _set(connection: psycopg.Connection[Any], values: Mapping[str, str], *, local: bool) -> None:
    for name, value in values.items():
        connection.execute("select set_config(%s, %s, %s)", (name, value, local))


@contextmanager
def _session_settings(
    connection: psycopg.Connection[Any], values: Mapping[str, str]
) -> Iterator[None]:
    former = {name: _setting(connection, name) for name in values}
    _set(connection, values, local=False)
    try:
        yield
    finally:
        if not connection.closed:
            _set(connection, former, local=False)


def _setting(connection: psycopg.Connection[Any], name: str) -> str:
    return str(
        fetch(connection, "select current_setting(%(name)s) as value", {"name": name})[0]["value"]
    )


@contextmanager
def single_flight(dsn: str, schema: str) -> Iterator[None]:
    """Hold the lock that one run of the toolkit has, on a connection that does nothing else.

    It is a lock on the table `maintenance` of the trail, which nobody can take who may not write there; a
    schema without a trail has an advisory lock in its place. The open transaction has no snapshot, so that no
    CONCURRENTLY waits for it. Raises `BusyError` when another run has the lock.
    """
    with connect(dsn, purpose="lock") as connection:
        (rights,) = fetch(connection, query("rights"), {"schema": schema})
        by_table = rights["may_lock"] or rights["by_function"]
        lock = _table_lock if by_table else _advisory_lock
        with lock(connection, schema):
            yield


@contextmanager
def _table_lock(connection: psycopg.Connection[Any], schema: str) -> Iterator[None]:
    errors = import_psycopg().errors
    (rights,) = fetch(connection, query("rights"), {"schema": schema})
    folder = "partitions" if rights["may_lock"] else "maintainer"
    connection.execute("set idle_in_transaction_session_timeout = 0; set lock_timeout = '1s'")
    try:
        with connection.transaction():
            try:
                connection.execute(render(f"{folder}/lock_maintenance", schema=schema).encode())
            except errors.LockNotAvailable as error:
                raise _LockHeldError from error
            yield
    except _LockHeldError as held:
        raise _held_by_another(connection, schema) from held.__cause__


class _LockHeldError(Exception):
    """Another session has the lock."""


@contextmanager
def _advisory_lock(connection: psycopg.Connection[Any], schema: str) -> Iterator[None]:
    text = f"audit-toolkit {schema}".encode()
    key = int.from_bytes(hashlib.sha256(text).digest()[:8], signed=True)
    rows = fetch(connection, "select pg_try_advisory_lock(%(key)s) as held", {"key": key})
    if not rows[0]["held"]:
        raise _held_by_another(connection, schema, key)
    try:
        yield
    finally:
        # Closing would release it, too, but only when the server notices, which may be after the next run starts.
        with suppress(import_psycopg().OperationalError):
            fetch(connection, "select pg_advisory_unlock(%(key)s)", {"key": key})


def _held_by_another(connection: psycopg.Connection[Any], schema: str, key: int = 0) -> BusyError:
    """Who has the lock: what is no run of the toolkit is named as such."""
    holders = fetch(connection, query("lock_holders"), {"key": key, "schema": schema})
    if not holders:  # it ended meanwhile
        return BusyError(
            f"another run of the toolkit is in progress on the schema {schema!r}",
            hint="run it again",
        )
    who = holders[0]
    session = f"pid {who['pid']}, role {who['role']}, {who['application']}, since {who['since']}"
    if who["application"].startswith("audit-toolkit/"):  # or a redaction, which lets nobody archive
        return BusyError(
            f"another run of the toolkit is in progress on the schema {schema!r} ({session})",
            hint="wait until it is done",
        )
    return BusyError(
        f"the maintenance lock of the schema {schema!r} is held by a session that is not a "
        f"run of the toolkit ({session})",
        hint=f"find out who it is; select pg_terminate_backend({who['pid']}) ends it",
    )
