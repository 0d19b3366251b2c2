"""Which event of a row follows which: by id, but inside a transaction by how the rows looked.

Ids rise with capture, and a row cannot be changed by two transactions at once. Within one, though,
what an AFTER trigger changes can be captured before what fired it: where a statement changes
several rows and the trigger one of them again, 9 → 50 gets a lower id than 1 → 9. There the image
after one event has to be the image before the next, and that decides. Where images do not chain at
all (`--when` left a change out, capture was paused), the order is that of ids.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from audit_toolkit import exact_json
from audit_toolkit.trail.event import Action, Event, Row

State = tuple[str | None, str | None]
"""A key and how its row looked, None where there was no such row."""
Step = tuple[State, State]
"""From where to where an event led."""
Around = Callable[[Sequence[str], Event, Event], Iterable[Event]]
"""Finds what a part of a history does not hold: for keys and the first and last event of a transaction
that are held, the other events of these keys in the transaction and the last before it, by rising id."""

WINDOW = 1000


def in_order(events: Iterable[Event], around: Around | None = None) -> list[Event]:
    """The events, given by rising id, as they really followed each other.

    Only events of one row and one transaction ever change places, and only with each other. Where
    they seem to have, `around` is asked what else belongs to it, so that a part of a history has
    the order of the whole. Events of several tables stay where they are among each other.
    """
    ordered = list(events)
    if _are_apart(ordered):
        return ordered
    by_table: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in ordered:
        by_table[event.schema_name, event.table_name].append(event)
    parts = {table: iter(_in_order(own, around)) for table, own in by_table.items()}
    return [next(parts[event.schema_name, event.table_name]) for event in ordered]


def _are_apart(events: Sequence[Event]) -> bool:
    """Whether all are about different rows or transactions, as most are: then ids tell their order."""
    rows = {(e.transaction_id, e.row_key, e.table_name, e.schema_name) for e in events}
    return len(rows) == len(events) and all(event.old_row_key is None for event in events)


def _in_order(ordered: list[Event], around: Around | None) -> list[Event]:
    """The events of one table, in that list, as they really followed each other."""
    past, passed = _Past(), 0
    for places in _same_row_and_transaction(ordered):
        for event in ordered[passed : places[0]]:
            past.add(event)
        passed = places[0]
        group = [ordered[place] for place in places]
        steps = [(_before(event), _after(event)) for event in group]
        if not _is_inverted(steps, known := past.states(group)):
            continue
        if around and (whole := _order_of_whole(group, around)):
            for place, event in zip(places, whole, strict=True):
                ordered[place] = event
            continue
        for path in _paths(steps, known):
            for place, number in zip(sorted(path), path, strict=True):
                ordered[places[place]] = group[number]
    return ordered


def _order_of_whole(group: Sequence[Event], around: Around) -> list[Event] | None:
    """The events in the order that they have among all of their row and transaction."""
    keys = {key for event in group for key in _keys(event)}
    if None in keys:
        return None
    first, last = group[0], group[-1]
    named = sorted(str(key) for key in keys)
    found = around(named, first, last)
    whole = {event.event_id: event for event in (*found, *group)}
    held = {event.event_id for event in group}
    ordered = in_order(whole[event_id] for event_id in sorted(whole))
    return [event for event in ordered if event.event_id in held]


def in_order_streamed(
    events: Iterable[Event], *, newest_first: bool = False, around: Around | None = None
) -> Iterator[Event]:
    """Like `in_order`, holding at most `2 * WINDOW` events; with `newest_first` all is backwards.

    Inversions over a greater distance than `WINDOW` events stay in the order of ids.
    """
    order = _in_reverse if newest_first else in_order
    held: list[Event] = []
    for event in events:
        held.append(event)
        if len(held) == 2 * WINDOW:
            held = order(held, around)
            yield from held[:WINDOW]
            del held[:WINDOW]
    yield from order(held, around)


def in_runs(
    events: Iterable[Event], *, newest_first: bool = False, around: Around | None = None
) -> Iterator[list[Event]]:
    """Like `in_order_streamed`, in runs of events that changed places only among themselves.

    Between two runs a history can be cut: before it are all lower ids, behind it all higher ones.
    """
    places: deque[int] = deque()

    def noted() -> Iterator[Event]:
        for event in events:
            places.append(event.event_id)
            yield event

    furthest = min if newest_first else max
    run: list[Event] = []
    reached = 0
    for event in in_order_streamed(noted(), newest_first=newest_first, around=around):
        reached = furthest(reached, event.event_id) if run else event.event_id
        run.append(event)
        if reached == places.popleft():
            yield run
            run = []


def _in_reverse(events: Sequence[Event], around: Around | None) -> list[Event]:
    return in_order(reversed(events), around)[::-1]


def lives(events: Iterable[Event]) -> list[list[Event]]:
    """The events, given by rising id, parted by the row that they are about; each row's in order.

    A row stays the same when an update changes its key, and when it is deleted and inserted again.
    What takes over a key that a row has left is another row.
    """
    found: list[_Life] = []
    holders: dict[str | None, list[_Life]] = defaultdict(list)
    for event in in_order(events):
        if event.action is Action.EVENT:
            if not holders[event.row_key]:
                found.append(_Life())
                holders[event.row_key].append(found[-1])
            holders[event.row_key][-1].events.append(event)
            continue
        key, image = _before(event)
        life = _take_holder(holders[key], image, event.transaction_id)
        if life is None:
            found.append(life := _Life())
        life.add(event)
        if event.old_row_key is not None:
            # The row that had this key before is gone; otherwise the key would not have been free.
            holders[event.row_key] = [other for other in holders[event.row_key] if other.image]
        holders[event.row_key].append(life)
    return [life.events for life in found]


@dataclass(slots=True, eq=False)
class _Life:
    events: list[Event] = field(default_factory=list)
    image: str | None = None
    moved_in: int | None = None
    """The transaction that gave it its present key."""

    def add(self, event: Event) -> None:
        self.events.append(event)
        self.image = _after(event)[1]
        if event.old_row_key is not None:
            self.moved_in = event.transaction_id


def _take_holder(holders: list[_Life], image: str | None, transaction: int) -> _Life | None:
    # The row that looks like it; else the row of that key, as a column may have been added since.
    # `set id = id + 1` moves each row to the next key: who came just now yields to who was there,
    # and has to look like it.
    settled = [life for life in holders if life.moved_in != transaction]
    alike = [life for life in holders if life.image == image]
    both = [life for life in settled if life.image == image]
    if not (suitable := both or alike or settled):
        return None
    holders.remove(suitable[-1])
    return suitable[-1]


def _before(event: Event) -> State:
    match event.action:
        case Action.INSERT:
            return event.row_key, None
        case Action.SNAPSHOT:
            return _after(event)
    return event.key_before, _image(event.old_row)


def _after(event: Event) -> State:
    return event.row_key, _image(event.row_after)


def _image(row: Row | None) -> str | None:
    return None if row is None else exact_json.dumps(row)


def _same_row_and_transaction(events: Sequence[Event]) -> list[list[int]]:
    """The places of the events that are about one row in one transaction, where there are several."""
    by_transaction: dict[int, list[int]] = defaultdict(list)
    for place, event in enumerate(events):
        if event.action is Action.EVENT:  # which changed nothing
            continue
        by_transaction[event.transaction_id].append(place)
    groups: list[list[int]] = []
    for places in by_transaction.values():
        keys = {place: _keys(events[place]) for place in places}
        times = Counter(chain.from_iterable(keys.values()))
        if max(times.values()) > 1:
            repeated = [place for place in places if any(times[key] > 1 for key in keys[place])]
            groups += _connected(events, repeated)
    return sorted(groups)


def _connected(events: Sequence[Event], places: Sequence[int]) -> Iterable[list[int]]:
    """The places in groups of those whose keys hang together."""
    leaders: dict[str | None, str | None] = {}

    def leader(key: str | None) -> str | None:
        while (above := leaders.setdefault(key, key)) != key:
            leaders[key] = leaders[above]
            key = above
        return key

    for place in places:
        leaders[leader(events[place].row_key)] = leader(events[place].key_before)
    groups: dict[str | None, list[int]] = defaultdict(list)
    for place in places:
        groups[leader(events[place].row_key)].append(place)
    return groups.values()


def _keys(event: Event) -> set[str | None]:
    return {event.row_key, event.key_before}


@dataclass(slots=True)
class _Past:
    """The last event of every key so far."""

    latest: dict[str | None, Event] = field(default_factory=dict)
    truncated: bool = False

    def add(self, event: Event) -> None:
        if event.action is Action.TRUNCATE:
            self.latest.clear()
            self.truncated = True
        elif event.action is not Action.EVENT:
            self.latest |= dict.fromkeys(_keys(event), event)

    def states(self, events: Sequence[Event]) -> set[State]:
        """How the rows of these events looked, as far as the past tells."""
        states: set[State] = set()
        for key in {key for event in events for key in _keys(event)}:
            latest = self.latest.get(key)
            if latest and latest.row_key == key:
                states.add(_after(latest))
            elif latest or self.truncated:
                states.add((key, None))
        return states


def _is_inverted(steps: Sequence[Step], known: set[State]) -> bool:
    """Whether some step starts from a state that only a later one leads to."""
    still_to_come = Counter(after for _, after in steps)
    reached = Counter(known)
    for before, after in steps:
        still_to_come[after] -= 1
        if before == after:
            continue
        if reached[before]:
            reached[before] -= 1
        elif still_to_come[before]:
            return True
        reached[after] += 1
    return False


def _paths(steps: Sequence[Step], known: set[State]) -> list[list[int]]:
    """The numbers of the steps, as paths from state to state that use each step once.

    A path starts where more steps begin than end, or else where the row is known to have been; of
    several ways on, it takes the first. This is Hierholzer's algorithm for Eulerian paths.
    """
    leaving: dict[State, deque[int]] = defaultdict(deque)
    surplus: Counter[State] = Counter()
    for number, (before, after) in enumerate(steps):
        leaving[before].append(number)
        surplus[before] += 1
        surplus[after] -= 1
    starts = sorted(leaving, key=lambda state: (surplus[state] <= 0, state not in known))
    return [_walk(start, leaving, steps) for start in starts if leaving[start]]


def _walk(start: State, leaving: dict[State, deque[int]], steps: Sequence[Step]) -> list[int]:
    path: list[int] = []
    walked: list[tuple[State, int]] = []
    state = start
    while True:
        if leaving[state]:
            number = leaving[state].popleft()
            walked.append((state, number))
            state = steps[number][1]
        elif walked:
            state, number = walked.pop()
            path.append(number)
        else:
            return path[::-1]
