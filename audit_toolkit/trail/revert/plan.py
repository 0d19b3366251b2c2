"""From reversals to a plan: read the rows as they are, find conflicts, order the statements."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.errors import AuditError, PermissionDeniedError, UsageError
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName, Sql, quote_identifier
from audit_toolkit.plan import Plan, Step
from audit_toolkit.plurals import counted
from audit_toolkit.templates import render, render_statements
from audit_toolkit.trail.event import Event, Row
from audit_toolkit.trail.revert.operations import Choice, different, operations_of
from audit_toolkit.trail.revert.ordering import (
    Batch,
    Kind,
    Operation,
    Reference,
    in_batches,
    value_of,
)
from audit_toolkit.trail.revert.reversal import Conflict, Reversal, conflict_of, told
from audit_toolkit.trail.revert.short_lived_rows import find_missed, with_free_keys
from audit_toolkit.trail.revert.targets import (
    RevertTarget,
    find_homes,
    is_known_there,
    read_homes,
    read_present,
    read_references,
)

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


class OnConflict(StrEnum):
    """What to do with a row that is not as the events left it."""

    REFUSE = "refuse"
    FORCE = "force"
    """Put it back all the same."""
    OURS = "ours"
    """Leave it as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """What becomes of one row."""

    table: QualifiedName
    key: str | None
    before: Row | None
    """Of the columns that change, their values now; all of a row that goes; None: it is not there."""
    after: Row | None
    """Of the columns that change, what they become; all of a row that comes; None: it goes."""
    since: tuple[Event, ...] = ()
    """What others did to the row since, newest last."""
    keys: tuple[str | None, ...] = ()
    """All keys that the row had, as the trail has them."""

    def as_dict(self) -> dict[str, Json]:
        """The change as JSON values."""
        return {
            "table": [self.table.schema, self.table.name],
            "row_key": self.key,
            "before": self.before,
            "after": self.after,
            "since": [told(event) for event in self.since],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """What would be done, and where rows are in the way."""

    plan: Plan
    conflicts: tuple[Conflict, ...]
    rows: int
    """How many rows the plan changes."""
    claims: dict[str, Json]
    """What the context of its transaction says about it."""
    changes: tuple[RowChange, ...] = ()
    """The rows that the plan changes."""
    notes: tuple[str, ...] = ()
    """What somebody should know who applies it, or has."""
    transaction: int | None = None
    """The transaction that did it; None until it is applied."""
    meddled: bool = False
    """Whether triggers, or foreign keys that follow a key, may change rows beside."""
    recorded: bool = True
    """Whether the trail has any of it, so that it can be taken back."""

    def as_dict(self) -> dict[str, Json]:
        """The undo as JSON values."""
        return {
            "rows": self.rows,
            "conflicts": [conflict.as_dict() for conflict in self.conflicts],
            "plan": self.plan.as_dict(),
            "changes": [change.as_dict() for change in self.changes],
            "notes": list(self.notes),
            "transaction": self.transaction,
        }


def plan_reversals(
    connection: Connection,
    reversals: Sequence[Reversal],
    on_conflict: OnConflict,
    claims: dict[str, Json],
    schema: str,
    *,
    lock: bool,
    ignore: Sequence[str] = (),
) -> Undo:
    """The plan for these rows as they are now; with `lock`, no other can change them until commit.

    Columns that `ignore` or the rule of a table calls touch columns are no conflict, and not put back.
    """
    passing = [reversal for reversal in reversals if reversal.is_passing]
    tables = dict.fromkeys(r.table for r in reversals if not r.is_passing)
    homes = read_homes(connection, tables, schema, ignore=ignore)
    _require_columns(ignore, homes, reversals)
    conflicts: list[Conflict] = []
    choices: list[Choice] = []
    so = 0
    for table, home in homes.items():
        own = [r for r in reversals if r.table == table and not r.is_passing]
        for choice, conflict in _compare(connection, home, own, schema, lock=lock):
            if conflict and _is_so(home, choice):
                so += 1
                choices.append(choice)
            elif conflict and on_conflict is not OnConflict.FORCE:
                conflicts.append(conflict)
            else:
                choices.append(choice)
    references = read_references(connection)
    operations = operations_of(choices, homes, references)
    while missed := find_missed(passing, operations, homes, references):
        known = set(map(id, missed))
        passing = [reversal for reversal in passing if id(reversal) not in known]
        others = {reversal.table for reversal in missed} - homes.keys()
        homes |= find_homes(connection, others, schema, ignore=ignore)
        choices += with_free_keys(connection, missed, operations, homes)
        operations = operations_of(choices, homes, references)
    keys = {table: home.table.key for table, home in homes.items()}
    loose = {table: home.loose for table, home in homes.items()}
    batches = in_batches(operations, references, keys, loose, _quiet(homes, references))
    settling = _needs_settling(homes, references)
    steps = [
        _step(homes[batch.table], batch, settling=settling)
        for batch in _followed(batches, references)
    ]
    changes = _changes(choices, homes)
    notes = [f"{counted(so, 'row')} already as before the events"] if so else []
    if steps:
        notes += [
            f"capture of {table} is off: the trail does not record what is put back there"
            for table in dict.fromkeys(change.table for change in changes)
            if not homes[table].captured
        ]
        statements = render_statements("undo/context", claims=exact_json.dumps(claims))
        first = Step(why="What is put back, for the trail", statements=tuple(statements))
        settled = _settled(changes, homes, batches) if settling else []
        steps = [first, *steps, *settled]
    return Undo(
        plan=Plan(steps=tuple(steps)),
        conflicts=tuple(conflicts),
        rows=len(changes) if steps else 0,
        claims=claims,
        changes=changes if steps else (),
        notes=tuple(notes),
        recorded=not steps or any(homes[change.table].captured for change in changes),
        meddled=settling,
    )


def _require_columns(
    names: Sequence[str], homes: dict[QualifiedName, RevertTarget], reversals: Sequence[Reversal]
) -> None:
    """Raise `UsageError` for a column that neither the tables have nor their events."""
    known = {column for home in homes.values() for column in home.types}
    for reversal in reversals:
        known.update(reversal.key_values, reversal.left or (), reversal.wanted or ())
    for name in names if homes else ():
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
            tables = ", ".join(map(str, homes))
            raise UsageError(
                f"{tables} has no column {quote_identifier(name)}",
                hint=f"did you mean {' or '.join(close)}?"
                if close
                else "audit history TABLE shows columns",
            )


def verify(connection: Connection, undo: Undo, schema: str, *, ignore: Sequence[str] = ()) -> Undo:
    """The undo after it was applied, with notes where a trigger had the last word.

    Raises `AuditError` where a row is not what it was to become: a trigger or rule had its way.
    """
    by_table: dict[QualifiedName, list[RowChange]] = defaultdict(list)
    for change in undo.changes:
        by_table[change.table].append(change)
    homes = read_homes(connection, by_table, schema, ignore=ignore)
    notes: dict[str, None] = {}
    for table, changes in by_table.items():
        home = homes[table]
        if not home.table.key:
            continue
        keys = [_key_afterwards(home, change) for change in changes]
        held = {home.key_of(k) for k, c in zip(keys, changes, strict=True) if c.after}
        rows = read_present(connection, home, keys)
        for change, row in zip(changes, rows, strict=True):
            if change.after is None:
                if row is not None and home.key_of(row) not in held:
                    raise _not_done(change, "it is still there")
                continue
            if row is None:
                raise _not_done(change, "it is not there")
            for column in _others(change, row, home):
                if change.before and exact_json.same(change.before.get(column), row[column]):
                    raise _not_done(change, f"{quote_identifier(column)} is as it was")
                notes[f"a trigger set {quote_identifier(column)} of {table}"] = None
    return replace(undo, notes=(*undo.notes, *notes))


def _others(change: RowChange, row: Row, home: RevertTarget) -> list[str]:
    left_out = (*home.hidden, *home.ignored)
    return [
        column
        for column, value in (change.after or {}).items()
        if column in row and column not in left_out and not exact_json.same(row[column], value)
    ]


def _not_done(change: RowChange, what: str) -> AuditError:
    return AuditError(
        f"could not put back {change.table} {change.key}: {what} although the statement succeeded",
        hint="a trigger, a rule or row security of the table prevents it; nothing was changed",
    )


def _key_afterwards(home: RevertTarget, change: RowChange) -> Row:
    row = (change.before or {}) | (change.after or {})
    return {column: row.get(column) for column in home.table.key}


def _compare(
    connection: Connection, home: RevertTarget, own: Sequence[Reversal], schema: str, *, lock: bool
) -> Iterable[tuple[Choice, Conflict | None]]:
    rows = read_present(connection, home, [r.key_values for r in own], lock=lock)
    # Keys as the rows have them now: equal keys can be written in different ways (1.0 and 1.00).
    vacated = {
        home.key_of(there)
        for reversal, there in zip(own, rows, strict=True)
        if there and _vacates(home, reversal)
    }
    for reversal, there in zip(own, rows, strict=True):
        taken = there and reversal.left is None and home.key_of(there) in vacated
        present = None if taken else there
        if present is None and not taken and home.row_security:
            _require_seen(connection, home, reversal, schema)
        conflict = None
        nothing = reversal.wanted is not None and not reversal.wanted
        if home.table.key and not nothing:
            conflict = conflict_of(reversal, present, (*home.hidden, *home.ignored))
        as_left = not conflict and not (nothing and (present is None or reversal.torn))
        yield Choice(reversal=reversal, present=present, as_left=as_left), conflict


def _quiet(
    homes: dict[QualifiedName, RevertTarget], references: Sequence[Reference]
) -> set[QualifiedName]:
    """The tables without triggers and foreign keys, to which triggers of others may bring rows."""
    if not any(home.has_triggers for home in homes.values()):
        return set()
    bound = {table for reference in references for table in (reference.child, reference.parent)}
    return {table for table, home in homes.items() if not home.has_triggers} - bound


def _require_seen(
    connection: Connection, home: RevertTarget, reversal: Reversal, schema: str
) -> None:
    """Raise `PermissionDeniedError` where a row that is not seen may be there all the same."""
    if reversal.left is None and not is_known_there(
        connection, home.table.name, reversal.key, schema
    ):
        return
    raise PermissionDeniedError(
        f"{home.table.name} {reversal.key} is gone, or row security hides it from this role",
        hint="connect as a role that sees all rows: the owner, or one with BYPASSRLS",
    )


def _is_so(home: RevertTarget, choice: Choice) -> bool:
    """Whether the row is already as it would be put back: whoever made it so, nothing is lost."""
    wanted, present = choice.reversal.wanted, choice.present
    if wanted is None or present is None:
        return wanted is None and present is None
    return not different(wanted, present, home)


def _vacates(home: RevertTarget, reversal: Reversal) -> bool:
    """Whether the key that a row has now becomes free: for another row that had it before."""
    if reversal.left is None:
        return False
    return reversal.wanted is None or any(c in reversal.wanted for c in home.table.key)


def _changes(
    choices: Sequence[Choice], homes: dict[QualifiedName, RevertTarget]
) -> tuple[RowChange, ...]:
    found: list[RowChange] = []
    for choice in choices:
        reversal, home = choice.reversal, homes[choice.reversal.table]
        before, after = choice.present, reversal.wanted
        if before is None and (after is None or (reversal.left is not None and not after)):
            continue
        if before is None:
            row = reversal.key_values | (after or {})
            after = {column: row[column] for column in home.writable if column in row}
        elif after is not None:
            after = different(after, before, home)
            if not after:
                continue
            key = {c: before[c] for c in home.table.key}
            before = key | {column: before.get(column) for column in after}
        had = (key for event in reversal.life for key in (event.row_key, event.key_before))
        found.append(
            RowChange(
                table=reversal.table,
                key=reversal.key,
                before=before,
                after=after,
                keys=(reversal.key, *dict.fromkeys(had)),
            )
        )
    return tuple(found)


# -- statements ---------------------------------------------------------------------------------------


def _followed(batches: Sequence[Batch], references: Sequence[Reference]) -> list[Batch]:
    """The batches, without what foreign keys do by themselves when the parent's key changes."""
    moved: set[tuple[QualifiedName, tuple[str, ...], str | None]] = set()
    found: list[Batch] = []
    for batch in batches:
        acting = [r for r in references if r.acts_on_update]
        for operation in batch.operations:
            for reference in acting:
                if reference.child == operation.table and operation.kind is Kind.UPDATE:
                    _follow(operation, reference, moved)
            for reference in acting:
                if reference.parent == operation.table and operation.kind is Kind.UPDATE:
                    columns = reference.parent_columns
                    before, after = (
                        value_of(operation.now, columns),
                        value_of(operation.then, columns),
                    )
                    if before != after:
                        moved.add((reference.child, reference.columns, after))
        left = [o for o in batch.operations if o.kind is not Kind.UPDATE or o.set]
        if not batch.in_order:
            left.sort(key=_columns)  # stable sort: the order within the same columns is kept
        for _, operations in groupby(left, key=_columns):
            found.append(Batch(list(operations), in_order=batch.in_order))
    return found


def _columns(operation: Operation) -> tuple[str, ...]:
    alike = operation.together or operation.kind is Kind.DELETE
    return () if alike else tuple(operation.set)


def _follow(
    operation: Operation,
    reference: Reference,
    moved: set[tuple[QualifiedName, tuple[str, ...], str | None]],
) -> None:
    after = value_of(operation.then, reference.columns)
    if (reference.child, reference.columns, after) in moved:
        for column in reference.columns:
            if column in operation.set:
                value = operation.set.pop(column)
                if column in operation.key:
                    operation.key = operation.key | {column: value}


def _step(home: RevertTarget, batch: Batch, *, settling: bool) -> Step:
    match batch.kind:
        case Kind.DELETE:
            return _delete(home, [o.key for o in batch.operations], settling=settling)
        case Kind.INSERT:
            return _insert(home, [o.set for o in batch.operations], settling=settling)
    columns = tuple(dict.fromkeys(c for o in batch.operations for c in o.set))
    rows: list[Json] = [
        {"row": o.key, "set": {c: (o.now | o.set).get(c) for c in columns}}
        for o in batch.operations
    ]
    return _update(home, columns, rows, "as before", in_order=batch.in_order)


def _delete(home: RevertTarget, keys: Sequence[Row], *, settling: bool) -> Step:
    return Step(
        why=f"{counted(len(keys), 'row')} of {home.table.name} that did not exist",
        statements=(
            _one(
                "undo/delete",
                table=home.table.name,
                only=home.has_heirs,
                key=home.table.key,
                columns=_typed(home, home.table.key),
                rows=exact_json.dumps(list(keys)),
            ),
        ),
        lock="ROW EXCLUSIVE",
        rows=None if settling else len(keys),  # a trigger may have changed the row first
    )


def _insert(home: RevertTarget, rows: Sequence[Row], *, settling: bool) -> Step:
    settling = settling and bool(home.table.key)
    return Step(
        why=f"{counted(len(rows), 'row')} of {home.table.name} that were deleted",
        statements=(
            _one(
                "undo/insert",
                table=home.table.name,
                only=home.has_heirs,
                columns=_typed(home, rows[0]),
                never_null=home.never_null,
                rows=exact_json.dumps(list(rows)),
                unless_there=home.table.key if settling else (),
            ),
        ),
        lock="ROW EXCLUSIVE",
        rows=None if settling else len(rows),
    )


def _update(
    home: RevertTarget,
    columns: Sequence[str],
    rows: list[Json],
    why: str,
    *,
    settle: bool = False,
    in_order: bool = False,
) -> Step:
    values: dict[str, Any] = {
        "table": home.table.name,
        "only": home.has_heirs,
        "key_columns": _typed(home, home.table.key),
        "set_columns": _typed(home, columns),
        "never_null": home.never_null,
        "rows": exact_json.dumps(rows),
    }
    statement = (
        _one("undo/update_in_order", **values)
        if in_order
        else _one("undo/update", settle=settle, **values)
    )
    names = ", ".join(quote_identifier(column) for column in columns)
    return Step(
        why=f"{names} of {counted(len(rows), 'row')} of {home.table.name}, {why}",
        statements=(statement,),
        lock="ROW EXCLUSIVE",
        rows=None if settle or in_order else len(rows),
    )


def _needs_settling(
    homes: dict[QualifiedName, RevertTarget], references: Sequence[Reference]
) -> bool:
    """Whether somebody else may change the rows as we do: triggers, or foreign keys that follow a key."""
    follow = any(r.acts_on_update and {r.parent, r.child} <= homes.keys() for r in references)
    return follow or any(home.has_triggers for home in homes.values())


def _settled(
    changes: Sequence[RowChange], homes: dict[QualifiedName, RevertTarget], batches: Sequence[Batch]
) -> list[Step]:
    """The steps that bring rows to what they are to become where a trigger has had its way since."""
    gone: dict[QualifiedName, list[Row]] = defaultdict(list)
    come: dict[tuple[QualifiedName, tuple[str, ...]], list[Row]] = defaultdict(list)
    others: dict[tuple[QualifiedName, tuple[str, ...]], list[Json]] = defaultdict(list)
    held = {
        (change.table, homes[change.table].key_of(_key_afterwards(homes[change.table], change)))
        for change in changes
        if change.after is not None
    }
    for change in changes:
        home = homes[change.table]
        if not home.table.key:
            continue
        key = _key_afterwards(home, change)
        if change.after is None:
            if (change.table, home.key_of(key)) not in held:
                gone[change.table].append(key)
            continue
        if change.before is None:
            come[change.table, tuple(change.after)].append(change.after)
        row = {
            c: v
            for c, v in change.after.items()
            if c not in (*home.always, *home.touch, *home.table.key)
        }
        if row:
            others[change.table, tuple(row)].append({"row": key, "set": row})
    place = {batch.table: number for number, batch in enumerate(batches)}
    return [
        *(_delete(homes[t], gone[t], settling=True) for t in sorted(gone, key=lambda t: place[t])),
        *(
            _insert(homes[table], rows, settling=True)
            for (table, _), rows in sorted(come.items(), key=lambda item: place[item[0][0]])
        ),
        *(
            _update(homes[table], columns, rows, "if a trigger has set it since", settle=True)
            for (table, columns), rows in others.items()
        ),
    ]


def _typed(home: RevertTarget, columns: Iterable[str]) -> tuple[tuple[str, Sql], ...]:
    return tuple((column, Sql(home.types[column])) for column in columns)


def _one(template: str, **values: Any) -> str:
    return render(template, **values).strip()
