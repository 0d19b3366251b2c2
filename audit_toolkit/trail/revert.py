"""Putting back: a row as it was, or all that a transaction, an event or an actor changed.

Everything is a plan first. The plan is for the rows as they are: `apply_…` locks them, makes it
anew and runs it in the same transaction, whose context says what it puts back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import Table, read_installed, read_relations, read_table
from audit_toolkit.connection import fetch, first_line, import_psycopg, prepare_session
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.names import QualifiedName, Sql, quote_identifier
from audit_toolkit.plan import Plan, Step, apply
from audit_toolkit.templates import query, render, render_statements
from audit_toolkit.trail import exact
from audit_toolkit.trail.events import Selection, select_events, table_of
from audit_toolkit.trail.exact import Json
from audit_toolkit.trail.model import Action, Event, Row
from audit_toolkit.trail.subject import find_subject, trail_table
from audit_toolkit.trail.travel import answered, require_zone
from audit_toolkit.trail.undo import Conflict, Reversal, conflict_of, reverse

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_OVERSIZE = "audit:oversize"


class OnConflict(StrEnum):
    """What to do with a row that is not as the events left it."""

    REFUSE = "refuse"
    FORCE = "force"
    """Put it back all the same."""
    OURS = "ours"
    """Leave it as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """What would be done, and where rows are in the way."""

    plan: Plan
    conflicts: tuple[Conflict, ...]
    rows: int
    """How many rows the plan changes."""

    def as_dict(self) -> dict[str, Json]:
        """The undo as JSON values."""
        return {
            "rows": self.rows,
            "conflicts": [conflict.as_dict() for conflict in self.conflicts],
            "plan": self.plan.as_dict(),
        }


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Home:
    """A table of the plan, and the columns of it whose values are not in the trail."""

    table: Table
    hidden: tuple[str, ...]
    excluded: tuple[str, ...]

    @property
    def writable(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.table.columns if not c.generated)


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
    claims: dict[str, Json] = {"reverts": _described(selection)} | _claim(reason)
    return _plan(connection, reversals, on_conflict, claims, schema, lock=lock)


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
    home = _read_homes(connection, [subject.table], schema)[subject.table]
    key_values = _key_values(home.table, subject.key) if wanted is None else wanted
    [present] = _read_present(connection, home.table, [key_values], lock=lock)
    if wanted is not None and present is not None:
        wanted = _different(wanted, present, home)
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
    claims = {"restores": restores} | _claim(reason)
    return _plan(connection, [reversal], OnConflict.FORCE, claims, schema, lock=lock)


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


def _claim(reason: str | None) -> dict[str, Json]:
    return {"reason": reason} if reason else {}


# -- the plan -----------------------------------------------------------------------------------------


def _plan(
    connection: Connection,
    reversals: Sequence[Reversal],
    on_conflict: OnConflict,
    claims: dict[str, Json],
    schema: str,
    *,
    lock: bool,
) -> Undo:
    homes = _read_homes(connection, dict.fromkeys(r.table for r in reversals), schema)
    conflicts: list[Conflict] = []
    chosen: list[tuple[Reversal, Row | None]] = []
    for table, home in homes.items():
        own = [reversal for reversal in reversals if reversal.table == table]
        rows = _read_present(connection, home.table, [r.key_values for r in own], lock=lock)
        vacated = {_key(home, r) for r in own if _vacates(home, r)}
        for reversal, there in zip(own, rows, strict=True):
            taken = reversal.left is None and _key(home, reversal) in vacated
            present, conflict = None if taken else there, None
            if on_conflict is not OnConflict.FORCE:
                conflict = conflict_of(reversal, present, (*home.hidden, *_computed(home)))
            if conflict:
                conflicts.append(conflict)
            else:
                chosen.append((reversal, present))
    steps = _steps(chosen, homes, _read_references(connection))
    if steps:
        statements = render_statements("undo/context", claims=exact.dumps(claims))
        steps = [Step(why="What is put back, for the trail", statements=tuple(statements)), *steps]
    return Undo(
        plan=Plan(steps=tuple(steps)),
        conflicts=tuple(conflicts),
        rows=sum(r.wanted is None or bool(r.wanted) for r, _ in chosen) if steps else 0,
    )


def _vacates(home: _Home, reversal: Reversal) -> bool:
    """Whether the key that a row has now becomes free: for another row that had it before."""
    if reversal.left is None:
        return False
    return reversal.wanted is None or any(c in reversal.wanted for c in home.table.key)


def _key(home: _Home, reversal: Reversal) -> str:
    return exact.dumps([reversal.key_values.get(column) for column in home.table.key])


