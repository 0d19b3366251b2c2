"""Putting back: a row as it was, or all that a transaction, an event or an actor changed.

Everything is a plan first. The plan is for the rows as they are: `apply_…` locks them, makes it
anew and runs it in the same transaction, whose context says what it puts back.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from audit_toolkit import exact_json
from audit_toolkit.attribution.current import context, current_context
from audit_toolkit.catalog import read_installed
from audit_toolkit.connection import fetch, refusals
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName, quote_identifier
from audit_toolkit.plan import apply
from audit_toolkit.templates import query, render
from audit_toolkit.trail.event import Action, Event, Row
from audit_toolkit.trail.history.audited_tables import find_event
from audit_toolkit.trail.history.events import Selection, select_events, table_of
from audit_toolkit.trail.history.full_images import whole_events
from audit_toolkit.trail.revert.database_errors import database_errors
from audit_toolkit.trail.revert.operations import different
from audit_toolkit.trail.revert.plan import (
    OnConflict,
    Undo,
    plan_reversals,
    verify,
)
from audit_toolkit.trail.revert.retyped import as_typed_now, row_typed_now
from audit_toolkit.trail.revert.reversal import Conflict, Reversal, reverse
from audit_toolkit.trail.revert.targets import (
    RevertTarget,
    key_values_of,
    read_homes,
    read_present,
    read_references,
)
from audit_toolkit.trail.rows.lookup import (
    Subject,
    find_subject,
    no_such_row,
    trail_table,
    warn_of_gap,
)
from audit_toolkit.trail.rows.renamed import as_called_now
from audit_toolkit.trail.rows.table_names import find_names, of_names
from audit_toolkit.trail.time_travel import answered, require_zone

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


MOST_EXPLAINED = 100
"""Of so many conflicts, and other rows, it is looked up who changed them since."""


class ConflictError(AuditError):
    """Rows are not as the events left them; `conflicts` has both sides."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        first = conflicts[0]
        number = "1 row was" if len(conflicts) == 1 else f"{len(conflicts)} rows were"
        what = f" ({', '.join(map(quote_identifier, first.columns))})" if first.columns else ""
        who = ""
        if first.since:
            event = first.since[-1]
            who = f", by {event.actor} in event {event.event_id}"
        super().__init__(
            f"{number} changed since, for example {first.table} {first.key}{what}{who}",
            hint="--force puts them back anyway, --ours leaves such rows as they are"
            + (
                f", --ignore {shlex.quote(first.columns[0])} leaves that column alone"
                if first.columns
                else ""
            ),
        )
        self.conflicts = tuple(conflicts)


def plan_revert(
    connection: Connection,
    selection: Selection,
    *,
    on_conflict: OnConflict = OnConflict.REFUSE,
    ignore: Sequence[str] = (),
    reason: str | None = None,
    schema: str = "audit",
) -> Undo:
    """The SQL that takes back what these events did, and the rows that were changed since.

    Only columns that the events changed are put back, and none of those that `ignore` or the rule of
    a table calls touch columns. Events are taken back newest first, parents before children. With
    `REFUSE` the plan leaves out conflicting rows, as with `OURS`; `apply_revert` then raises instead.
    Raises `UsageError` for tables that are gone, rows to change in tables without a primary key, a
    transaction number that stands for several, and where a value is needed that was masked, excluded
    or too large for the trail, or a column that is gone; the message names the columns.
    """
    with database_errors("plan the revert"):
        return _plan_revert(connection, selection, on_conflict, ignore, reason, schema, lock=False)


def _plan_revert(
    connection: Connection,
    selection: Selection,
    on_conflict: OnConflict,
    ignore: Sequence[str],
    reason: str | None,
    schema: str,
    *,
    lock: bool,
) -> Undo:
    events = select_events(connection, selection, schema=schema)
    if not events:
        raise UsageError("the trail has no such events", hint="audit history TABLE shows events")
    present = as_called_now(connection, events, schema)
    read = as_typed_now(connection, _without_truncates(connection, present, schema), schema)
    reversals = reverse(read.events, read.same_keys)
    claims = _claims({"reverts": _described(selection)}, reason)
    undo = plan_reversals(
        connection, reversals, on_conflict, claims, schema, lock=lock, ignore=ignore
    )
    selected = {event.event_id for event in events}
    lives = {(r.table, r.key): r.life for r in reversals if not r.is_passing}
    conflicts = tuple(
        replace(c, since=_made_by(c, _since(connection, lives[c.table, c.key], selected, schema)))
        for c in undo.conflicts[:MOST_EXPLAINED]
    )
    changes = tuple(
        replace(c, since=_since(connection, lives[c.table, c.key], selected, schema))
        for c in undo.changes[:MOST_EXPLAINED]
    )
    gaps = {table_of(event) for event in events if event.action is Action.GAP}
    return replace(
        undo,
        conflicts=(*conflicts, *undo.conflicts[MOST_EXPLAINED:]),
        changes=(*changes, *undo.changes[MOST_EXPLAINED:]),
        notes=(
            *undo.notes,
            *(
                f"capture of {table} was paused or resumed in between: what was changed then is not undone"
                for table in sorted(gaps)
            ),
        ),
    )


