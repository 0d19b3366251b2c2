"""What has left the trail for an archive, and what is in it, as one stream by rising ids, without a seam.

Partitions go by time and ids by capture: near the bound of two partitions ids of both are mixed, so that an archived
event may belong between two that are still there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from audit_toolkit import exact_json
from audit_toolkit.trail import Batch, Event, Filter
from audit_toolkit.trail.event import BIGGEST, table_of
from audit_toolkit.trail.history.follow import MOST_BYTES
from audit_toolkit.trail.history.ordering import WINDOW

if TYPE_CHECKING:
    from audit_toolkit.trail.rows.lookup import Tables


class Past(Protocol):
    """Events that have left the trail."""

    @property
    def last(self) -> int:
        """The highest id among them."""
        ...

    def read(self, after: int) -> Iterator[Event]:
        """Those behind an event, by rising id."""
        ...


def with_past(
    batches: Generator[Batch, None, None], past: Iterable[Event], fits: Callable[[Event], bool]
) -> Generator[Batch, None, None]:
    """The batches of a tail with the events of the past where they belong; each event once.

    No lower id than the last of the past may come into the trail any more.
    """
    old = _Old(past, fits)
    with closing(batches):
        for batch in batches:
            if batch.held_by or not old.is_left:
                yield batch
            elif batch.events:
                yield from _merged(batch, old, batch.position.event_id)
            else:
                yield from _merged(batch, old, BIGGEST)
                yield batch


class _Old:
    """The events of the past, as far as they are not taken yet."""

    def __init__(self, past: Iterable[Event], fits: Callable[[Event], bool]) -> None:
        self._events = iter(past)
        self._fits = fits
        self._next = next(self._events, None)

    @property
    def is_left(self) -> bool:
        """Whether there are more."""
        return self._next is not None

    @property
    def next_id(self) -> int:
        """The id of the next one."""
        return BIGGEST if self._next is None else self._next.event_id

    def take(self, until: int, there: frozenset[int]) -> Iterator[Event]:
        """Those up to an id, each once, without those that are in the trail again."""
        while self._next is not None and self._next.event_id <= until:
            event, self._next = self._next, next(self._events, None)
            is_new = self._next is None or self._next.event_id != event.event_id
            if is_new and event.event_id not in there and self._fits(event):
                yield event


def _merged(batch: Batch, old: _Old, until: int) -> Iterator[Batch]:
    """A batch and the past up to an id, in parts; a part ends only where all lower ids are in it or before it."""
    ids = [event.event_id for event in batch.events]
    there = frozenset(ids)
    # Within a transaction events may have changed places: nothing goes between those.
    ahead = list(accumulate(reversed(ids), min))[::-1]
    part: list[Event] = []
    reached = size = 0

    def add(event: Event) -> None:
        nonlocal reached, size
        part.append(event)
        reached = max(reached, event.event_id)
        size += event.size

    def cut() -> Iterator[Batch]:
        nonlocal size
        if (len(part) >= WINDOW or size > MOST_BYTES) and old.next_id > reached:
            yield Batch(events=tuple(part), position=replace(batch.position, event_id=reached))
            part.clear()
            size = 0

    for event, lowest in zip(batch.events, ahead, strict=True):
        if reached < lowest:
            for one in old.take(lowest - 1, there):
                add(one)
                yield from cut()
            yield from cut()
        add(event)
    for one in old.take(until, there):
        add(one)
        yield from cut()
    if part:
        end = reached if until == BIGGEST else until
        yield Batch(events=tuple(part), position=replace(batch.position, event_id=end))


def fits(event: Event, wanted: Filter, scope: Tables) -> bool:
    """Whether a consumer is for this event; the trail's own filter, for events that are not in it."""
    return (
        (wanted.since is None or event.action_tstamp >= wanted.since)
        and (not wanted.actions or event.action in wanted.actions)
        and (wanted.actor is None or event.actor == wanted.actor)
        and all(_claims(event, key) == value for key, value in wanted.context)
        and (wanted.changed is None or wanted.changed in event.changed)
        and (not scope.names or _is_of(event, scope))
    )


def _is_of(event: Event, scope: Tables) -> bool:
    return any(name.has(table_of(event), event.event_id) for name in scope.named)


def _claims(event: Event, key: str) -> str | None:
    said = event.context.get(key) if isinstance(event.context, dict) else None
    return said if said is None or isinstance(said, str) else exact_json.dumps(said)