def _computed(home: _Home) -> tuple[str, ...]:
    return tuple(c.name for c in home.table.columns if c.generated)


def _steps(
    chosen: Sequence[tuple[Reversal, Row | None]],
    homes: dict[QualifiedName, _Home],
    references: set[tuple[QualifiedName, QualifiedName]],
) -> list[Step]:
    """Deletes with children first, inserts with parents first, then updates.

    Rows of a table that updated rows may still refer to are deleted last. Rows that get another key
    do so before an insert takes their present one.
    """
    inserts, moves, updates = list[Step](), list[Step](), list[Step]()
    early, late = list[Step](), list[Step]()
    changing = {r.table for r, present in chosen if r.wanted and present is not None}
    for name in _parents_first(homes, references):
        home, own = homes[name], [(r, present) for r, present in chosen if r.table == name]
        inserts += _inserts(home, [r for r, present in own if r.wanted and present is None])
        back = {_key(home, r) for r, present in own if r.wanted and present is None}
        own_moves, own_updates = _updates(home, [(r, now) for r, now in own if r.wanted and now])
        moves += own_moves
        updates += own_updates
        gone = [r for r, present in own if r.wanted is None and present is not None]
        in_the_way = own_moves or any(_key(home, r) in back for r in gone)
        is_late = not in_the_way and any((child, name) in references for child in changing)
        (late if is_late else early)[:0] = [_delete(home, gone)] if gone else []
    return [*early, *moves, *inserts, *updates, *late]


def _inserts(home: _Home, reversals: Sequence[Reversal]) -> list[Step]:
    by_columns: dict[tuple[str, ...], list[Row]] = {}
    for reversal in reversals:
        row = reversal.key_values | (reversal.wanted or {})
        _require_known(home, reversal, row, missing=home.excluded)
        columns = tuple(column for column in home.writable if column in row)
        by_columns.setdefault(columns, []).append({c: row[c] for c in columns})
    return [
        Step(
            why=f"{_rows(len(rows))} of {home.table.name} that had been deleted",
            statements=(
                _one("undo/insert", table=home.table.name, columns=columns, rows=exact.dumps(rows)),
            ),
            lock="ROW EXCLUSIVE",
        )
        for columns, rows in by_columns.items()
    ]


def _updates(
    home: _Home, reversals: Sequence[tuple[Reversal, Row]]
) -> tuple[list[Step], list[Step]]:
    """The steps for rows that get another key, which come first, and for those that keep theirs."""
    by_columns: dict[tuple[str, ...], list[Json]] = {}
    moved: list[tuple[Row, Row, Row]] = []
    for reversal, present in reversals:
        wanted = _different(reversal.wanted or {}, present, home)
        _require_known(home, reversal, wanted)
        key = {c: reversal.key_values[c] for c in home.table.key}
        if any(column in wanted for column in key):
            moved.append((key, wanted, present))
        elif wanted:
            by_columns.setdefault(tuple(wanted), []).append({"row": key, "set": wanted})
    union = tuple(dict.fromkeys(column for _, wanted, _ in moved for column in wanted))
    together: list[Json] = [
        {"row": key, "set": {c: (present | wanted).get(c) for c in union}}
        for key, wanted, present in moved
    ]
    moves = [_update(home, union, together)] if together else []
    return moves, [_update(home, columns, rows) for columns, rows in by_columns.items()]


def _update(home: _Home, columns: tuple[str, ...], rows: list[Json]) -> Step:
    statement = _one(
        "undo/update",
        table=home.table.name,
        key=home.table.key,
        columns=columns,
        rows=exact.dumps(rows),
    )
    names = ", ".join(quote_identifier(column) for column in columns)
    return Step(
        why=f"What {names} of {_rows(len(rows))} of {home.table.name} had been",
        statements=(statement,),
        lock="ROW EXCLUSIVE",
    )


def _different(wanted: Row, present: Row, home: _Home) -> Row:
    """What of a row has to be written for it to be as wanted."""
    return {
        column: value
        for column, value in wanted.items()
        if column in home.writable and not exact.same(present.get(column), value)
    }


def _delete(home: _Home, reversals: Sequence[Reversal]) -> Step:
    keys = [{c: r.key_values[c] for c in home.table.key} for r in reversals]
    statement = _one(
        "undo/delete", table=home.table.name, key=home.table.key, keys=exact.dumps(keys)
    )
    return Step(
        why=f"{_rows(len(keys))} of {home.table.name} that had not been there",
        statements=(statement,),
        lock="ROW EXCLUSIVE",
    )


