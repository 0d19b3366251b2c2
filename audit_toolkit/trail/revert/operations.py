"""What is done to each row, from how its events left it to how it was: pure, no connection.

Where the order of changes decides whether each is allowed, every event of a row is taken back by
itself; elsewhere a row's events are taken back at once.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from audit_toolkit import exact_json
from audit_toolkit.errors import UsageError
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName, quote_identifier
from audit_toolkit.trail.event import Action, Event, Row, redaction_of
from audit_toolkit.trail.revert.ordering import Kind, Operation, Reference
from audit_toolkit.trail.revert.reversal import Reversal
from audit_toolkit.trail.revert.targets import RevertTarget

_OVERSIZE = "audit:oversize"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A row that is to be put back."""

    reversal: Reversal
    present: Row | None
    as_left: bool
    """Whether the row is as its events left it."""


def operations_of(
    choices: Sequence[Choice],
    homes: dict[QualifiedName, RevertTarget],
    references: Sequence[Reference],
) -> list[Operation]:
    """All that has to be done, newest event first.

    Raises `UsageError` where a value is needed that the trail does not have.
    """
    parents = {reference.parent for reference in references}
    following = _following(choices, references)
    found: list[Operation] = []
    for number, choice in enumerate(choices):
        table = choice.reversal.table
        row = _Row(
            homes[table],
            choice,
            number,
            referred=table in parents,
            following=following.get(table, frozenset()),
        )
        found += row.operations()
    return found


def _following(
    choices: Sequence[Choice], references: Sequence[Reference]
) -> dict[QualifiedName, frozenset[str]]:
    """By table, the columns that had to refer to another parent while theirs got another key."""
    changed: dict[QualifiedName, set[str]] = defaultdict(set)
    for choice in choices:
        for event in choice.reversal.life:
            if event.action is Action.UPDATE:
                changed[choice.reversal.table].update(event.changed)
    found: dict[QualifiedName, frozenset[str]] = {}
    for reference in references:
        is_free = reference.deferrable or reference.acts_on_update or reference.nullable
        if not is_free and changed[reference.parent].intersection(reference.parent_columns):
            columns = found.get(reference.child, frozenset())
            found[reference.child] = columns.union(reference.columns)
    return found


def different(wanted: Row, present: Row, home: RevertTarget) -> Row:
    """What of a row has to be written for it to be as wanted."""
    return {
        column: value
        for column, value in wanted.items()
        if column in home.writable
        and column not in home.touch
        and not exact_json.same(present.get(column), value)
    }


