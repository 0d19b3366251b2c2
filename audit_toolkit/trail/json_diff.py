"""What differs inside two JSON values: the paths, instead of both values whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from audit_toolkit import exact_json
from audit_toolkit.exact_json import Json

Step = str | int
"""The name of a member, or the place of an element, from 0."""

_PLAIN = re.compile(r"[^\W\d][\w-]*")


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()
"""What a value has that was added, before, and one that was removed, afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """One difference: where, and what is there in each of the two values."""

    path: tuple[Step, ...]
    old: Json
    new: Json


def differ_inside(old: Json, new: Json) -> bool:
    """Whether two values are to be compared inside: both objects, or both arrays."""
    return any(isinstance(old, kind) and isinstance(new, kind) for kind in (dict, list))


def differences(old: Json, new: Json) -> Iterator[Inside]:
    """What differs inside two values, in the order of the second; the scale of numbers counts.

    Of arrays, what is alike at both ends is taken off and the rest compared place by place: an
    element put in or taken out is one difference, an array in another order is many.
    """
    todo: list[Inside] = [Inside(path=(), old=old, new=new)]
    while todo:  # and not recursion: Python's is limited, and a value may use it up
        pair = todo.pop()
        if pair.old is ABSENT or pair.new is ABSENT:
            yield pair
        elif isinstance(pair.old, dict) and isinstance(pair.new, dict):
            todo += reversed(list(_members(pair.path, pair.old, pair.new)))
        elif isinstance(pair.old, list) and isinstance(pair.new, list):
            todo += reversed(list(_elements(pair.path, pair.old, pair.new)))
        elif not exact_json.same(pair.old, pair.new):
            yield pair


def show_path(path: tuple[Step, ...]) -> str:
    """A path behind the name of a column, as in `.items[0].n`; unusual names as JSON in brackets."""
    return "".join(
        f".{step}" if isinstance(step, str) and _PLAIN.fullmatch(step) else f"[{_quoted(step)}]"
        for step in path
    )


def pointer(path: tuple[Step, ...]) -> str:
    """A path as RFC 6901 writes it: `/items/0/n`."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _quoted(step: Step) -> str:
    return json.dumps(step, ensure_ascii=False)


def _members(
    path: tuple[Step, ...], old: dict[str, Json], new: dict[str, Json]
) -> Iterator[Inside]:
    for name in old | new:
        yield Inside(path=(*path, name), old=old.get(name, ABSENT), new=new.get(name, ABSENT))


def _elements(path: tuple[Step, ...], old: list[Json], new: list[Json]) -> Iterator[Inside]:
    shorter = min(len(old), len(new))
    begin = end = 0
    if len(old) != len(new):
        begin = _alike(old, new, shorter)
        end = _alike(old[::-1], new[::-1], shorter - begin)
    middle = zip_longest(old[begin : len(old) - end], new[begin : len(new) - end], fillvalue=ABSENT)
    for place, (before, after) in enumerate(middle, begin):
        yield Inside(path=(*path, place), old=before, new=after)


def _alike(old: list[Json], new: list[Json], most: int) -> int:
    """With how many elements in common two lists begin."""
    pairs = zip(old[:most], new[:most], strict=True)
    return next(
        (n for n, (one, other) in enumerate(pairs) if not exact_json.same(one, other)), most
    )