def apply_revert(
    connection: Connection,
    selection: Selection,
    *,
    on_conflict: OnConflict = OnConflict.REFUSE,
    ignore: Sequence[str] = (),
    reason: str | None = None,
    schema: str = "audit",
) -> Undo:
    """Take back what these events did, in one transaction; what was done.

    Where they are all events of transactions, rows that triggers change meanwhile, and that are none of
    those put back, are put back as well: what triggers did then is among the events.
    Raises what `plan_revert` raises, and `ConflictError` where rows were changed since.
    """

    def make() -> Undo:
        return _plan_revert(connection, selection, on_conflict, ignore, reason, schema, lock=True)

    return _apply(
        connection,
        make,
        on_conflict,
        "apply the revert",
        ignore,
        schema,
        alone=not (selection.event_ids or selection.tables or selection.leave_out),
    )


def plan_restore(
    connection: Connection,
    table: str,
    key: object,
    *,
    at: datetime | None = None,
    event: int | None = None,
    with_children: bool = False,
    ignore: Sequence[str] = (),
    reason: str | None = None,
    schema: str = "audit",
) -> Undo:
    """The SQL that makes a row what it was at a moment, or as an event left it.

    Of an event that deleted the row: as it was before. A row that was not there then is deleted. With
    `with_children`, so are the rows that referred to it then by foreign keys, and those that referred
    to them; what came to it since stays.
    Raises what `plan_revert` and `row_at` raise, and `UsageError` where the trail has no event of the row.
    """
    with database_errors("plan the restore"):
        return _plan_restore(
            connection, table, key, at, event, with_children, ignore, reason, schema, lock=False
        )


def _plan_restore(
    connection: Connection,
    table: str,
    key: object,
    at: datetime | None,
    event: int | None,
    with_children: bool,
    ignore: Sequence[str],
    reason: str | None,
    schema: str,
    *,
    lock: bool,
) -> Undo:
    subject = find_subject(connection, table, key, schema=schema)
    if not subject.known or subject.key is None:
        raise no_such_row(connection, subject)
    wanted, moment, as_of = _wanted(connection, subject, at, event, schema)
    warn_of_gap(connection, subject.table, subject.key, as_of, schema=schema)
    home = read_homes(connection, [subject.table], schema)[subject.table]
    if not home.table.key:
        raise UsageError(f"{subject.table} has no primary key: its rows cannot be told apart")
    wanted = wanted and row_typed_now(connection, home, wanted)
    key_values = key_values_of(home.table, subject.key) if wanted is None else wanted
    reversals = [
        _restored(connection, home, subject.keys, key_values, wanted, schema, lock=lock),
    ]
    if with_children:
        if wanted is None:
            raise UsageError(
                f"{subject.table} {subject.key} did not exist then, and so had no children",
                hint="name another moment with --at; audit history shows them",
            )
        reversals += _restored_children(
            connection, subject.table, wanted, as_of, schema, lock=lock, seen={}
        )
    restores: Json = {"table": str(subject.table), "row_key": subject.key, "as_of": moment}
    claims = _claims({"restores": restores}, reason)
    return plan_reversals(
        connection, reversals, OnConflict.FORCE, claims, schema, lock=lock, ignore=ignore
    )


def _restored(
    connection: Connection,
    home: RevertTarget,
    keys: tuple[str, ...],
    key_values: Row,
    wanted: Row | None,
    schema: str,
    *,
    lock: bool,
) -> Reversal:
    [present] = read_present(connection, home, [key_values], lock=lock)
    if wanted is not None and present is not None:
        wanted = different(wanted, present, home)
        latest = datetime.now(UTC) + timedelta(days=1)
        known = _image_at(connection, home.table.name, keys, latest, schema) or {}
        # What is masked cannot be compared with the row, but with what was captured of it last.
        for column in (*home.hidden, *home.excluded):
            if column in wanted and exact_json.same(known.get(column), wanted[column]):
                del wanted[column]
    return Reversal(
        table=home.table.name, key=keys[0], key_values=key_values, left=present, wanted=wanted
    )


