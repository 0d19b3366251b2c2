"""What a redaction left of sealed events, signed by the holder of the seal key.

A commitment covers the whole text of a slot, and its salt is destroyed with the value. So nobody can tell afterwards
whether what is left beside an erased value was there before; whoever redacts can. The client does it: it reads the
events before and after, by statements of its own and no function of the trail, works out what has to be left, and
signs that.

The note names the R event and the root of an RFC 6962 tree. A leaf of it is the event id (8 bytes), the slot (2
bytes), the commitment that stands in the sealed tree, and the commitment to what is left.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.merkle import leaf_hash, root_of
from audit_toolkit.schema.install import SLOTS
from audit_toolkit.seals.checkpoints import Note, NoteError, PublicKey, write_note
from audit_toolkit.seals.keys import Signer
from audit_toolkit.seals.leaves import read_block, read_relations, read_seeds
from audit_toolkit.seals.pin import pinned
from audit_toolkit.seals.salts import block_of
from audit_toolkit.seals.verify_proof import LEFT
from audit_toolkit.templates import query, render
from audit_toolkit.trail.event import REDACTED, redaction_of
from audit_toolkit.trail.redaction import Erased

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_JSON = ("old_row", "new_row", "context")
_REFUSED = "nothing was changed; find out who changed it: audit verify, audit check"

Slot = tuple[int, int, bytes, bytes | None]
"""Event id, number of the slot, the commitment in the tree, the one to what is left."""
Place = tuple[int, int, str]
"""An event where it is: the OID of its partition, its id and time."""


def left_text(name: str, redaction: int, slots: Iterable[Slot]) -> str:
    """What is signed for a redaction, whose slots are given in order."""
    leaves = [leaf_hash(slot_bytes(*slot)) for slot in slots]
    root = base64.b64encode(root_of(leaves)).decode()
    return f"{LEFT}\nevent {redaction} of {name}\n{len(leaves)}\n{root}\n"


def slot_bytes(event_id: int, slot: int, commitment: bytes, remaining: bytes | None) -> bytes:
    """A leaf of the tree that is signed."""
    return struct.pack(">qh", event_id, slot) + commitment + (remaining or bytes(32))


def require_signed(
    note: str, redaction: int, slots: Iterable[Slot], keys: Sequence[PublicKey]
) -> None:
    """Raise `NoteError` unless one of these keys signed that a redaction left this."""
    parsed = Note.parse(note)
    key = parsed.signed_by(keys)
    if parsed.text != left_text(key.name, redaction, slots):
        raise NoteError("it was signed for other values than those that are there")


def left_of(event: dict[str, Any], erased: Erased, redaction: int) -> dict[str, str | None]:
    """What has to be left of an event, by slot."""
    word, columns = f"redacted:{redaction}", erased.columns
    images = {name: _value(event[name]) for name in _JSON}
    new = images["new_row"]
    if event["action"] != "E":
        images["new_row"] = _marked(new, columns, redaction, images["old_row"])
    elif isinstance(new, dict) and "payload" in new:
        images["new_row"] = new | {"payload": _marked(new["payload"], columns, redaction)}
    images["old_row"] = _marked(images["old_row"], columns, redaction)
    images["context"] = _marked(images["context"], erased.context_keys, redaction)
    texts = {"row_key": erased.keys, "old_row_key": erased.keys, "query": erased.query}
    left = {
        name: word if gone and event[name] is not None else event[name]
        for name, gone in texts.items()
    }
    return left | {name: _text(event[name], value) for name, value in images.items()}


def _value(text: str | None) -> Any:
    return None if text is None else exact_json.loads(text)


def _text(former: str | None, value: Any) -> str | None:
    return None if former is None else exact_json.dumps(value)


def _marked(image: Any, names: Collection[str], redaction: int, before: Any = None) -> Any:
    """What `redacted` makes of an image: a mark in place of each of these values that is neither null nor a mark."""
    if not isinstance(image, dict):
        return image
    return {
        name: _mark(name, value, redaction, before)
        if name in names and value is not None and redaction_of(value) is None
        else value
        for name, value in image.items()
    }


def _mark(name: str, value: Any, redaction: int, before: Any) -> dict[str, Any]:
    mark: dict[str, Any] = {REDACTED: redaction}
    known = isinstance(before, dict) and name in before
    if known and exact_json.dumps(before[name]) != exact_json.dumps(value):
        return {"changed": True} | mark  # in the order of jsonb
    return mark


@dataclass(slots=True, kw_only=True)
class RedactionSigner:
    """Signs what redactions leave, for `audit_toolkit.trail.redact`."""

    connection: Connection
    schema: str
    signer: Signer
    _former: dict[Place, dict[str, Any]] = field(default_factory=dict)
    _hashes: dict[int, bytes] = field(default_factory=dict)

    def require_owner(self) -> None:
        """Raise `UsageError` for a role that cannot read what it should sign."""
        (row,) = fetch(self.connection, query("trail"), {"schema": self.schema})
        if not row["owned"]:
            raise UsageError(
                "only the owner of the trail can have a redaction signed, as the events are read for it",
                hint="run audit redact as the owner of the trail, or without --key and AUDIT_SEAL_KEY",
            )

    def before(self, events: Collection[int]) -> None:
        """Note what these events are now."""
        with pinned(self.connection):
            self._former = self._payloads(events)
            self._hashes = self._leaves(events)

    def sign(self, redaction: int, events: Collection[int], erased: Erased) -> str | None:
        """The note of a redaction of this transaction; None where it erased nothing that was sealed.

        Raises `AuditError` where anything else than what was to be erased changed.
        """
        with pinned(self.connection):
            asked = {"redaction": redaction}
            rows = fetch(self.connection, render("seals/redacted_by", schema=self.schema), asked)
            present = self._payloads(events)
            self._require_left(present, erased, redaction)
            slots = [_checked(row, present) for row in rows]
            sealed = {row["event_id"] for row in rows}
            self._require_same_leaves(sealed)
        if not slots:
            return None
        text = left_text(self.signer.public.name, redaction, slots)
        return write_note(text, self.signer.public, self.signer.sign(text))

    def _require_left(
        self, present: dict[Place, dict[str, Any]], erased: Erased, redaction: int
    ) -> None:
        for place in present.keys() | self._former.keys():
            former, now = self._former.get(place), present.get(place)
            wanted = left_of(former, erased, redaction) if former else None
            if now is None or wanted is None or any(_plain(now, n) != wanted[n] for n in SLOTS):
                raise AuditError(
                    f"more of event {place[1]} changed than what was to be erased, so it is not signed",
                    hint=_REFUSED,
                )

    def _require_same_leaves(self, events: Collection[int]) -> None:
        """What was erased is what the commitments that are kept stand for."""
        for event, hashed in self._leaves(events).items():
            if self._hashes.get(event) != hashed:
                raise AuditError(
                    f"the commitments of event {event} are not those of what was erased, so it is not signed",
                    hint=_REFUSED,
                )

    def _payloads(self, events: Collection[int]) -> dict[Place, dict[str, Any]]:
        found = {}
        for relation in read_relations(self.connection, self.schema):
            sql = render("seals/payloads", relation=relation, slots=SLOTS)
            for row in fetch(self.connection, sql, {"ids": sorted(events)}):
                found[row["leaf"], row["event_id"], row["action_tstamp"]] = row
        return found

    def _leaves(self, events: Collection[int]) -> dict[int, bytes]:
        """The leaves of these events, all computed by statements of our own."""
        relations = read_relations(self.connection, self.schema)
        found: dict[int, bytes] = {}
        for number, group in groupby(sorted(events), block_of):
            ids = list(group)
            seeds = read_seeds(self.connection, self.schema, number, number).get(number, {})
            block = read_block(self.connection, self.schema, relations, ids[0], ids[-1], seeds)
            if doubled := set(ids) & set(block.doubled):
                raise AuditError(
                    f"there are several events {min(doubled)}, so what is left of them is not signed",
                    hint="run audit adopt --renumber",
                )
            leaves = dict(zip(block.ids, block.hashes, strict=True))
            found |= {event: leaves[event] for event in ids if event in leaves}
        return found


def _plain(event: dict[str, Any], name: str) -> str | None:
    text: str | None = event[name]
    return _text(text, _value(text)) if name in _JSON else text


def _checked(row: dict[str, Any], present: dict[Place, dict[str, Any]]) -> Slot:
    """A slot whose commitment to what is left holds."""
    name = tuple(SLOTS)[row["slot"]]
    left = [event[name] for (_, number, _), event in present.items() if number == row["event_id"]]
    salt, remaining = bytes(row["salt"] or b""), bytes(row["remaining"] or b"")
    if not left or any(
        text is None or hashlib.sha256(salt + text.encode()).digest() != remaining for text in left
    ):
        raise AuditError(
            f"the commitment to what is left of event {row['event_id']} does not hold, so it is not signed",
            hint=_REFUSED,
        )
    return row["event_id"], row["slot"], bytes(row["commitment"]), remaining
