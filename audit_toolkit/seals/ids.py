"""Ids of events as ranges, as PostgreSQL writes an int8multirange."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Ranges = tuple[tuple[int, int], ...]
"""(first, behind the last), in order."""

_RANGE = re.compile(r"\[(-?\d+),(-?\d+)\)")


def read_ranges(text: str) -> Ranges:
    """The ranges of a multirange."""
    return tuple((int(start), int(end)) for start, end in _RANGE.findall(text))


def size_of(ranges: Ranges) -> int:
    """How many ids ranges have, which may be more than can be expanded where somebody forged them."""
    return sum(end - start for start, end in ranges)


def expand(ranges: Ranges) -> list[int]:
    """All ids of ranges."""
    return [number for start, end in ranges for number in range(start, end)]


def compress(ids: Sequence[int]) -> Ranges:
    """Ids in their order as ranges."""
    if ids and ids[-1] - ids[0] == len(ids) - 1:
        return ((ids[0], ids[-1] + 1),)
    found: list[tuple[int, int]] = []
    for number in ids:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return tuple(found)


def write_ranges(ranges: Ranges) -> str:
    """Ranges as a multirange."""
    return "{" + ",".join(f"[{start},{end})" for start, end in ranges) + "}"


def describe(ids: Iterable[int], most: int = 10) -> str:
    """Ids for people: `4, 7-9`."""
    ranges = compress(sorted(ids))
    words = [str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in ranges[:most]]
    return ", ".join(words) + (" and more" if len(ranges) > most else "")