def _restored_children(
    connection: Connection,
    parent: QualifiedName,
    row: Row,
    at: datetime,
    schema: str,
    *,
    lock: bool,
    seen: dict[QualifiedName, set[str]],
) -> list[Reversal]:
    """The rows that referred to a row then, and the rows that referred to these; `seen` are keys by their tables."""
    found: list[Reversal] = []
    audited = {installed.table for installed in read_installed(connection, schema)}
    sql = render("queries/children_at", trail_schema=schema)
    for reference in read_references(connection):
        if reference.parent != parent or reference.child not in audited:
            continue
        home = read_homes(connection, [reference.child], schema)[reference.child]
        pairs = zip(reference.columns, reference.parent_columns, strict=True)
        columns = {column: row.get(of_parent) for column, of_parent in pairs}
        if not home.table.key or any(value is None for value in columns.values()):
            continue
        parameters = {
            "schema_name": reference.child.schema,
            "table_name": reference.child.name,
            "at": at,
            "columns": exact_json.dumps(columns),
        }
        with answered():
            children = fetch(connection, sql, parameters)
        if reference.child not in seen:
            warn_of_gap(connection, reference.child, None, at, schema=schema)
        known = seen.setdefault(reference.child, set())
        for child in children:
            if child["row_key"] in known:
                continue
            known.add(child["row_key"])
            image = row_typed_now(connection, home, exact_json.loads(child["image"]))
            found.append(
                _restored(connection, home, (child["row_key"],), image, image, schema, lock=lock)
            )
            found += _restored_children(
                connection, reference.child, image, at, schema, lock=lock, seen=seen
            )
    return found


def apply_restore(
    connection: Connection,
    table: str,
    key: object,
    *,
    at: datetime | None = None,
    event: int | None = None,
    with_children: bool = False,
    ignore: Sequence[str] = (),
    reason: str | None = None,
    schema: str = "audit",
) -> Undo:
    """Make a row what it was, in one transaction; what was done. Raises what `plan_restore` does."""

    def make() -> Undo:
        return _plan_restore(
            connection, table, key, at, event, with_children, ignore, reason, schema, lock=True
        )

    return _apply(connection, make, OnConflict.FORCE, "apply the restore", ignore, schema)


# -- what is wanted -----------------------------------------------------------------------------------


def _wanted(
    connection: Connection,
    subject: Subject,
    at: datetime | None,
    event: int | None,
    schema: str,
) -> tuple[Row | None, str, datetime]:
    """The row, what it is as of in words, and the moment at which its children are looked for."""
    table, keys = subject.table, subject.keys
    if (at is None) == (event is None):
        raise UsageError("give either a time or an event to restore a row")
    if at is not None:
        require_zone(at)
        return _image_at(connection, table, keys, at, schema), at.isoformat(), at
    found = find_event(connection, event or 0, schema=schema)
    if table_of(found) != table or {found.row_key, found.old_row_key}.isdisjoint(keys):
        raise UsageError(
            f"event {event} is about {table_of(found)} {found.row_key}, not about {table} {subject.key}",
            hint="audit history TABLE KEY shows the events of a row",
        )
    if found.action is Action.EVENT:  # of the application, which left the row as it was
        at = found.action_tstamp
        return _image_at(connection, table, keys, at, schema), f"event {event}", at
    gone = found.action is Action.DELETE
    row = found.old_row if gone else found.row_after
    moment = found.action_tstamp - timedelta(microseconds=1) if gone else found.action_tstamp
    return row, f"event {event}", moment


def _image_at(
    connection: Connection, table: QualifiedName, keys: Iterable[str], at: datetime, schema: str
) -> Row | None:
    """The row at a moment, under whichever of these keys, which its type takes for one, it had then."""
    sql = render("queries/row_at", trail_schema=schema, relation=None)
    parameters = {
        "schema_name": table.schema,
        "table_name": table.name,
        "at": at,
    }
    for key in keys:
        with answered():
            image = fetch(connection, sql, parameters | {"row_key": key})[0]["image"]
        if image is not None:
            row: Row = exact_json.loads(image)
            return row
    return None