def _require_known(
    home: _Home, reversal: Reversal, row: Row, *, missing: Sequence[str] = ()
) -> None:
    """Refuse to write what stands in the trail for a value that is not there."""
    unknown = [c for c in row if c in home.hidden or _is_stand_in(row[c])] + list(missing)
    if unknown:
        raise UsageError(
            f"{home.table.name} {reversal.key} cannot be put back: the trail has no values of "
            + ", ".join(quote_identifier(column) for column in unknown),
            hint="they were masked, excluded or too large when they were captured; "
            "audit show EVENT has what is known",
        )


def _is_stand_in(value: Json) -> bool:
    return isinstance(value, dict) and _OVERSIZE in value


def _parents_first(
    homes: Iterable[QualifiedName], references: set[tuple[QualifiedName, QualifiedName]]
) -> list[QualifiedName]:
    waiting, order = list(homes), list[QualifiedName]()
    while waiting:
        ready = [
            t for t in waiting if not any((t, p) in references for p in waiting if p != t)
        ] or waiting[:1]  # tables in a circle need deferrable constraints
        order += ready
        waiting = [table for table in waiting if table not in ready]
    return order


def _one(template: str, **values: Any) -> str:
    [statement] = render_statements(template, **values)
    return statement


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


# -- what is there ------------------------------------------------------------------------------------


def _read_homes(
    connection: Connection, tables: Iterable[QualifiedName], schema: str
) -> dict[QualifiedName, _Home]:
    relations = {relation.name: relation for relation in read_relations(connection)}
    options = {i.table: i.options for i in read_installed(connection, schema)}
    homes = {}
    for name in tables:
        if name not in relations:
            raise UsageError(
                f"{name} is gone, so nothing can be put back into it",
                hint="make the table again first; audit history shows its rows",
            )
        table = read_table(connection, relations[name])
        if not table.key:
            raise UsageError(f"{name} has no primary key: its rows cannot be told apart")
        homes[name] = _home(table, options.get(name, {}))
    return homes


def _home(table: Table, options: dict[str, Any]) -> _Home:
    masked = tuple(options.get("mask", ()))
    only = options.get("only") or ()
    left_out = tuple(
        c.name
        for c in table.columns
        if only and c.name not in only and c.name not in table.key and not c.generated
    )
    excluded = (*(c for c in options.get("exclude", ()) if table.column(c)), *left_out)
    return _Home(table=table, hidden=masked, excluded=excluded)


def _read_present(
    connection: Connection, table: Table, rows: Sequence[Row], *, lock: bool = False
) -> list[Row | None]:
    """The row that has each of these keys now, printed as capture prints it."""
    keys = {"keys": exact.dumps([{c: row.get(c) for c in table.key} for row in rows])}
    with answered():
        if lock:  # what it waits for is seen by the statement after it only
            connection.execute(_present_rows(table, lock=True), keys)
        with connection.transaction(force_rollback=True):
            prepare_session(connection)
            answers = fetch(connection, _present_rows(table, lock=False), keys)
    found = {row["place"]: exact.loads(row["image"]) for row in answers}
    return [found.get(place) for place in range(1, len(rows) + 1)]


def _present_rows(table: Table, *, lock: bool) -> str:
    return render(
        "queries/present_rows",
        relation=Sql(table.name.sql.replace("%", "%%")),
        key=tuple(Sql(quote_identifier(c).replace("%", "%%")) for c in table.key),
        lock=lock,
    )


def _key_values(table: Table, key: str | None) -> Row:
    if len(table.key) == 1:
        return {table.key[0]: key}
    return dict(zip(table.key, exact.loads(key or "[]"), strict=True))


def _read_references(connection: Connection) -> set[tuple[QualifiedName, QualifiedName]]:
    return {
        (
            QualifiedName(row["schema_name"], row["table_name"]),
            QualifiedName(row["parent_schema"], row["parent_name"]),
        )
        for row in fetch(connection, query("references"))
    }


def _apply(connection: Connection, make: Callable[[], Undo], on_conflict: OnConflict) -> Undo:
    errors = import_psycopg().errors
    try:
        with connection.transaction():
            undo = make()
            if undo.conflicts and on_conflict is OnConflict.REFUSE:
                raise ConflictError(undo.conflicts)
            apply(undo.plan, connection, attempts=1)
            return undo
    except errors.IntegrityError as error:
        raise AuditError(
            f"the database refused to have it back: {first_line(error)}",
            hint=error.diag.message_detail or "other rows stand in the way",
        ) from error
