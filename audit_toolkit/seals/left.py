"""What redactions left of events, and how it was signed, for whoever verifies these without the database.

The note that a redaction was signed with has the root of a tree over all that it left: a path leads there from one
value, and says nothing of any other.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.merkle import leaf_hash, path_from
from audit_toolkit.schema.install import SLOTS
from audit_toolkit.seals.redaction import slot_bytes
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What was left of one slot of an event, and how that leads to the note of the redaction."""

    event_id: int
    slot: str
    redaction: int
    salt: bytes
    remaining: bytes
    """The commitment to what is left: SHA-256 over the salt and its text."""
    note: str | None = None
    """None where it was not signed."""
    index: int = 0
    leaves: list[bytes] = field(default_factory=list)
    """Of the tree that was signed; this slot is the one at `index`."""

    @property
    def path(self) -> list[bytes]:
        """What leads to the root that was signed."""
        return path_from(self.index, self.leaves)


def read_left(
    connection: Connection, schema: str, first: int, last: int, notes: Mapping[int, str]
) -> Iterator[Left]:
    """What redactions left of the events with these ids, in order.

    `notes` are those of redactions of this transaction, which the database does not have yet.
    """
    asked = {"first": first, "last": last}
    rows = fetch(connection, render("seals/left_between", schema=schema), asked)
    signed = {row["redaction_id"]: notes.get(row["redaction_id"], row["note"]) for row in rows}
    trees = {
        redaction: _tree(connection, schema, redaction)
        for redaction, note in signed.items()
        if note is not None
    }
    for row in rows:
        redaction, place = row["redaction_id"], (row["event_id"], row["slot"])
        if row["salt"] is None:
            continue  # a later redaction was removed: audit verify finds it
        index, leaves = 0, list[bytes]()
        if redaction in trees:
            places, leaves = trees[redaction]
            index = places[place]
        yield Left(
            event_id=row["event_id"],
            slot=tuple(SLOTS)[row["slot"]],
            redaction=redaction,
            salt=bytes(row["salt"]),
            remaining=bytes(row["remaining"]),
            note=signed[redaction],
            index=index,
            leaves=leaves,
        )


def left_part(found: Iterable[Left]) -> dict[str, Any]:
    """The members `left` and `notes` of what verifies a partition."""
    left: dict[str, dict[str, Any]] = {}
    notes: dict[str, Any] = {}
    for one in found:
        entry: dict[str, Any] = {"redaction": one.redaction}
        if one.note is not None:
            entry |= {"salt": one.salt.hex(), "index": one.index}
            if str(one.redaction) not in notes:
                leaves = base64.b64encode(b"".join(one.leaves)).decode()
                notes[str(one.redaction)] = {"note": one.note, "leaves": leaves}
        left.setdefault(str(one.event_id), {})[one.slot] = entry
    return {"left": left, "notes": notes}


def _tree(
    connection: Connection, schema: str, redaction: int
) -> tuple[dict[tuple[int, int], int], list[bytes]]:
    """The place of each slot in the tree that a redaction was signed with, and its leaves."""
    sql = render("seals/redacted_by", schema=schema)
    rows = fetch(connection, sql, {"redaction": redaction})
    slots = [
        (row["event_id"], row["slot"], bytes(row["commitment"]), row["remaining"]) for row in rows
    ]
    places = {slot[:2]: place for place, slot in enumerate(slots)}
    return places, [leaf_hash(slot_bytes(*slot)) for slot in slots]
