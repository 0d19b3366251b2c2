"""RFC 6962 Merkle trees over SHA-256: the hash of a list of hashes, one at a time, in logarithmic memory.

A leaf is hashed with the prefix 0x00, a node with 0x01, so that neither can pass for the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

LEAF, NODE = b"\x00", b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """The hash of an entry of the tree."""
    return hashlib.sha256(LEAF + data).digest()


@dataclass(slots=True)
class Tree:
    """A tree that grows by hashes of leaves; only the roots of its complete subtrees are kept."""

    size: int = 0
    _roots: list[bytes] = field(default_factory=list)

    def add(self, hashed: bytes) -> None:
        """One more leaf, by its hash."""
        rest = self.size
        while rest & 1:
            hashed = hashlib.sha256(NODE + self._roots.pop() + hashed).digest()
            rest >>= 1
        self._roots.append(hashed)
        self.size += 1

    def root(self) -> bytes:
        """The hash of the whole; of no leaf at all, the hash of nothing."""
        if not self._roots:
            return hashlib.sha256().digest()
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = hashlib.sha256(NODE + left + root).digest()
        return root


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node above two others."""
    return hashlib.sha256(NODE + left + right).digest()


def root_of(hashes: list[bytes]) -> bytes:
    """The root over hashes of one level: two and two become one, and one that is left over goes up as it is."""
    if not hashes:
        return hashlib.sha256().digest()
    sha256 = hashlib.sha256
    while len(hashes) > 1:
        above = [
            sha256(NODE + left + right).digest()
            for left, right in zip(hashes[::2], hashes[1::2], strict=False)
        ]
        hashes = above + hashes[len(hashes) & ~1 :]
    return hashes[0]


def root_from_inclusion(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that a proof of inclusion leads to (RFC 9162, 2.1.3.2); None where it is of the wrong length."""
    if not 0 <= index < size:
        return None
    place, last, found = index, size - 1, leaf
    for hashed in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            found = node_hash(hashed, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, hashed)
        place, last = place >> 1, last >> 1
    return found if last == 0 else None


def is_consistent(
    size: int, root: bytes, later_size: int, later_root: bytes, path: list[bytes]
) -> bool:
    """Whether a proof shows that the larger tree begins with the smaller one (RFC 9162, 2.1.4.2)."""
    if size == later_size:
        return not path and root == later_root
    if not 0 < size < later_size or not path:
        return False
    hashes = [root, *path] if size & (size - 1) == 0 else list(path)
    place, last = size - 1, later_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = hashes[0]
    for hashed in hashes[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first, second = node_hash(hashed, first), node_hash(hashed, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, hashed)
        place, last = place >> 1, last >> 1
    return last == 0 and first == root and second == later_root