def _since(
    connection: Connection, life: Sequence[Event], selected: set[int], schema: str
) -> tuple[Event, ...]:
    """The events of others about a row that are between its events and now."""
    keys = list({key for event in life for key in (event.row_key, event.key_before) if key})
    if not keys:
        return ()
    names = find_names(connection, schema, table_of(life[-1]))
    parameters = {
        **of_names(names),
        "row_keys": keys,
        "since": life[0].event_id,
    }
    sql = render(
        "queries/events_since", trail=trail_table(schema), trail_schema=schema, names=names
    )
    with refusals():
        events = list(whole_events(connection, fetch(connection, sql, parameters), schema))
    return tuple(event for event in events if event.event_id not in selected)


def _made_by(conflict: Conflict, since: tuple[Event, ...]) -> tuple[Event, ...]:
    """Of these events, those that are to do with the conflict."""
    made = tuple(e for e in since if not {*e.changed}.isdisjoint(conflict.columns))
    return made or since


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
        replace(
            event, action=Action.DELETE, row_key=r["row_key"], old_row=exact_json.loads(r["image"])
        )
        for r in rows
    ]


def _described(selection: Selection) -> Json:
    described: dict[str, Json] = {
        "events": list(selection.event_ids) or None,
        "transaction": selection.transaction,
        "actor": selection.actor,
        "since": selection.since and selection.since.isoformat(),
        "until": selection.until and selection.until.isoformat(),
        "after_event": selection.after_event,
        "tables": list(selection.tables) or None,
        "except": list(selection.leave_out) or None,
    }
    return {name: value for name, value in described.items() if value is not None}


def _claims(what: dict[str, Json], reason: str | None) -> dict[str, Json]:
    """What is claimed in Python already, and what is put back, with its own reason."""
    return current_context() | what | ({"reason": reason} if reason else {})


def _apply(
    connection: Connection,
    make: Callable[[], Undo],
    on_conflict: OnConflict,
    what: str,
    ignore: Sequence[str],
    schema: str,
    *,
    alone: bool = False,
) -> Undo:
    with database_errors(what), connection.transaction():
        undo = make()
        alone = alone and undo.meddled
        since = _own_events(connection, 0, schema)[-1:] if alone else []
        if undo.conflicts and on_conflict is OnConflict.REFUSE:
            raise ConflictError(undo.conflicts)
        if not undo.plan:
            return undo
        with context(**cast("Any", undo.claims)):  # what `attach` sends with each write
            apply(undo.plan, connection, attempts=1)
            if alone:
                latest = since[0].event_id if since else 0
                undo = _without_others(connection, undo, latest, ignore, schema)
        undo = verify(connection, undo, schema, ignore=ignore)
        [row] = fetch(connection, query("own_transaction"))
        return replace(undo, transaction=row["number"])


def _own_events(connection: Connection, after: int, schema: str) -> list[Event]:
    """What this very transaction has done to rows, behind that event."""
    [own] = fetch(connection, query("own_transaction"))
    selection = Selection(
        transaction=own["number"], transaction_start=own["began"], after_event=after
    )
    changes = (Action.INSERT, Action.UPDATE, Action.DELETE)
    return [e for e in select_events(connection, selection, schema=schema) if e.action in changes]


def _without_others(
    connection: Connection, undo: Undo, after: int, ignore: Sequence[str], schema: str
) -> Undo:
    """Put back the rows that triggers have changed beside those of the plan; the undo with notes of them."""
    planned = {(change.table, key) for change in undo.changes for key in change.keys}
    beside: dict[QualifiedName, list[Event]] = {}
    for event in _own_events(connection, after, schema):
        keys = {(table_of(event), key) for key in (event.row_key, event.key_before)}
        if not keys & planned:
            beside.setdefault(table_of(event), []).append(event)
    notes = []
    for table, events in beside.items():
        columns = {
            column
            for event in events
            for column in {**(event.old_row or {}), **(event.new_row or {})}
        }
        try:
            back = plan_reversals(
                connection,
                reverse(events),
                OnConflict.FORCE,
                undo.claims,
                schema,
                lock=False,
                ignore=[column for column in ignore if column in columns],
            )
        except UsageError as error:
            notes.append(f"a trigger also changed {table}, which stays: {error.message}")
            continue
        apply(back.plan, connection, attempts=1)
        if back.rows:
            number = "1 other row" if back.rows == 1 else f"{back.rows} other rows"
            notes.append(f"a trigger also changed {number} of {table}, put back as well")
    return replace(undo, notes=(*undo.notes, *notes))
