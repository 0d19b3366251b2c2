"""Add to the tree what is certain, and sign it.

All of a batch is one transaction: seeds, tiles, what was sealed of which partition, the checkpoint. A sealer
that is killed leaves what was, and the next one goes on behind the last checkpoint. Nothing is added to a tree
whose last checkpoint is not signed by a key that the signer vouches for: whoever rewrote the tables cannot have
the forgery signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, first_line, import_psycopg
from audit_toolkit.errors import AuditError, BusyError
from audit_toolkit.seals.checkpoints import (
    Checkpoint,
    NoteError,
    PublicKey,
    read_checkpoint,
    write_note,
)
from audit_toolkit.seals.ids import compress, expand, read_ranges, size_of, write_ranges
from audit_toolkit.seals.keys import Signer, keys_of, successor_of
from audit_toolkit.seals.leaves import Block, block_end, read_reach, seal_block
from audit_toolkit.seals.tiles import WIDTH, Growth, Tree, split, widths
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

BLOCKS_AT_ONCE = 16
"""Blocks of 4096 ids in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What one batch added, and the signed checkpoint that it ends with."""

    events: int
    checkpoint: Checkpoint
    note: str


@dataclass(slots=True)
class _State:
    """The tree as the database has it."""

    growth: Growth = field(default_factory=Growth)
    up_to_id: int | None = None
    ids: list[int] = field(default_factory=list)
    """Of the tile of level 0 that is not full."""
    note: str | None = None

    @property
    def hashes(self) -> list[bytes]:
        """Those of that tile."""
        return self.growth.edge[0]


def seal(
    connection: Connection,
    schema: str,
    signer: Signer,
    up_to_id: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Sealed]:
    """Seal every event up to an id, below which none can appear any more; a checkpoint for each batch.

    The connection has to be in autocommit mode and outside a transaction, its role the owner of the trail or a
    member of it. Raises `BusyError` while another sealer runs, and `AuditError` where the tree is not what was
    signed last, or the trail came from another place and was not adopted.
    Lock: SHARE UPDATE EXCLUSIVE on the table of checkpoints.
    """
    errors = import_psycopg().errors
    while True:
        try:
            with connection.transaction():
                sealed = _seal_batch(connection, schema, signer, up_to_id, progress)
        except errors.LockNotAvailable as error:
            raise BusyError(
                "another run is sealing this trail", hint="try again when it has ended"
            ) from error
        except errors.ObjectNotInPrerequisiteState as error:
            raise AuditError(
                first_line(error).removeprefix("audit: "), hint=error.diag.message_hint
            ) from error
        if sealed is None:
            return
        yield sealed


def _seal_batch(
    connection: Connection,
    schema: str,
    signer: Signer,
    up_to_id: int,
    progress: Callable[[int], None],
) -> Sealed | None:
    connection.execute(render("seals/begin", schema=schema).encode())
    state = _read_state(connection, schema, signer)
    before = state.growth.size + len(state.hashes)
    writer = _Writer(connection, schema, state)
    reached = state.up_to_id
    for block, last in _blocks(connection, schema, state.up_to_id, up_to_id):
        writer.add(block)
        progress(len(block.ids))
        reached = last
    size = state.growth.size + len(state.hashes)
    if size == before or reached is None:
        return None
    checkpoint = Checkpoint(
        origin=signer.public.name,
        size=size,
        root=state.growth.root(state.hashes),
        up_to_id=reached,
        sealed_at=now_of(connection).isoformat().replace("+00:00", "Z"),
    )
    note = write_note(checkpoint.text, signer.public, signer.sign(checkpoint.text))
    writer.finish(checkpoint, note, signer)
    return Sealed(events=size - before, checkpoint=checkpoint, note=note)


def now_of(connection: Connection) -> datetime:
    """The time of the server, in UTC."""
    (row,) = fetch(connection, "select clock_timestamp() as now")
    now: datetime = row["now"]
    return now.astimezone(UTC)


def _blocks(
    connection: Connection, schema: str, after: int | None, up_to_id: int
) -> Iterator[tuple[Block, int]]:
    """Some of the events that are not sealed yet, and up to which id each block goes."""
    first, _ = read_reach(connection, schema, -(2**63) if after is None else after + 1)
    for _ in range(BLOCKS_AT_ONCE):
        if first is None or first > up_to_id:
            return
        last = min(block_end(first), up_to_id)
        block = seal_block(connection, schema, first, last)
        if block.doubled:
            raise AuditError(
                f"several events have the id {block.doubled[0]}, and so cannot be sealed",
                hint="run audit adopt --renumber; audit check explains the cause",
            )
        yield block, last
        first, _ = read_reach(connection, schema, last + 1)


def read_known_keys(
    connection: Connection, schema: str
) -> tuple[tuple[PublicKey, str | None], ...]:
    """The public keys that the database names, each with the note that introduces it."""
    rows = fetch(connection, render("seals/keys", schema=schema))
    return tuple((PublicKey.parse(row["vkey"]), row["introduction"]) for row in rows)


def read_newest(connection: Connection, schema: str) -> dict[str, Any] | None:
    """The last checkpoint, as its row."""
    rows = fetch(connection, render("seals/newest", schema=schema))
    return rows[0] if rows else None


def read_tree(connection: Connection, schema: str) -> Tree:
    """The tree as the database has it; a tile that is missing is empty."""

    @cache
    def tile(level: int, number: int) -> list[bytes]:
        asked = {"level": level, "first": number, "last": number}
        rows = fetch(connection, render("seals/tiles", schema=schema), asked)
        return split(bytes(rows[0]["hashes"])) if rows else []

    return Tree(tile)


def _read_state(connection: Connection, schema: str, signer: Signer) -> _State:
    newest = read_newest(connection, schema)
    if newest is None:
        return _State()
    checkpoint = _require_own(signer, newest)
    state = _State(up_to_id=checkpoint.up_to_id, note=newest["note"])
    statement = render("seals/tiles", schema=schema)
    state.growth.size = checkpoint.size - checkpoint.size % WIDTH
    for level, tile, width in widths(checkpoint.size):
        asked = {"level": level, "first": tile, "last": tile}
        rows = fetch(connection, statement, asked)
        hashes = split(bytes(rows[0]["hashes"])) if rows else []
        if len(hashes) != width:
            raise _changed(checkpoint)
        state.growth.edge[level] = hashes
        if level == 0:
            ranges = read_ranges(rows[0]["ids"])
            state.ids = expand(ranges) if size_of(ranges) == width else []
    if state.growth.root(state.hashes) != checkpoint.root or len(state.ids) != len(state.hashes):
        raise _changed(checkpoint)
    return state


def _changed(checkpoint: Checkpoint) -> AuditError:
    return AuditError(
        f"the tree in the database differs from the last sealed one, of {checkpoint.size} events",
        hint="nothing was sealed; audit verify shows what was changed",
    )


def _require_own(signer: Signer, newest: dict[str, Any]) -> Checkpoint:
    """The last checkpoint, which a key signed that leads to the signer's; raises `AuditError`."""
    try:
        checkpoint = read_checkpoint(newest["note"], keys_of(signer))
    except NoteError as error:
        raise AuditError(
            f"the last checkpoint is not valid for the key {signer.public}: {error.message}",
            hint="sign with the previous key, or one that audit keys rotate created from it; "
            "audit keys list shows which keys signed",
        ) from error
    if (newest["tree_size"], bytes(newest["root"])) != (checkpoint.size, checkpoint.root):
        raise _changed(checkpoint)
    return checkpoint


