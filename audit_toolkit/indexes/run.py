"""Apply repairs and builds: one at a time, verified, resumable because the state is the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import first_line, import_psycopg
from audit_toolkit.errors import AuditError, BusyError, ServerVersionError
from audit_toolkit.indexes.create import IndexRequest, find_table, plan_create, understand
from audit_toolkit.indexes.model import UNSAFE_SERVERS, Catalogue, Diagnosis, Index, IndexState
from audit_toolkit.indexes.read import Scope, read_catalogue, read_indexes
from audit_toolkit.indexes.repair import Repair
from audit_toolkit.plan import DEFAULT_LOCK_TIMEOUT, DEFAULT_STATEMENT_TIMEOUT, Plan, Step, apply

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a statement that writes could queue behind may wait, and how long a build may take."""

    lock: str = DEFAULT_LOCK_TIMEOUT
    statement: str = DEFAULT_STATEMENT_TIMEOUT

    def plan(self, steps: Sequence[Step]) -> Plan:
        """The steps, each on its own, under these timeouts."""
        return Plan(
            steps=tuple(steps),
            lock_timeout=self.lock,
            statement_timeout=self.statement,
            atomic=False,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who is told of what happens."""

    on_step: Callable[[Step], None] | None = None
    on_retry: Callable[[int, str], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A repair that did not work."""

    diagnosis: Diagnosis
    error: AuditError


def refuse_while_building(findings: Sequence[Diagnosis]) -> None:
    """Raise `BusyError` when something works on one of these indexes right now."""
    building = [finding for finding in findings if finding.state is IndexState.BUILDING]
    if building:
        raise BusyError(
            f"{building[0].subject} is being built: {building[0].message}",
            hint=_LET_IT_FINISH,
        )


def repair(
    repairs: Sequence[Repair], connection: Connection, timeouts: Timeouts, listener: Listener
) -> list[Failure]:
    """Run the repairs one after the other; one that fails does not stop the others.

    Every step commits on its own and no write waits longer than `timeouts.lock`.
    """
    failures = []
    for each in repairs:
        try:
            if each.steps and _is_as_it_was(each.diagnosis.index, connection):
                _apply(timeouts.plan(each.steps), connection, listener)
        except AuditError as error:
            failures.append(Failure(diagnosis=each.diagnosis, error=error))
    return failures


def _is_as_it_was(index: Index | None, connection: Connection) -> bool:
    """Whether a repair is still due: it is not when another one included it, or a person was faster."""
    if index is None:
        return False
    now = next(
        (i for i in read_indexes(connection, table_oids=[index.table_oid]) if i.oid == index.oid),
        None,
    )
    if now is not None and now.busy_pid is not None:
        raise BusyError(f"{index.name} is in use by session {now.busy_pid}", hint=_LET_IT_FINISH)
    return now is not None and (now.name, now.definition, now.valid, now.ready, now.live) == (
        index.name, index.definition, index.valid, index.ready, index.live,
    )  # fmt: skip


_LET_IT_FINISH = (
    "wait until it is done (audit indexes progress shows its progress), then run this again"
)


def missing_steps(request: IndexRequest, connection: Connection) -> list[Step]:
    """What is missing of an index that somebody wants, as things are now.

    Raises `BusyError` while an index of the table or its leaves is being built, and
    `ServerVersionError` where concurrent builds are not safe.
    """
    relation = find_table(request, connection)
    catalogue = read_catalogue(connection, Scope(tables=(relation.name.sql,)))
    _refuse_unsafe(catalogue)
    wanted = understand(request, relation, catalogue, connection)
    return plan_create(wanted, relation, catalogue)


def _refuse_unsafe(catalogue: Catalogue) -> None:
    if catalogue.server_version in UNSAFE_SERVERS:
        raise ServerVersionError(
            "this PostgreSQL can corrupt an index that is built CONCURRENTLY",
            hint="upgrade to 14.4 or newer",
        )
    for index in catalogue.indexes:
        if index.broken and index.busy_pid:
            raise BusyError(
                f"{index.name} is in use by session {index.busy_pid}", hint=_LET_IT_FINISH
            )


def create(
    request: IndexRequest, connection: Connection, timeouts: Timeouts, listener: Listener
) -> Plan:
    """Create the index on the table and all its leaves; what it did, an empty plan when it was there.

    Leaves that appear meanwhile are covered as well. After any failure, call it again: it goes on from there.
    Raises `BusyError` for a lock, `AuditError` for what the server refuses or when it did not become valid.
    """
    taken: list[Step] = []
    for _ in range(_ROUNDS):
        steps = missing_steps(request, connection)
        if not steps:
            return timeouts.plan(taken)
        _apply(timeouts.plan(steps), connection, listener)
        taken += steps
    raise AuditError(
        f"index {request.name!r} is still incomplete",
        hint="audit indexes check lists what is missing; a pending detach must be finished first",
    )


def _apply(plan: Plan, connection: Connection, listener: Listener) -> None:
    psycopg = import_psycopg()
    try:
        apply(plan, connection, on_step=listener.on_step, on_retry=listener.on_retry)
    except psycopg.errors.UniqueViolation as error:
        raise AuditError(
            f"{first_line(error)}: {error.diag.message_detail}",
            hint="remove the duplicate rows, then run this again",
        ) from error
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        raise AuditError(first_line(error), hint=error.diag.message_hint) from error
    except psycopg.Error as error:
        if connection.closed:
            raise
        raise AuditError(first_line(error), hint="run this again when the cause is gone") from error
