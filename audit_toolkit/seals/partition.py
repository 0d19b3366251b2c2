"""What verifies the events of one partition without the database, for its archive.

Salts, the places of the events in the tree, and what leads from there to the root of a signed checkpoint. It
holds no hash of an event: these are computed from the events themselves.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.merkle import root_of
from audit_toolkit.names import QualifiedName
from audit_toolkit.schema.install import SLOTS
from audit_toolkit.seals.checkpoints import Checkpoint, Note, NoteError, PublicKey, read_checkpoint
from audit_toolkit.seals.ids import expand, read_ranges, size_of
from audit_toolkit.seals.leaves import read_seeds
from audit_toolkit.seals.left import left_part, read_left
from audit_toolkit.seals.salts import IDS, OF_EVENT, SALT, block_of, salts_between
from audit_toolkit.seals.seal import read_newest, read_tree
from audit_toolkit.seals.tiles import WIDTH, root_from_range, split
from audit_toolkit.seals.verify_proof import (
    TEXTS,
    ProofError,
    commitment,
    left_hash,
    left_note,
)
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

FORMAT = "audit-toolkit sealed partition 1"
_NO_TIME = -(2**63)


def has_unsealed(connection: Connection, schema: str, leaf: QualifiedName) -> bool:
    """Whether the trail is sealed, and this partition has events that are not; False for who may not know."""
    (row,) = fetch(connection, render("seals/may_copy", schema=schema))
    if not row["allowed"]:
        return False
    (row,) = fetch(connection, render("seals/unsealed_of", schema=schema, leaf=leaf))
    found: bool = row["found"]
    return found


def sealed_part(connection: Connection, schema: str, leaf: QualifiedName) -> dict[str, Any] | None:
    """What verifies a partition, as JSON values; None where nothing is sealed, or this role may not read salts."""
    (row,) = fetch(connection, render("seals/may_copy", schema=schema))
    newest = read_newest(connection, schema) if row["allowed"] else None
    (row,) = fetch(connection, render("seals/ids_of", leaf=leaf)) if newest else ({"ids": None},)
    if newest is None or row["ids"] is None:
        return None
    ids = expand(read_ranges(row["ids"]))
    size = newest["tree_size"]
    tree = read_tree(connection, schema)
    blocks = {"first": block_of(ids[0]), "last": block_of(ids[-1])}
    seeds = read_seeds(connection, schema, **blocks)
    return {
        "format": FORMAT,
        "checkpoint": newest["note"],
        "runs": [
            {
                "index": start,
                "events": events,
                "path": [hashed.hex() for hashed in tree.range_proof(start, start + events, size)],
            }
            for start, events in _runs(connection, schema, ids)
        ],
        "seeds": {
            str(block): {str(node): seed.hex() for node, seed in sorted(nodes.items())}
            for block, nodes in sorted(seeds.items())
        },
        **redacted_part(connection, schema, blocks["first"] * IDS, blocks["last"] * IDS + IDS - 1),
    }


def redacted_part(
    connection: Connection,
    schema: str,
    first: int,
    last: int,
    notes: Mapping[int, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """What verifies redacted events with these ids, as JSON values; `notes` are those of this transaction."""
    redacted: dict[str, dict[str, str]] = {}
    asked = {"first": first, "last": last}
    for one in fetch(connection, render("seals/redacted_between", schema=schema), asked):
        slot = tuple(SLOTS)[one["slot"]]
        redacted.setdefault(str(one["event_id"]), {})[slot] = bytes(one["commitment"]).hex()
    return {"redacted": redacted} | left_part(read_left(connection, schema, first, last, notes))


def _runs(connection: Connection, schema: str, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Where these events are in the tree: (first index, how many behind one another)."""
    wanted = set(ids)
    found: list[tuple[int, int]] = []
    asked = {"first": ids[0], "last": ids[-1]}
    for row in fetch(connection, render("seals/tiles_between", schema=schema), asked):
        ranges = read_ranges(row["ids"])
        for place, number in enumerate(expand(ranges) if size_of(ranges) <= WIDTH else ()):
            index = row["tile"] * WIDTH + place
            if number not in wanted:
                continue
            if found and found[-1][0] + found[-1][1] == index:
                found[-1] = (found[-1][0], found[-1][1] + 1)
            else:
                found.append((index, 1))
    return found


@dataclass(frozen=True, slots=True)
class LeftSlot:
    """Which redaction left what there is of a slot, and where that is among what it left."""

    redaction: int
    salt: bytes
    index: int

    @classmethod
    def read(cls, content: Any) -> LeftSlot:
        """Read what `left_part` gave; without a signature, only by which redaction."""
        salt, index = bytes.fromhex(content.get("salt", "")), int(content.get("index", -1))
        return cls(int(content["redaction"]), salt, index)


