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


def path_from(index: int, hashes: list[bytes]) -> list[bytes]:
    """The path from one of these leaves to the root over all of them (RFC 9162, 2.1.3.1)."""
    path = []
    while len(hashes) > 1:
        path += hashes[index ^ 1 : (index ^ 1) + 1]
        hashes = [root_of(hashes[place : place + 2]) for place in range(0, len(hashes), 2)]
        index >>= 1
    return path
