"""The tree of sealed events in tiles of 256 hashes, and what follows from them: roots and proofs.

Entry i of a tile at level l is the root of a whole subtree of 256 ** l events. Tiles that are not full hold as
many whole subtrees as there are; what is beyond them is in tiles of the levels below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from audit_toolkit.merkle import root_of

WIDTH = 256
LEVELS = 8
HASH = 32


def split(hashes: bytes) -> list[bytes]:
    """A tile as hashes."""
    return [hashes[start : start + HASH] for start in range(0, len(hashes), HASH)]


def widths(size: int) -> Iterator[tuple[int, int, int]]:
    """Of each level the last tile of a tree and how many hashes it has, as (level, tile, width), where it has any."""
    for level in range(LEVELS):
        count = size >> (8 * level)
        if count & (WIDTH - 1):
            yield level, count >> 8, count & (WIDTH - 1)


@dataclass(slots=True)
class Growth:
    """The right edge of a tree that grows: of each level the hashes that fill no tile yet."""

    size: int = 0
    edge: list[list[bytes]] = field(default_factory=lambda: [[] for _ in range(LEVELS)])
    full: list[tuple[int, int, bytes]] = field(default_factory=list)
    """The tiles above level 0 that were filled, as (level, tile, hashes), until `take_full` is called."""

    def add_tile(self, hashes: list[bytes]) -> None:
        """A whole tile of level 0, on an edge that has none of level 0."""
        self.add_root(root_of(hashes))

    def add_root(self, root: bytes) -> None:
        """The same, given the root of the tile."""
        self.size += WIDTH
        self._raise(1, root)

    def _raise(self, level: int, root: bytes) -> None:
        hashes = self.edge[level]
        hashes.append(root)
        if len(hashes) == WIDTH:
            tile = (self.size >> (8 * (level + 1))) - 1
            self.full.append((level, tile, b"".join(hashes)))
            self._raise(level + 1, root_of(hashes))
            hashes.clear()

    def take_full(self) -> list[tuple[int, int, bytes]]:
        """The tiles that were filled since."""
        full, self.full = self.full, []
        return full

    def root(self, beginning: list[bytes] | None = None) -> bytes:
        """The root of the whole, with the hashes of the last tile of level 0 that is not full."""
        last: list[bytes] = []
        for hashes in (list(beginning or ()), *self.edge[1:]):
            if hashes or last:
                last = [root_of(hashes + last)]
        return root_of(last)


Fetch = Callable[[int, int], list[bytes]]
"""The hashes of a tile, by level and number; as many as there are."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree by its tiles, which are fetched as they are needed."""

    fetch: Fetch

    def node(self, height: int, index: int) -> bytes:
        """The root of a whole subtree of 2 ** height events."""
        level, above = divmod(height, 8)
        start = index << above
        tile, place = divmod(start, WIDTH)
        return root_of(self.fetch(level, tile)[place : place + (1 << above)])

    def root(self, size: int) -> bytes:
        """The root of the first `size` events."""
        return self._range(0, size)

    def _range(self, start: int, end: int) -> bytes:
        """The root of some events, where the start is a multiple of the largest power of two in it."""
        if end == start:
            return root_of([])
        parts = []
        while start < end:
            height = (end - start).bit_length() - 1
            parts.append(self.node(height, start >> height))
            start += 1 << height
        found = parts[-1]
        for left in reversed(parts[:-1]):
            found = root_of([left, found])
        return found

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The proof that an event is in the tree of the first `size` (RFC 9162, 2.1.3.1)."""
        start, end, path = 0, size, []
        while end - start > 1:
            middle = start + (1 << ((end - start - 1).bit_length() - 1))
            if index < middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start = middle
        return path[::-1]

    def range_proof(self, start: int, end: int, size: int) -> list[bytes]:
        """What leads from the events of a range, all of them at hand, to the root of the first `size`."""
        path: list[bytes] = []
        self._beside(0, size, start, end, path)
        return path

    def _beside(self, low: int, high: int, start: int, end: int, path: list[bytes]) -> None:
        if low >= start and high <= end:
            return
        if high <= start or low >= end:
            path.append(self._range(low, high))
            return
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        self._beside(low, middle, start, end, path)
        self._beside(middle, high, start, end, path)


def root_from_range(leaves: list[bytes], start: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that a proof of a range leads to; None where it is of the wrong length."""
    rest = iter(path)
    end = start + len(leaves)

    def root(low: int, high: int) -> bytes:
        if low >= start and high <= end:
            return root_of(leaves[low - start : high - start])
        if high <= start or low >= end:
            return next(rest)
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        return root_of([root(low, middle), root(middle, high)])

    if not leaves or not 0 <= start < end <= size:
        return None
    try:
        found = root(0, size)
    except (StopIteration, RuntimeError):
        return None
    return found if next(rest, None) is None else None