@dataclass(slots=True)
class _Writer:
    """Writes what a batch adds to the tree."""

    connection: Connection
    schema: str
    state: _State
    tiles: dict[tuple[int, int], tuple[bytes, str | None]] = field(default_factory=dict)
    partitions: dict[tuple[int, str], list[int]] = field(default_factory=dict)
    """(OID, name) -> first id, last id, events."""

    def add(self, block: Block) -> None:
        """The next events."""
        state = self.state
        ids, hashes = state.ids + block.ids, state.hashes + block.hashes
        whole = len(ids) - len(ids) % WIDTH
        for start in range(0, whole, WIDTH):
            some = hashes[start : start + WIDTH]
            number = state.growth.size // WIDTH
            self._put(0, number, b"".join(some), ids[start : start + WIDTH])
            state.growth.add_tile(some)
        state.growth.edge[0], state.ids = hashes[whole:], ids[whole:]
        for part in block.parts:
            entry = self.partitions.setdefault((part.leaf, part.name), [part.ids[0], 0, 0])
            entry[1] = part.ids[-1]
            entry[2] += len(part.ids)

    def _put(self, level: int, tile: int, hashes: bytes, ids: list[int] | None = None) -> None:
        ranges = write_ranges(compress(ids)) if ids else None
        self.tiles[level, tile] = (hashes, ranges)

    def finish(self, checkpoint: Checkpoint, note: str, signer: Signer) -> None:
        """Write all of it, and the checkpoint."""
        growth = self.state.growth
        for level, tile, hashes in growth.take_full():
            self._put(level, tile, hashes)
        for level, tile, _ in widths(checkpoint.size):
            self._put(level, tile, b"".join(growth.edge[level]), None if level else self.state.ids)
        by_key = {str(successor_of(note)[1]): note for note in signer.introductions}
        keys = [
            {"vkey": str(key), "introduction": by_key.get(str(key))}
            for key in reversed(keys_of(signer))
        ]
        partitions = [
            {"leaf": leaf, "name": name, "first": first, "last": last, "events": events}
            for (leaf, name), (first, last, events) in self.partitions.items()
        ]
        added = {
            "levels": [level for level, _ in self.tiles],
            "tiles": [tile for _, tile in self.tiles],
            "hashes": [hashes for hashes, _ in self.tiles.values()],
            "ids": [ids for _, ids in self.tiles.values()],
            "partitions": json.dumps(partitions),
            "keys": json.dumps(keys),
            "size": checkpoint.size,
            "up_to_id": checkpoint.up_to_id,
            "root": checkpoint.root,
            "note": note,
        }
        self.connection.execute(render("seals/add", schema=self.schema), added)
