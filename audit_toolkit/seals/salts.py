"""Salts that cost nothing until one of them is destroyed.

The salts of 4096 ids come from one random seed, along a binary tree (Goldreich, Goldwasser and Micali, 1986):
the two halves of SHA-512(seed) are the seeds of its children, down to one seed for each event. The salts of the
eight slots of an event are the quarters of SHA-512(seed ‖ 00) and SHA-512(seed ‖ 01), 16 bytes each. To destroy
one, a seed on its way is replaced by those of the siblings along the way: from these all other salts can be
computed, and that one by nobody. The database does that (`destroy_salt`).

A node is known by its number, as in a heap: 1 is the root, 2n and 2n + 1 are the children of n, 4096 + i is the
event with id 4096 * block + i, and 8n + s is the salt of slot s of event n.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping

IDS = 4096
"""How many ids have one seed."""
SLOTS = 8
"""Slots of an event; six are in use."""
SALT = 16
"""Bytes of the salt of a slot."""
OF_EVENT = SLOTS * SALT
_NONE = bytes(SALT)


def block_of(event_id: int) -> int:
    """The block of ids that an id is in."""
    return event_id // IDS


def new_seed() -> bytes:
    """A seed for a block."""
    return secrets.token_bytes(32)


def children(seed: bytes) -> tuple[bytes, bytes]:
    """The seeds of the two children of a node above the events."""
    both = hashlib.sha512(seed).digest()
    return both[:32], both[32:]


def salts_of(seed: bytes) -> bytes:
    """The salts of the slots of an event, one after the other."""
    return hashlib.sha512(seed + b"\0").digest() + hashlib.sha512(seed + b"\1").digest()


def salts_between(nodes: Mapping[int, bytes], first: int, last: int) -> bytes:
    """The salts of the ids from `first` to `last`, which are of one block; zeros in place of what was destroyed."""
    start, end = first % IDS, last % IDS
    if set(nodes) == {1} and end - start + 1 == IDS:
        return b"".join(map(salts_of, _all_events(nodes[1])))
    events = dict(_events(nodes, start, end))
    parts = []
    for place in range(start, end + 1):
        if seed := events.get(IDS + place):
            parts.append(salts_of(seed))
        else:
            numbers = range((IDS + place) * SLOTS, (IDS + place + 1) * SLOTS)
            parts += [nodes.get(number, _NONE) for number in numbers]
    return b"".join(parts)


def _all_events(root: bytes) -> list[bytes]:
    seeds = [root]
    while len(seeds) < IDS:
        both = [hashlib.sha512(seed).digest() for seed in seeds]
        seeds = [half for one in both for half in (one[:32], one[32:])]
    return seeds


def _events(nodes: Mapping[int, bytes], start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The seeds of the events at these places that are not punctured, in any order."""
    todo = [(number, seed) for number, seed in nodes.items() if number < 2 * IDS]
    while todo:
        number, seed = todo.pop()
        if number >= IDS:
            if start <= number - IDS <= end:
                yield number, seed
            continue
        width = IDS >> (number.bit_length() - 1)
        begin = number * width - IDS
        if begin <= end and begin + width > start:
            left, right = children(seed)
            todo += [(2 * number, left), (2 * number + 1, right)]
