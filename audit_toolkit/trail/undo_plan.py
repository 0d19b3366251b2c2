"""From reversals to a plan: read the rows as they are, find conflicts, order the statements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from audit_toolkit.errors import UsageError
from audit_toolkit.names import QualifiedName, quote_identifier
from audit_toolkit.plan import Plan, Step
from audit_toolkit.templates import render_statements
from audit_toolkit.trail import exact
from audit_toolkit.trail.exact import Json
from audit_toolkit.trail.model import Row
from audit_toolkit.trail.order import Reference, parents_first
from audit_toolkit.trail.present import Home, read_homes, read_present, read_references
from audit_toolkit.trail.undo import Conflict, Reversal, conflict_of

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_AS_BEFORE = "as before"


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
    claims: dict[str, Json]
    """What the context of its transaction says about it."""

    def as_dict(self) -> dict[str, Json]:
        """The undo as JSON values."""
        return {
            "rows": self.rows,
            "conflicts": [conflict.as_dict() for conflict in self.conflicts],
            "plan": self.plan.as_dict(),
        }


def plan_reversals(
    connection: Connection,
    reversals: Sequence[Reversal],
    on_conflict: OnConflict,
    claims: dict[str, Json],
    schema: str,
    *,
    lock: bool,
) -> Undo:
    """The plan for these rows as they are now; with `lock`, no other can change them until commit."""
    homes = read_homes(connection, dict.fromkeys(r.table for r in reversals), schema)
    conflicts: list[Conflict] = []
    chosen: list[tuple[Reversal, Row | None]] = []
    for table, home in homes.items():
        own = [reversal for reversal in reversals if reversal.table == table]
        rows = read_present(connection, home.table, [r.key_values for r in own], lock=lock)
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
    steps = _steps(chosen, homes, read_references(connection))
    if steps:
        statements = render_statements("undo/context", claims=exact.dumps(claims))
        steps = [Step(why="What is put back, for the trail", statements=tuple(statements)), *steps]
    return Undo(
        plan=Plan(steps=tuple(steps)),
        conflicts=tuple(conflicts),
        rows=sum(r.wanted is None or bool(r.wanted) for r, _ in chosen) if steps else 0,
        claims=claims,
    )


def _vacates(home: Home, reversal: Reversal) -> bool:
    """Whether the key that a row has now becomes free: for another row that had it before."""
    if reversal.left is None:
        return False
    return reversal.wanted is None or any(c in reversal.wanted for c in home.table.key)


def _key(home: Home, reversal: Reversal) -> str:
    return exact.dumps([reversal.key_values.get(column) for column in home.table.key])


def _key_of(home: Home, reversal: Reversal) -> Row:
    return {column: reversal.key_values[column] for column in home.table.key}


def _computed(home: Home) -> tuple[str, ...]:
    return tuple(c.name for c in home.table.columns if c.generated)


def _steps(
    chosen: Sequence[tuple[Reversal, Row | None]],
    homes: dict[QualifiedName, Home],
    references: Sequence[Reference],
) -> list[Step]:
    """Deletes with children first, inserts with parents first, then updates.

    Rows of a table that updated rows may still refer to are deleted last. Rows that get another key
    do so before an insert takes their present one. Where tables refer to each other in a circle, rows
    come without what is not there yet, and go without what refers to them.
    """
    inserts, moves, updates = list[Step](), list[Step](), list[Step]()
    loose, early, late = list[Step](), list[Step](), list[Step]()
    changing = {r.table for r, present in chosen if r.wanted and present is not None}
    order = parents_first(homes, references)
    for name in order.tables:
        home, own = homes[name], [(r, present) for r, present in chosen if r.table == name]
        to_set = tuple(c for c in order.open.get(name, ()) if c in home.writable)
        returning = [r for r, present in own if r.wanted and present is None]
        inserts += _inserts(home, returning, to_set)
        updates += _completions(home, returning, to_set)
        back = {_key(home, r) for r in returning}
        own_moves, own_updates = _updates(home, [(r, now) for r, now in own if r.wanted and now])
        moves += own_moves
        updates += own_updates
        gone = [r for r, present in own if r.wanted is None and present is not None]
        in_the_way = own_moves or any(_key(home, r) in back for r in gone)
        is_late = not in_the_way and any(
            r.parent == name and r.child in changing for r in references
        )
        loose += _loosened(home, gone, to_set)
        (late if is_late else early)[:0] = [_delete(home, gone)] if gone else []
    return [*loose, *early, *moves, *inserts, *updates, *late]


def _inserts(home: Home, reversals: Sequence[Reversal], to_set: Sequence[str]) -> list[Step]:
    by_columns: dict[tuple[str, ...], list[Row]] = {}
    for reversal in reversals:
        row = reversal.key_values | (reversal.wanted or {})
        _require_known(home, reversal, row, missing=home.excluded)
        columns = tuple(column for column in home.writable if column in row)
        values = {c: None if c in to_set else row[c] for c in columns}
        by_columns.setdefault(columns, []).append(values)
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


def _completions(home: Home, reversals: Sequence[Reversal], to_set: Sequence[str]) -> list[Step]:
    """The step that sets what rows were inserted without, once that is there which it refers to."""
    rows = [
        {"row": _key_of(home, r), "set": {c: (r.wanted or {}).get(c) for c in to_set}}
        for r in reversals
        if any((r.wanted or {}).get(c) is not None for c in to_set)
    ]
    return [_update(home, to_set, rows, "which had to wait")] if rows else []


def _loosened(home: Home, reversals: Sequence[Reversal], to_set: Sequence[str]) -> list[Step]:
    """The step after which rows that go do not refer to what goes before them."""
    rows = [
        {"row": _key_of(home, r), "set": dict.fromkeys(to_set)}
        for r in reversals
        if any(r.key_values.get(c) is not None for c in to_set)
    ]
    return [_update(home, to_set, rows, "which is in the way")] if rows else []


def _updates(
    home: Home, reversals: Sequence[tuple[Reversal, Row]]
) -> tuple[list[Step], list[Step]]:
    """The steps for rows that get another key, which come first, and for those that keep theirs."""
    by_columns: dict[tuple[str, ...], list[Json]] = {}
    moved: list[tuple[Row, Row, Row]] = []
    for reversal, present in reversals:
        wanted = different(reversal.wanted or {}, present, home)
        _require_known(home, reversal, wanted)
        key = _key_of(home, reversal)
        if any(column in wanted for column in key):
            moved.append((key, wanted, present))
        elif wanted:
            by_columns.setdefault(tuple(wanted), []).append({"row": key, "set": wanted})
    union = tuple(dict.fromkeys(column for _, wanted, _ in moved for column in wanted))
    together: list[Json] = [
        {"row": key, "set": {c: (present | wanted).get(c) for c in union}}
        for key, wanted, present in moved
    ]
    moves = [_update(home, union, together, _AS_BEFORE)] if together else []
    return moves, [_update(home, cs, rows, _AS_BEFORE) for cs, rows in by_columns.items()]


def _update(home: Home, columns: Sequence[str], rows: list[Json], why: str) -> Step:
    statement = _one(
        "undo/update",
        table=home.table.name,
        key=home.table.key,
        columns=columns,
        rows=exact.dumps(rows),
    )
    names = ", ".join(quote_identifier(column) for column in columns)
    return Step(
        why=f"{names} of {_rows(len(rows))} of {home.table.name}, {why}",
        statements=(statement,),
        lock="ROW EXCLUSIVE",
    )


def different(wanted: Row, present: Row, home: Home) -> Row:
    """What of a row has to be written for it to be as wanted."""
    return {
        column: value
        for column, value in wanted.items()
        if column in home.writable and not exact.same(present.get(column), value)
    }


def _delete(home: Home, reversals: Sequence[Reversal]) -> Step:
    keys = [_key_of(home, r) for r in reversals]
    statement = _one(
        "undo/delete", table=home.table.name, key=home.table.key, keys=exact.dumps(keys)
    )
    return Step(
        why=f"{_rows(len(keys))} of {home.table.name} that had not been there",
        statements=(statement,),
        lock="ROW EXCLUSIVE",
    )


def _require_known(
    home: Home, reversal: Reversal, row: Row, *, missing: Sequence[str] = ()
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
    """Whether the trail has size and hash alone; a user's value that merely holds the word is a value."""
    match value:
        case {"audit:oversize": {"sha256": str(digest), "bytes": _, **more}, **others}:
            return not more and not others and re.fullmatch(r"[0-9a-f]{64}", digest) is not None
    return False


def _one(template: str, **values: Any) -> str:
    [statement] = render_statements(template, **values)
    return statement


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"