def _signed_leaves(redaction: int, content: Any, keys: Sequence[PublicKey]) -> list[bytes]:
    """The leaves of what a redaction left, whose root is in its note; signed with one of the keys, if there are any."""
    note = Note.parse(content["note"])
    number, name, size, root = left_note(note.text.split("\n"))
    leaves = split(base64.b64decode(content["leaves"]))
    if number != redaction or len(leaves) != size or root_of(leaves) != root:
        raise NoteError(f"the note of the redaction of event {redaction} is of something else")
    if keys and note.signed_by(keys).name != name:
        raise NoteError(f"the note of the redaction of event {redaction} is of another trail")
    return leaves


@dataclass(slots=True)
class Part:
    """What verifies a partition, as it was read."""

    checkpoint: Checkpoint
    runs: list[tuple[int, int, list[bytes]]]
    seeds: dict[int, dict[int, bytes]]
    redacted: dict[int, dict[str, bytes]]
    left: dict[int, dict[str, LeftSlot]] = field(default_factory=dict)
    notes: dict[int, list[bytes]] = field(default_factory=dict)
    """Of signed redactions, the leaves of what they left."""
    unsigned: set[int] = field(default_factory=set)
    """Once the events were read: the redactions that left something for which there is no note, 0 for one unknown."""
    _block: int | None = None
    _salts: bytes = b""
    _changed: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, content: Any, keys: Sequence[PublicKey] = ()) -> Part:
        """Read what `sealed_part` gave, with the keys that are trusted, if any; raises `AuditError`."""
        try:
            if content["format"] != FORMAT:
                raise NoteError(f"its format is not {FORMAT!r}")
            note = content["checkpoint"]
            parsed = (
                read_checkpoint(note, keys) if keys else Checkpoint.parse(Note.parse(note).text)
            )
            return cls(
                parsed,
                [
                    (int(run["index"]), int(run["events"]), [bytes.fromhex(h) for h in run["path"]])
                    for run in content["runs"]
                ],
                {
                    int(block): {int(node): bytes.fromhex(seed) for node, seed in nodes.items()}
                    for block, nodes in content["seeds"].items()
                },
                {
                    int(event): {slot: bytes.fromhex(found) for slot, found in slots.items()}
                    for event, slots in content["redacted"].items()
                },
                {
                    int(event): {slot: LeftSlot.read(one) for slot, one in slots.items()}
                    for event, slots in content.get("left", {}).items()
                },
                {
                    int(redaction): _signed_leaves(int(redaction), note, keys)
                    for redaction, note in content.get("notes", {}).items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError, ProofError) as error:
            raise NoteError("it is not what verifies a partition") from error

    def leaf(self, event: Mapping[str, Any]) -> bytes:
        """An event as a leaf of the tree; its times are microseconds since 2000."""
        number = event["event_id"]
        began = event["transaction_tstamp"]
        texts = [event[name] for name in TEXTS]
        salts, redacted = self._salts_of(number), self.redacted.get(number, {})
        parts = [
            b"\0\1",
            struct.pack(
                ">qqQq7i",
                number,
                event["action_tstamp"],
                event["transaction_id"],
                _NO_TIME if began is None else began,
                *(-1 if text is None else len(text) for text in texts),
            ),
            "".join(text or "" for text in texts).encode(),
        ]
        for place, name in enumerate(SLOTS):
            found = redacted.get(name)
            if found is not None:
                self._hold_against_note(number, name, found, event[name])
            if found is None and event[name] is not None:
                salt = salts[place * SALT : (place + 1) * SALT]
                found = sha256(salt + event[name].encode()).digest()
            parts.append(b"\xff\xff\xff\xff" if found is None else b"\0\0\0\x20" + found)
        return sha256(b"".join(parts)).digest()

    def _salts_of(self, event_id: int) -> bytes:
        block, place = divmod(event_id, IDS)
        nodes = self.seeds.get(block, {})
        if self._block != block:
            self._block, self._salts = (
                block,
                salts_between(nodes, block * IDS, block * IDS + IDS - 1),
            )
        return self._salts[place * OF_EVENT : (place + 1) * OF_EVENT]

    def _hold_against_note(self, event_id: int, slot: str, sealed: bytes, text: str | None) -> None:
        left = self.left.get(event_id, {}).get(slot)
        leaves = self.notes.get(left.redaction) if left else None
        if left is None or leaves is None:
            self.unsigned.add(left.redaction if left else 0)
            return
        leaf = left_hash(event_id, slot, sealed, commitment(left.salt, text or ""))
        if text is None or leaves[left.index : left.index + 1] != [leaf]:
            self._changed.append(
                f"{slot} of event {event_id} is not what its redaction (event {left.redaction}) left"
            )

    def problems(self, leaves: Iterable[bytes]) -> Iterator[str]:
        """What is wrong with these events, given as leaves in the order of their ids."""
        rest = iter(leaves)
        yield from self._changed
        for index, events, path in self.runs:
            some = list(islice(rest, events))
            root = root_from_range(some, index, self.checkpoint.size, path)
            if len(some) != events or root != self.checkpoint.root:
                yield (
                    f"its events are not the {events} that were sealed from entry {index} of the tree on"
                )
                return
        if next(rest, None) is not None:
            yield "it has events that were not sealed"
