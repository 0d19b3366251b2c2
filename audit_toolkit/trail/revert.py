"""Putting back: a row as it was, or all that a transaction, an event or an actor changed.

Everything is a plan first. The plan is for the rows as they are: `apply_…` locks them, makes it
anew and runs it in the same transaction, whose context says what it puts back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from audit_toolkit.attribution.current import context, current_context
from audit_toolkit.connection import fetch, first_line, import_psycopg
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.plan import apply
from audit_toolkit.templates import render
from audit_toolkit.trail import exact
from audit_toolkit.trail.events import Selection, select_events, table_of
from audit_toolkit.trail.exact import Json
from audit_toolkit.trail.model import Action, Event, Row
from audit_toolkit.trail.present import key_values_of, read_homes, read_present
from audit_toolkit.trail.subject import find_subject, trail_table
from audit_toolkit.trail.travel import answered, require_zone
from audit_toolkit.trail.undo import Conflict, Reversal, reverse
from audit_toolkit.trail.undo_plan import (
    OnConflict,
    Undo,
    different,
    plan_reversals,
)

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


class ConflictError(AuditError):
    """Rows are not as the events left them; `conflicts` has both sides."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        first = conflicts[0]
        number = "1 row was" if len(conflicts) == 1 else f"{len(conflicts)} rows were"
        super().__init__(
            f"{number} changed since, {first.table} {first.key} for one",
            hint="--force puts back all the same, --ours leaves such rows as they are",
        )
        self.conflicts = tuple(conflicts)


def plan_revert(
    connection: Connection,
    selection: Selection,
    *,
    on_conflict: OnConflict = OnConflict.REFUSE,
    reason: str | None = None,
    schema: str = "audit",
) -> Undo:
    """The SQL that takes back what these events did, and the rows that were changed since.

    Only columns that the events changed are put back. With `REFUSE` the plan leaves out conflicting
    rows, as with `OURS`; `apply_revert` then raises instead.
    Raises `UsageError` for tables that are gone or have no primary key, and where a value is needed
    that was masked, excluded or too large for the trail; the message names the columns.
    """
    return _plan_revert(connection, selection, on_conflict, reason, schema, lock=False)


def _plan_revert(
    connection: Connection,
    selection: Selection,
    on_conflict: OnConflict,
    reason: str | None,
    schema: str,
    *,
    lock: bool,
) -> Undo:
    events = select_events(connection, selection, schema=schema)
    if not events:
        raise UsageError("the trail has no such events", hint="audit history TABLE shows events")
    reversals = reverse(_without_truncates(connection, events, schema))
    claims = _claims({"reverts": _described(selection)}, reason)
    return plan_reversals(connection, reversals, on_conflict, claims, schema, lock=lock)


def apply_revert(
    connection: Connection,
    selection: Selection,
    *,
    on_conflict: OnConflict = OnConflict.REFUSE,
    reason: str | None = None,
    schema: str = "audit",
) -> Undo:
    """Take back what these events did, in one transaction; what was done.

    Raises what `plan_revert` raises, and `ConflictError` where rows were changed since.
    """

    def make() -> Undo:
        return _plan_revert(connection, selection, on_conflict, reason, schema, lock=True)

    return _apply(connection, make, on_conflict)


def plan_restore(
    connection: Connection,
    table: str,
    key: object,
    *,
    at: datetime | None = None,
    event: int | None = None,
    reason: str | None = None,
    schema: str = "audit",
) -> Undo:
    """The SQL that makes a row what it was at a moment, or as an event left it.

    Of an event that deleted the row: as it was before. A row that was not there then is deleted.
    Raises what `plan_revert` and `row_at` raise.
    """
    return _plan_restore(connection, table, key, at, event, reason, schema, lock=False)


def _plan_restore(
    connection: Connection,
    table: str,
    key: object,
    at: datetime | None,
    event: int | None,
    reason: str | None,
    schema: str,
    *,
    lock: bool,
) -> Undo:
    subject = find_subject(connection, table, key, schema=schema)
    wanted, moment = _wanted(connection, subject.table, subject.key, at, event, schema)
    home = read_homes(connection, [subject.table], schema)[subject.table]
    key_values = key_values_of(home.table, subject.key) if wanted is None else wanted
    [present] = read_present(connection, home.table, [key_values], lock=lock)
    if wanted is not None and present is not None:
        wanted = different(wanted, present, home)
        latest = datetime.now(UTC) + timedelta(days=1)
        known = _image_at(connection, subject.table, subject.key, latest, schema) or {}
        # What is masked cannot be compared with the row, but with what was captured of it last.
        for column in (*home.hidden, *home.excluded):
            if column in wanted and exact.same(known.get(column), wanted[column]):
                del wanted[column]
    reversal = Reversal(
        table=subject.table, key=subject.key, key_values=key_values, left=present, wanted=wanted
    )
    restores: Json = {"table": str(subject.table), "row_key": subject.key, "as_of": moment}
    claims = _claims({"restores": restores}, reason)
    return plan_reversals(connection, [reversal], OnConflict.FORCE, claims, schema, lock=lock)


