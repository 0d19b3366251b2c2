"""What has to be done to rows so that events are as if they had not been: pure, no connection.

A row's events are taken together: what they led from, and what they led to. Only columns that they
changed are put back, so that what others did to the row beside them stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from audit_toolkit import exact_json
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName
from audit_toolkit.trail.event import Action, Event, Row, redaction_of
from audit_toolkit.trail.history.events import table_of
from audit_toolkit.trail.history.ordering import lives


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """One row: how its events left it, and how it was before them. Of an update, what it changed."""

    table: QualifiedName
    key: str | None
    """The key that the events left it under."""
    key_values: Row
    """The columns by which it is found now; all of the row that it was, where it is gone."""
    left: Row | None
    """None: the events deleted it."""
    wanted: Row | None
    """None: the events inserted it."""
    torn: tuple[str, ...] = ()
    """The columns that somebody else changed between the events."""
    life: tuple[Event, ...] = ()
    """The events themselves, in their order."""

    @property
    def is_passing(self) -> bool:
        """Whether the row came and went: nothing to put back, but others may have referred to it meanwhile."""
        return self.left is None and self.wanted is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A row that is not as the events left it."""

    table: QualifiedName
    key: str | None
    left: Row | None
    """What the events left, of the columns in question."""
    present: Row | None
    """What is there now."""
    wanted: Row | None
    """What would be put back."""
    columns: tuple[str, ...] = ()
    """The columns that differ; none where a row is gone or there."""
    since: tuple[Event, ...] = ()
    """The events of others that made it so, newest last."""

    def as_dict(self) -> dict[str, Json]:
        """The conflict as JSON values."""
        return {
            "table": [self.table.schema, self.table.name],
            "row_key": self.key,
            "left": self.left,
            "present": self.present,
            "wanted": self.wanted,
            "columns": list(self.columns),
            "since": [told(event) for event in self.since],
        }


def told(event: Event) -> Json:
    """Who made an event, and when, as JSON values."""
    return {
        "event_id": event.event_id,
        "actor": event.actor,
        "action_tstamp": event.action_tstamp.isoformat(timespec="microseconds"),
    }


def reverse(
    events: Iterable[Event], same_keys: Mapping[QualifiedName, Mapping[str, str]] | None = None
) -> list[Reversal]:
    """How each row that the events (by rising id, of any table) are about is put back.

    A row that ended as it had been has nothing `wanted`, though something was done to it; one that came and
    went `is_passing`. `same_keys` says of each table which keys are equal without being the same text.
    """
    alike = same_keys or {}
    by_table: dict[QualifiedName, list[Event]] = {}
    for event in events:
        if event.action in (Action.INSERT, Action.UPDATE, Action.DELETE):
            by_table.setdefault(table_of(event), []).append(event)
    return [
        _reverse_row(table, life)
        for table, own in by_table.items()
        for life in _lives(own, alike.get(table, {}))
    ]


def conflict_of(reversal: Reversal, present: Row | None, hidden: Sequence[str]) -> Conflict | None:
    """Where the row is not as the events left it; `hidden` columns cannot be compared, nor what was redacted.

    `present` is the row that has its key now.
    """
    left = _without(reversal.left, hidden)
    torn = tuple(column for column in reversal.torn if column not in hidden)
    if left is None or present is None:
        now, columns = present, torn
        same = left is None and now is None
    else:
        now = {column: present[column] for column in left if column in present}
        columns = tuple(
            column
            for column in now
            if column in torn
            or (
                redaction_of(left[column]) is None
                and not exact_json.same(left[column], now[column])
            )
        )
        same = not columns
    if same and not torn:
        return None
    return Conflict(
        table=reversal.table,
        key=reversal.key,
        left=left,
        present=now,
        wanted=_without(reversal.wanted, hidden),
        columns=columns or torn,
    )


def _lives(events: Sequence[Event], same_keys: Mapping[str, str]) -> list[list[Event]]:
    keyed = [event for event in events if event.row_key is not None]
    named = [_with_first_key(event, same_keys) for event in keyed] if same_keys else keyed
    given = {id(one): event for one, event in zip(named, keyed, strict=True)}
    found = [[given[id(one)] for one in life] for life in lives(named)]
    return found + [[event] for event in events if event.row_key is None]


def _with_first_key(event: Event, same_keys: Mapping[str, str]) -> Event:
    before, after = (same_keys.get(k or "", k) for k in (event.key_before, event.row_key))
    return replace(event, row_key=after, old_row_key=None if before == after else before)


def _reverse_row(table: QualifiedName, life: Sequence[Event]) -> Reversal:
    first, last = life[0], life[-1]
    before = None if first.action is Action.INSERT else first.old_row or {}
    after = last.row_after
    if before is None or after is None:
        found = last.old_row if before is after else before if after is None else after
        return Reversal(
            table=table,
            key=last.row_key,
            key_values=found or {},
            left=after,
            wanted=before,
            life=tuple(life),
        )
    wanted, left, torn = _changes(life)
    return Reversal(
        table=table,
        key=last.row_key,
        key_values=after,
        left=left,
        wanted=wanted,
        torn=torn,
        life=tuple(life),
    )


def _changes(life: Sequence[Event]) -> tuple[Row, Row, tuple[str, ...]]:
    """The columns that ended as others than they were: their first values, their last, torn."""
    first: Row = {}
    last: Row = {}
    torn: dict[str, None] = {}
    for before, after in _steps(life):
        for column in after:
            if column in before and exact_json.same(before[column], after[column]):
                continue
            value = before.get(column)
            if column in last and not exact_json.same(last[column], value):
                torn[column] = None
            first.setdefault(column, value)
            last[column] = after[column]
    kept = [c for c in first if not exact_json.same(first[c], last[c])]
    return {c: first[c] for c in kept}, {c: last[c] for c in kept}, tuple(torn)


def _steps(life: Sequence[Event]) -> list[tuple[Row, Row]]:
    """From which image to which; a row that was deleted and inserted again made one step."""
    steps: list[tuple[Row, Row]] = []
    gone: Row | None = None
    for event in life:
        if event.action is Action.DELETE:
            gone = event.old_row or {}
        else:
            before = (gone or {}) if event.action is Action.INSERT else event.old_row or {}
            steps.append((before, event.row_after or {}))
            gone = None
    return steps


def _without(row: Row | None, columns: Sequence[str]) -> Row | None:
    return None if row is None else {c: v for c, v in row.items() if c not in columns}