@dataclass(slots=True)
class _Row:
    home: RevertTarget
    choice: Choice
    number: int
    referred: bool
    """Whether another table refers to its table."""
    following: Collection[str]
    """Columns whose values in between are needed, too."""

    def operations(self) -> list[Operation]:
        if self._is_event_by_event():
            return list(self._event_by_event())
        return self._at_once(self.choice.reversal)

    def _is_event_by_event(self) -> bool:
        life = self.choice.reversal.life
        if self.choice.reversal.is_passing:
            return True
        if len(life) < 2 or not self.choice.as_left or self.home.key_deferrable:
            return False
        moved = any(event.old_row_key is not None for event in life)
        if not (moved or any(self._is_ordered(event) for event in life)):
            return False
        comes_back = any(event.action is Action.DELETE for event in life[:-1])
        return not (comes_back and (self.referred or self.home.hidden or self.home.excluded))

    def _is_ordered(self, event: Event) -> bool:
        if event.action is not Action.UPDATE:
            return bool(self.home.ordered)
        return any(c in self.home.ordered or c in self.following for c in event.changed)

    def _event_by_event(self) -> Iterator[Operation]:
        place: int | None = None
        for event in reversed(self.choice.reversal.life):
            place = -event.event_id if place is None else max(place + 1, -event.event_id)
            match event.action:
                case Action.INSERT:
                    yield self._delete(event.new_row or {}, place)
                case Action.DELETE:
                    yield self._insert(event.old_row or {}, place)
                case Action.UPDATE:
                    before = {c: old for c, (old, _) in event.changed.items()}
                    yield from self._update(before, event.row_after or {}, place)

    def _at_once(self, reversal: Reversal) -> list[Operation]:
        life, present = reversal.life, self.choice.present
        oldest = -life[0].event_id if life else 0
        newest = -life[-1].event_id if life else 0
        keyless = not self.home.table.key
        if reversal.wanted is None:
            if keyless:
                raise self._no_key()
            return [] if present is None else [self._delete(present, oldest)]
        if present is None:
            if reversal.left is not None and keyless:
                raise self._no_key()
            if reversal.left is not None and not reversal.wanted:
                return []
            return [self._insert(reversal.key_values | reversal.wanted, newest)]
        return list(self._update(reversal.wanted, present, oldest))

    def _no_key(self) -> UsageError:
        name = self.home.table.name
        return UsageError(
            f"{name} has no primary key: its rows cannot be told apart",
            hint=f"--except {name} leaves it out; rows of it that were deleted can be inserted again",
        )

    def _delete(self, row: Row, place: int) -> Operation:
        return Operation(
            table=self.home.table.name,
            kind=Kind.DELETE,
            life=self.number,
            place=place,
            key=self._key_of(row),
            now=row,
            then={},
            ordered=bool(self.home.ordered),
        )

    def _insert(self, row: Row, place: int) -> Operation:
        home = self.home
        # A touch column that is NOT NULL gets its former value, if that is known.
        row = {
            c: v
            for c, v in row.items()
            if c not in home.touch or (home.table.column(c) and redaction_of(v) is None)
        }
        self._require_columns(row)
        self._require_known(row, missing=home.excluded)
        return Operation(
            table=home.table.name,
            kind=Kind.INSERT,
            life=self.number,
            place=place,
            key=self._key_of(row),
            now={},
            then=row,
            set={column: row[column] for column in home.writable if column in row},
            ordered=bool(home.ordered),
        )

    def _update(self, wanted: Row, now: Row, place: int) -> Iterator[Operation]:
        home = self.home
        self._require_columns({c: v for c, v in wanted.items() if c not in home.touch})
        values = different(wanted, now, home)
        if not values:
            return
        self._require_known(values)
        if any(column in home.always for column in values):
            yield from self._replace(values, now, place)
            return
        moves = any(column in home.table.key for column in values)
        together = moves and home.key_deferrable
        yield Operation(
            table=home.table.name,
            kind=Kind.UPDATE,
            life=self.number,
            place=place,
            key=self._key_of(now),
            now=now,
            then=now | values,
            set=values,
            ordered=not together and (moves or any(column in home.ordered for column in values)),
            together=together,
        )

    def _replace(self, values: Row, now: Row, place: int) -> Iterator[Operation]:
        """No UPDATE can set the column: the row goes and comes again, if nothing refers to it."""
        names = ", ".join(quote_identifier(c) for c in values if c in self.home.always)
        if self.referred or not self.choice.present:
            raise UsageError(
                f"cannot put back {self._row}: {names} "
                "is GENERATED ALWAYS AS IDENTITY, and other rows may refer to the row",
                hint=f"alter table {self.home.table.name} alter column {names} "
                "set generated by default; take it back; set generated always",
            )
        yield self._delete(now, place)
        yield self._insert(now | values, place)

    def _key_of(self, row: Row) -> Row:
        return {column: row.get(column) for column in self.home.table.key}

    @property
    def _row(self) -> str:
        """The row, for messages; of a table without a key there is only the table."""
        key = self.choice.reversal.key
        return (
            f"{self.home.table.name} {key}"
            if key is not None
            else f"a row of {self.home.table.name}"
        )

    def _require_columns(self, row: Row) -> None:
        """Refuse to lose values of columns that the table no longer has."""
        lost = [c for c, v in row.items() if not self.home.table.column(c) and v is not None]
        if lost:
            names = ", ".join(quote_identifier(column) for column in lost)
            raise UsageError(
                f"cannot put back all of {self._row}: the table no longer has a column {names}",
                hint=f"--ignore {shlex.quote(lost[0])} puts back the rest; audit show EVENT has the value",
            )

    def _require_known(self, row: Row, *, missing: Collection[str] = ()) -> None:
        """Refuse to write what stands in the trail for a value that is not there."""
        home = self.home
        for column, value in row.items():
            if (redaction := redaction_of(value)) is not None:
                raise UsageError(
                    f"cannot put back {self._row}: "
                    f"{quote_identifier(column)} was redacted (event {redaction})",
                    hint=f"--ignore {shlex.quote(column)} puts back the rest; audit show {redaction} says who "
                    "redacted it, and why",
                )
        stand_ins = [c for c in row if home.types.get(c) != "jsonb" and is_stand_in(row[c])]
        unknown = list(dict.fromkeys((*(c for c in row if c in home.hidden), *stand_ins, *missing)))
        if unknown:
            raise UsageError(
                (f"cannot put back {self._row}: the trail has no values of ")
                + ", ".join(quote_identifier(column) for column in unknown),
                hint="they were masked, excluded or too large when they were captured; "
                "audit show EVENT has what is known",
            )


def is_stand_in(value: Json) -> bool:
    """Whether it is what capture records of a value that JSON cannot hold, and not the user's own."""
    if not isinstance(value, dict) or set(value) != {_OVERSIZE}:
        return False
    facts = value[_OVERSIZE]
    return (
        isinstance(facts, dict)
        and set(facts) == {"bytes", "sha256"}
        and isinstance(facts["bytes"], int)
        and bool(_SHA256.fullmatch(str(facts["sha256"])))
    )
