"""Continuity: each event of a row begins where the one before it ended.

Ids rise with capture. Within a transaction that changes a row several times they may be out of order (an AFTER
trigger of the application changes a row before its first change is captured), so what counts there is the
balance: each image that a change took away was brought by another one, but for the first, which was there
before, and the last, which remains. Transactions follow each other, as they wait for the lock on the row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from audit_toolkit import exact_json
from audit_toolkit.trail.event import Row, redaction_of

Tolerate = Callable[[int], frozenset[str]]
"""The columns that DDL may have changed since an event, by its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one event says of one key: the image that it found there, and the one that it left."""

    event_id: int
    transaction: str
    action: str
    takes: Row | None
    brings: Row | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """An event that took all rows of the table."""

    event_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """An event that does not begin where the one before it ended."""

    event_id: int
    previous: int | None
    """The event before it; None where the trail has none of that key."""
    columns: tuple[str, ...]
    """The columns whose values differ; none where one of the two says that there was no row."""
    found: Row | None
    left: Row | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far back the trail knows the rows of a table."""

    whole_after: int | None
    """From this event on it has an event of every row; None where that is not known."""
    gaps: tuple[int, ...] = ()
    """The events that say that capture was off."""
    attached: tuple[int, ...] = ()
    """The events that say that a partition came, perhaps with rows."""
    detached: tuple[int, ...] = ()
    """The events that say that a partition went, and may have changed before it came back."""

    def is_sure(self, event_id: int, previous: int) -> bool:
        """Whether nothing can have happened unseen between an event and the one before it (0 for none)."""
        since = previous
        if self.whole_after is not None and event_id > self.whole_after:
            since = max(previous, self.whole_after)
        elif not previous:
            return False
        unseen = (*self.gaps, *(self.detached if previous else self.attached))
        return not any(since < mark <= event_id for mark in unseen)


def find_breaks(
    history: Iterable[Step | Emptied], reach: Reach, tolerate: Tolerate
) -> Iterator[Break]:
    """The breaks in the history of one key, whose events come in the order of their ids."""
    held: Row | None = None
    previous = 0
    for one, group in groupby(
        history, key=lambda s: s.transaction if isinstance(s, Step) else None
    ):
        if one is None:
            held, previous = None, max(step.event_id for step in group)
            continue
        steps = [step for step in group if isinstance(step, Step)]
        start = _start(steps, held, tolerate(previous))
        if (broken := _first_broken(steps, start, tolerate)) is not None:
            first = broken.event_id == steps[0].event_id
            before = previous if first else _before(steps, broken)
            if not first or reach.is_sure(broken.event_id, previous):
                left = held if first else _left_before(steps, broken)
                yield Break(
                    event_id=broken.event_id,
                    previous=before or None,
                    columns=different(broken.takes, left, tolerate(before)),
                    found=broken.takes,
                    left=left,
                )
        held, previous = _end(steps, start, tolerate), steps[-1].event_id


def different(one: Row | None, other: Row | None, tolerated: frozenset[str]) -> tuple[str, ...]:
    """The columns of both images whose values differ, to the last zero; of what was redacted nobody can tell."""
    if one is None or other is None:
        return ()
    return tuple(
        column
        for column in one
        if column in other
        and column not in tolerated
        and not exact_json.same(one[column], other[column])
        and redaction_of(one[column]) is None
        and redaction_of(other[column]) is None
    )


def _start(steps: Sequence[Step], held: Row | None, tolerated: frozenset[str]) -> Row | None:
    """What was there before a transaction, as its own events write it: with the columns of that time."""
    if held is None:
        return None
    for step in steps:
        if step.takes is not None and not different(step.takes, held, tolerated):
            return step.takes
    return held


def _first_broken(steps: Sequence[Step], start: Row | None, tolerate: Tolerate) -> Step | None:
    """The first step that cannot follow, in whatever order the changes happened."""
    in_order = _first_out_of_order(steps, start, tolerate)
    if in_order is None or len(steps) == 1 or any(step.action == "S" for step in steps):
        return in_order
    return None if list(_balance(steps, start).values()) in ([], [1]) else in_order


def _first_out_of_order(
    steps: Sequence[Step], start: Row | None, tolerate: Tolerate
) -> Step | None:
    there, tolerated = start, frozenset[str]()
    for step in steps:
        if step.action != "S" and not _follows(step.takes, there, tolerated):
            return step
        there, tolerated = step.brings, tolerate(step.event_id)
    return None


def _follows(takes: Row | None, there: Row | None, tolerated: frozenset[str]) -> bool:
    if takes is None or there is None:
        return takes is there
    return not different(takes, there, tolerated)


def _balance(steps: Sequence[Step], start: Row | None) -> Counter[str]:
    """How often each image was brought and not taken; what is left is how the row ended."""
    balance = Counter([_text(start)] if start is not None else [])
    for step in steps:
        balance.update([_text(step.brings)] if step.brings is not None else [])
        balance.subtract([_text(step.takes)] if step.takes is not None else [])
    return Counter({image: count for image, count in balance.items() if count})


def _end(steps: Sequence[Step], start: Row | None, tolerate: Tolerate) -> Row | None:
    """What a transaction left."""
    if _first_out_of_order(steps, start, tolerate) is None:
        return steps[-1].brings
    images = {_text(row): row for row in (start, *(step.brings for step in steps))}
    match list(_balance(steps, start).items()):
        case []:
            return None
        case [(text, 1)]:
            return images[text]
        case _:
            return steps[-1].brings


def _before(steps: Sequence[Step], broken: Step) -> int:
    return max(step.event_id for step in steps if step.event_id < broken.event_id)


def _left_before(steps: Sequence[Step], broken: Step) -> Row | None:
    return next(s.brings for s in reversed(steps) if s.event_id < broken.event_id)


def _text(row: Row | None) -> str:
    return exact_json.dumps(row and dict(sorted(row.items())))
