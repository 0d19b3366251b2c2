"""Run the stages: each task by itself, so that one that fails does not stop the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import first_line, import_psycopg
from audit_toolkit.errors import AuditError, BusyError
from audit_toolkit.partitions.blockers import name_blockers
from audit_toolkit.partitions.model import Partitions, Policy
from audit_toolkit.partitions.planning import plan_stage
from audit_toolkit.partitions.read import PATIENCE, read_partitions
from audit_toolkit.partitions.tasks import Stage, Steps, Task, one_by_one
from audit_toolkit.plan import Step, apply
from audit_toolkit.tracing import span

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


class Result(StrEnum):
    """What became of a task."""

    DONE = "done"
    FAILED = "failed"
    DEFERRED = "deferred"
    REFUSED = "refused"
    """Not done before somebody has looked: a finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A task, and what became of it."""

    stage: str
    what: str
    leaf: str | None
    result: Result
    message: str = ""
    hint: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        return {
            "stage": self.stage,
            "what": self.what,
            "leaf": self.leaf,
            "result": self.result.value,
            "message": self.message or None,
            "hint": self.hint,
        }


@dataclass(slots=True, kw_only=True)
class Run:
    """One run of the partitions of a trail.

    `lock_timeout` bounds how long anybody's write can be kept waiting; `statement_timeout` how long one
    statement that keeps nobody waiting may take; `patience` how many seconds a detach waits for one transaction,
    or one that is older defers it. `archive` writes one leaf; `gate` is asked before one is
    dropped: the reason why not.
    """

    connection: Connection
    schema: str
    policy: Policy
    now: Callable[[], datetime | None] = lambda: None
    lock_timeout: str = "2s"
    statement_timeout: str = "30min"
    patience: float = PATIENCE
    attempts: int = 5
    archive: Callable[[Task], None] | None = None
    gate: Callable[[Task], str] | None = None
    on_step: Callable[[Step], None] | None = None
    on_retry: Callable[[int, str], None] | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    def read(self) -> Partitions:
        """The partitions as they are."""
        return read_partitions(self.connection, self.schema, now=self.now(), patience=self.patience)

    def stage(self, stage: Stage) -> list[Outcome]:
        """Plan one stage from the partitions as they are, and do it."""
        with span(f"partitions.{stage}", schema=self.schema) as running:
            tasks = tuple(plan_stage(stage, self.read(), self.policy))
            outcomes = [self.attempt(task) for task in tasks]
            running.note(tasks=len(tasks))
            if failed := sum(outcome.result is Result.FAILED for outcome in outcomes):
                running.fail(f"{failed} of {len(tasks)} failed")
        self.outcomes += outcomes
        return outcomes

    def attempt(self, task: Task) -> Outcome:
        """Do one task; what goes wrong becomes its outcome."""
        if task.refused:
            return _outcome(task, Result.REFUSED, task.refused)
        if task.deferred:
            return _outcome(task, Result.DEFERRED, task.deferred)
        try:
            refusal = self.gate(task) if self.gate and task.stage is Stage.DROP else ""
            if refusal:
                return _outcome(task, Result.FAILED, refusal)
            self.do(task)
        except (AuditError, import_psycopg().Error) as error:
            if self.connection.closed:
                raise
            if task.stage is Stage.FINALIZE and _is_busy(error):
                return _outcome(task, Result.DEFERRED, self._with_blockers(_WAITS), _WHICH)
            return self._failed(task, error)
        return _outcome(task, Result.DONE)

    def do(self, task: Task) -> None:
        """Apply the plan of one task; raises what goes wrong."""
        if task.stage is Stage.ARCHIVE and self.archive:
            self.archive(task)
        apply(
            self.timed(task).plan,
            self.connection,
            attempts=self.attempts,
            on_step=self.on_step,
            on_retry=self.on_retry,
        )

    def timed(self, task: Task) -> Task:
        """The task with the timeouts of this run."""
        plan = replace(
            task.plan, lock_timeout=self.lock_timeout, statement_timeout=self.statement_timeout
        )
        if task.stage is Stage.DETACH:
            plan = replace(plan, patience=f"{self.patience:g}s")
        return replace(task, plan=plan)

    def _failed(self, task: Task, error: Exception) -> Outcome:
        hint = error.hint if isinstance(error, AuditError) else None
        message = error.message if isinstance(error, AuditError) else first_line(error)
        if isinstance(error, BusyError):
            message = self._with_blockers(message)
        if task.undo_on_failure and not isinstance(error, BusyError):
            apply(one_by_one(*task.undo_on_failure), self.connection)
        return _outcome(task, Result.FAILED, message, hint)

    def finished(self, command: str, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Note in the database that a command ran, and whether all of it succeeded; an outcome where that failed.

        A clock that is not believed leaves no note, or the next run would take it for a witness.
        """
        partitions = self.read()
        if self.policy.doubt(partitions):
            return []
        step = Steps(partitions).step(
            f"Record that {command} ran",
            "finished",
            command=command,
            now=partitions.now,
            succeeded=succeeded(outcomes),
            summary=json.dumps([outcome.as_dict() for outcome in outcomes]),
        )
        try:
            plan = replace(one_by_one(step), lock_timeout=self.lock_timeout)
            apply(plan, self.connection, attempts=self.attempts)
        except BusyError as error:
            return [
                Outcome(
                    stage="record",
                    what=f"Record that {command} ran",
                    leaf=None,
                    result=Result.FAILED,
                    message=self._with_blockers(error.message),
                    hint=error.hint,
                )
            ]
        return []

    def _with_blockers(self, message: str) -> str:
        who = name_blockers(self.connection, self.schema)
        return f"{message}: {who}" if who else message


def is_standby(connection: Connection) -> bool:
    """Whether the server only follows another one: nothing can be done there."""
    row = connection.execute("select pg_is_in_recovery()").fetchone()
    return bool(row and row[0])


def succeeded(outcomes: Sequence[Outcome]) -> bool:
    """Whether nothing failed; what was deferred comes with a later run."""
    return all(outcome.result is not Result.FAILED for outcome in outcomes)


_WAITS = "an earlier transaction is still open; the next run retries"
_WHICH = "pg_stat_activity, ordered by xact_start, and pg_prepared_xacts show which"


def _is_busy(error: Exception) -> bool:
    return isinstance(error, (BusyError, import_psycopg().errors.QueryCanceled))


def _outcome(task: Task, result: Result, message: str = "", hint: str | None = None) -> Outcome:
    return Outcome(
        stage=task.stage,
        what=task.what,
        leaf=str(task.leaf) if task.leaf else None,
        result=result,
        message=message,
        hint=hint,
    )
