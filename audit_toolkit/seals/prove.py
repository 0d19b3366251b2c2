"""A proof that one event is in the sealed trail, which says nothing of any other event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.schema.install import SLOTS
from audit_toolkit.seals.checkpoints import Checkpoint, Note, NoteError
from audit_toolkit.seals.ids import read_ranges
from audit_toolkit.seals.leaves import read_relations, read_seeds
from audit_toolkit.seals.left import Left, read_left
from audit_toolkit.seals.salts import SALT, block_of, salts_between
from audit_toolkit.seals.seal import read_newest, read_tree
from audit_toolkit.seals.tiles import WIDTH, split
from audit_toolkit.seals.verify_proof import COLUMNS, FORMAT, ProofError, commitment, leaf_hash
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def prove(connection: Connection, schema: str, event_id: int) -> dict[str, Any]:
    """The proof of an event, as JSON values: the event, its salts, its place in the tree, the signed checkpoint.

    Of a slot that was redacted, and signed, also what is left.

    Raises `UsageError` for an event that is not there or not sealed yet, `AuditError` for one that is not what was
    sealed.
    """
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        event = _read_event(connection, schema, event_id)
        index, sealed = _place(connection, schema, event_id)
        newest = read_newest(connection, schema)
        checkpoint = _checkpoint(newest["note"] if newest else "")
        salts, redacted = _salts(connection, schema, event_id)
        salts = {n: s for n, s in salts.items() if event[n] is not None and n not in redacted}
        shown = event | dict.fromkeys(redacted)
        if _leaf_hash(shown, salts, redacted) != sealed:
            raise AuditError(
                f"event {event_id} was changed after it was sealed, so it cannot be proved",
                hint="audit verify shows what else was changed",
            )
        tree = read_tree(connection, schema)
        path = tree.inclusion(index, checkpoint.size)
        left = {
            one.slot: _left(one, event[one.slot])
            for one in read_left(connection, schema, event_id, event_id, {})
            if one.note is not None
        }
    return {
        "format": FORMAT,
        "event": shown,
        "salts": {name: salt.hex() for name, salt in salts.items()},
        "redacted": {name: found.hex() for name, found in redacted.items()},
        "index": index,
        "path": [hashed.hex() for hashed in path],
        "checkpoint": newest["note"] if newest else "",
        **({"left": left} if left else {}),
    }


def _left(left: Left, text: str | None) -> dict[str, Any]:
    """What a signed redaction left of a slot, with what shows that."""
    if text is None or commitment(left.salt, text) != left.remaining:
        raise AuditError(
            f"{left.slot} of event {left.event_id} was changed after it was redacted, so it cannot be proved",
            hint="audit verify shows what else was changed",
        )
    return {
        "text": text,
        "salt": left.salt.hex(),
        "index": left.index,
        "path": [hashed.hex() for hashed in left.path],
        "note": left.note,
    }


def _leaf_hash(event: dict[str, Any], salts: dict[str, bytes], redacted: dict[str, bytes]) -> bytes:
    try:
        return leaf_hash(event, salts, redacted)
    except ProofError as error:
        raise AuditError(
            f"no proof can show event {event['event_id']}: its time is not between the years 1 and 9999",
            hint="audit verify verifies it; no write gets such a time, so find out who inserted it",
        ) from error


def _read_event(connection: Connection, schema: str, event_id: int) -> dict[str, Any]:
    rows = [
        row
        for relation in read_relations(connection, schema)
        for row in fetch(
            connection,
            render("seals/event", relation=relation, slots=SLOTS),
            {"event_id": event_id},
        )
    ]
    if len(rows) != 1:
        raise UsageError(
            f"there are {len(rows)} events {event_id}" if rows else f"there is no event {event_id}",
            hint="audit history shows the numbers of events"
            if not rows
            else "run audit adopt --renumber",
        )
    return {name: rows[0][name] for name in rows[0] if name in COLUMNS}


def _place(connection: Connection, schema: str, event_id: int) -> tuple[int, bytes]:
    """Which leaf of the tree an event is, and its hash there."""
    rows = fetch(connection, render("seals/tile_of", schema=schema), {"event_id": event_id})
    if not rows:
        raise UsageError(
            f"event {event_id} is not sealed",
            hint="audit seal seals the events whose order is final",
        )
    ranges = read_ranges(rows[0]["ids"])
    place = sum(min(end, event_id) - start for start, end in ranges if start < event_id)
    hashes = split(bytes(rows[0]["hashes"]))
    return rows[0]["tile"] * WIDTH + place, hashes[place] if place < len(hashes) else b""


def _checkpoint(note: str) -> Checkpoint:
    try:
        return Checkpoint.parse(Note.parse(note).text)
    except NoteError as error:
        raise AuditError(
            f"the last checkpoint cannot be read: {error.message}",
            hint="audit verify shows details",
        ) from error


def _salts(
    connection: Connection, schema: str, event_id: int
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The salts of the slots of an event, and the commitments of those whose salt was destroyed."""
    number = block_of(event_id)
    nodes = read_seeds(connection, schema, number, number).get(number, {})
    found = salts_between(nodes, event_id, event_id)
    salts = {name: found[SALT * s : SALT * (s + 1)] for s, name in enumerate(SLOTS)}
    rows = fetch(connection, render("seals/redacted", schema=schema), {"event_id": event_id})
    names = tuple(SLOTS)
    return salts, {names[row["slot"]]: bytes(row["commitment"]) for row in rows}