def apply_restore(
    connection: Connection,
    table: str,
    key: object,
    *,
    at: datetime | None = None,
    event: int | None = None,
    reason: str | None = None,
    schema: str = "audit",
) -> Undo:
    """Make a row what it was, in one transaction; what was done. Raises what `plan_restore` does."""

    def make() -> Undo:
        return _plan_restore(connection, table, key, at, event, reason, schema, lock=True)

    return _apply(connection, make, OnConflict.FORCE)


# -- what is wanted -----------------------------------------------------------------------------------


def _wanted(
    connection: Connection,
    table: QualifiedName,
    key: str | None,
    at: datetime | None,
    event: int | None,
    schema: str,
) -> tuple[Row | None, str]:
    if (at is None) == (event is None):
        raise UsageError("a row is restored as of a moment or of an event: name one of them")
    if at is not None:
        require_zone(at)
        return _image_at(connection, table, key, at, schema), at.isoformat()
    [found] = select_events(connection, Selection(event_ids=(event or 0,)), schema=schema)
    if table_of(found) != table or key not in (found.row_key, found.old_row_key):
        raise UsageError(
            f"event {event} is about {table_of(found)} {found.row_key}, not about {table} {key}",
            hint="audit history TABLE KEY shows the events of a row",
        )
    row = found.old_row if found.action is Action.DELETE else found.row_after
    return row, f"event {event}"


def _image_at(
    connection: Connection, table: QualifiedName, key: str | None, at: datetime, schema: str
) -> Row | None:
    sql = render("queries/row_at", trail_schema=schema, relation=None)
    parameters = {
        "schema_name": table.schema,
        "table_name": table.name,
        "row_key": key,
        "at": at,
    }
    with answered():
        image = fetch(connection, sql, parameters)[0]["image"]
    return None if image is None else exact.loads(image)


def _without_truncates(connection: Connection, events: Sequence[Event], schema: str) -> list[Event]:
    """The events, each TRUNCATE as deletes of the rows that the trail knew."""
    return [
        single
        for event in events
        for single in (
            _rows_of_truncate(connection, event, schema)
            if event.action is Action.TRUNCATE
            else (event,)
        )
    ]


def _rows_of_truncate(connection: Connection, event: Event, schema: str) -> list[Event]:
    sql = render("queries/rows_before_truncate", trail=trail_table(schema), trail_schema=schema)
    parameters = {
        "schema_name": event.schema_name,
        "table_name": event.table_name,
        "event_id": event.event_id,
        "at": event.action_tstamp,
    }
    with answered():
        rows = fetch(connection, sql, parameters)
    return [
        replace(event, action=Action.DELETE, row_key=r["row_key"], old_row=exact.loads(r["image"]))
        for r in rows
    ]


def _described(selection: Selection) -> Json:
    described: dict[str, Json] = {
        "events": list(selection.event_ids) or None,
        "transaction": selection.transaction,
        "actor": selection.actor,
        "since": selection.since and selection.since.isoformat(),
        "until": selection.until and selection.until.isoformat(),
    }
    return {name: value for name, value in described.items() if value is not None}


def _claims(what: dict[str, Json], reason: str | None) -> dict[str, Json]:
    """What is claimed in Python already, and what is put back, with its own reason."""
    return current_context() | what | ({"reason": reason} if reason else {})


def _apply(connection: Connection, make: Callable[[], Undo], on_conflict: OnConflict) -> Undo:
    errors = import_psycopg().errors
    try:
        with connection.transaction():
            undo = make()
            if undo.conflicts and on_conflict is OnConflict.REFUSE:
                raise ConflictError(undo.conflicts)
            with context(**cast("Any", undo.claims)):  # what `attach` sends with each write
                apply(undo.plan, connection, attempts=1)
            return undo
    except (errors.IntegrityError, errors.DataError) as error:
        raise AuditError(
            f"the database refused to have it back: {first_line(error)}",
            hint=error.diag.message_detail
            or "other rows, or other types of columns, stand in the way",
        ) from error
