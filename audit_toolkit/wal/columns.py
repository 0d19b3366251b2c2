"""What the columns of a table were called when rows were written, which may be before a rename. No I/O.

A rule means columns by what they were called when capture was installed. Triggers follow their numbers; the WAL
has no numbers, but tells the columns in their order, which a rename leaves alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A number that a column of the table has, or had."""

    installed: str | None
    """What it was called when capture was installed; None for one that came later."""
    name: str | None
    """What it is called now; None where it was dropped."""
    noted: str | None = None
    """What it was called when the trail noted the columns last."""
    is_in_all: bool
    """Whether it was there when capture was installed, and still is, so that all rows have it."""

    @property
    def names(self) -> set[str]:
        """What it was ever called, as far as that is known."""
        return {name for name in (self.installed, self.noted, self.name) if name is not None}


def places_of(
    installed: Mapping[int, str],
    noted: Mapping[int, str],
    present: Sequence[tuple[int | None, str | None]],
) -> list[Place]:
    """The columns that rows may have, in their order.

    `present` are those that the table has, and what is left of those that were dropped: their numbers, None of one that
    a partition lost, and what they are called now.
    """
    first: dict[str, int] = {}  # a later one of a name came instead of one that was dropped
    for number in sorted(installed):
        first.setdefault(installed[number], number)
    newest = max(first.values(), default=0)
    return [
        Place(
            installed=None if number is None else installed.get(number),
            name=name,
            noted=None if number is None else noted.get(number),
            is_in_all=name is not None and number in first.values(),
        )
        for number, name in present
        if name is not None or number is None or number in installed or number > newest
    ]


def called_then(written: Sequence[str], places: Sequence[Place]) -> dict[str, list[str]]:
    """What each column that the installer knew was called in rows of these columns.

    Where that is not certain, as columns were dropped and added before the rows were read, "" comes first, and
    behind it all that it may have been called.
    """
    possible = _by_order(written, places)
    return _called(written, places, possible) if possible else called_by_name(written, places)


def called_by_name(written: Sequence[str], places: Sequence[Place]) -> dict[str, list[str]]:
    """The same, where the order of the columns says nothing; a name that is not known may be that of any of them."""
    possible = [
        [position for position, name in enumerate(written) if name in place.names]
        for place in places
    ]
    known = {position for positions in possible for position in positions}
    others = [name for position, name in enumerate(written) if position not in known]
    called = _called(written, places, possible)
    for place in places if others else ():
        if place.installed is not None:
            was_renamed = not place.names <= {place.installed}
            found = called[place.installed]
            called[place.installed] = list(
                dict.fromkeys([*([""] if was_renamed else []), *found, *others])
            )
    return called


def _called(
    written: Sequence[str], places: Sequence[Place], possible: Sequence[Sequence[int]]
) -> dict[str, list[str]]:
    called: dict[str, list[str]] = {}
    for place, positions in zip(places, possible, strict=True):
        if place.installed is None:
            continue
        names = [written[position] for position in positions]
        if not place.is_in_all and place.installed in written:
            names.append(place.installed)  # gone, unless another one that came later has its name
        names = list(dict.fromkeys(names))
        found = names if len(names) == 1 else ["", *names]
        # Of two columns of one name the later one counts; what the former one may be stays hidden with it.
        called[place.installed] = list(dict.fromkeys([*found, *called.get(place.installed, [])]))
    return called


def _by_order(written: Sequence[str], places: Sequence[Place]) -> list[list[int]]:
    """The positions where each column may stand; none at all where they are not the columns of this table.

    Of all ways in which the columns may be those places, those count in which most have a name that is known of them.
    """
    best = _best(written, places)
    if best[0][0] < 0:
        return []
    possible: list[list[int]] = []
    reached = {0}
    for number, place in enumerate(places):
        here, there = best[number], best[number + 1]
        taken = [
            position
            for position in sorted(reached)
            if position < len(written)
            and here[position] == there[position + 1] + (written[position] in place.names)
        ]
        passed = {
            position
            for position in reached
            if _may_lack(place, is_end=position == len(written))
            and here[position] == there[position]
        }
        reached = passed | {position + 1 for position in taken}
        possible.append(taken)
    return possible


def _best(written: Sequence[str], places: Sequence[Place]) -> list[list[int]]:
    """By place and position, how many names fit at best from there on; less than none where nothing does."""
    size = len(written)
    best = [[_NEVER] * size + [0]]
    for place in reversed(places):
        there = best[-1]
        here = [
            max(
                there[position + 1] + (written[position] in place.names)
                if position < size
                else _NEVER,
                there[position] if _may_lack(place, is_end=position == size) else _NEVER,
            )
            for position in range(size + 1)
        ]
        best.append(here)
    return best[::-1]


def _may_lack(place: Place, *, is_end: bool) -> bool:
    """Whether rows may be without a column: a dropped one, or one that came after all that they have."""
    return place.name is None or (is_end and not place.is_in_all)


_NEVER = -(1 << 20)
