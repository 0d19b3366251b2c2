"""Events as leaves of the tree: read by the block of ids that share a seed, and hashed by the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.names import quote_plainly
from audit_toolkit.schema.install import SEALED_TEXTS, SLOTS
from audit_toolkit.seals.ids import expand, read_ranges
from audit_toolkit.seals.salts import IDS, OF_EVENT, salts_between
from audit_toolkit.seals.tiles import split
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

Seeds = dict[int, dict[int, bytes]]
"""By block, the nodes of its tree of salts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The events of one partition in a block."""

    leaf: int
    """Its OID."""
    name: str
    ids: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Events in the order of their ids, as leaves."""

    ids: list[int]
    hashes: list[bytes]
    doubled: tuple[int, ...] = ()
    """Ids that several events have; nothing else is told of those."""
    parts: tuple[Part, ...] = ()


def read_relations(connection: Connection, schema: str) -> tuple[str, ...]:
    """Where events are: the trail, and partitions that were detached and not dropped yet."""
    rows = fetch(connection, render("seals/relations", schema=schema))
    return (f"{quote_plainly(schema)}.logged_actions", *(row["relation"] for row in rows))


def read_seeds(connection: Connection, schema: str, first: int, last: int) -> Seeds:
    """The seeds of some blocks."""
    found: Seeds = {}
    statement = render("seals/seeds", schema=schema)
    for row in fetch(connection, statement, {"first": first, "last": last}):
        found.setdefault(row["block"], {})[row["node"]] = bytes(row["seed"])
    return found


def read_block(
    connection: Connection,
    schema: str,
    relations: Sequence[str],
    first: int,
    last: int,
    nodes: Mapping[int, bytes],
) -> Block:
    """The events with these ids, which are of one block."""
    from psycopg.rows import dict_row

    salts = salts_between(nodes, first, last) if nodes else bytes(OF_EVENT * (last - first + 1))
    values = {"first": first, "last": last, "salts": salts}
    parts, pairs = [], []
    with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        for relation in relations:
            statement = render(
                "seals/leaves", schema=schema, relation=relation, slots=SLOTS, texts=SEALED_TEXTS
            )
            for row in cursor.execute(statement, values).fetchall():
                ids = expand(read_ranges(row["ids"]))
                hashes = split(bytes(row["hashes"]))
                if len(ids) != len(hashes):
                    ids, hashes = _every_id(connection, relation, first, last, row["leaf"], hashes)
                parts.append(Part(leaf=row["leaf"], name=row["name"], ids=ids))
                pairs.append((ids, hashes))
    if len(pairs) == 1 and len(set(pairs[0][0])) == len(pairs[0][0]):
        return Block(ids=pairs[0][0], hashes=pairs[0][1], parts=tuple(parts))
    return _merged(pairs, tuple(parts))


def seal_block(connection: Connection, schema: str, first: int, last: int) -> Block:
    """The events with these ids, which are of one block, for a sealer, who sees no salts."""
    from psycopg.rows import dict_row

    parts, pairs = [], []
    with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        cursor.execute(render("seals/block", schema=schema), {"first": first, "last": last})
        for row in cursor.fetchall():
            if row["doubled"] is not None:
                return Block(ids=[], hashes=[], doubled=(row["doubled"],))
            ids = expand(read_ranges(row["ids"]))
            parts.append(Part(leaf=row["leaf"], name=row["name"], ids=ids))
            pairs.append((ids, split(bytes(row["hashes"]))))
    if len(pairs) == 1:
        return Block(ids=pairs[0][0], hashes=pairs[0][1], parts=tuple(parts))
    return _merged(pairs, tuple(parts))


def _every_id(
    connection: Connection, relation: str, first: int, last: int, leaf: int, hashes: list[bytes]
) -> tuple[list[int], list[bytes]]:
    """The ids of a partition where one is there twice, as a multirange does not show."""
    statement = render("seals/every_id", relation=relation)
    asked = {"first": first, "last": last, "leaf": leaf}
    return [row["event_id"] for row in fetch(connection, statement, asked)], hashes


def _merged(pairs: list[tuple[list[int], list[bytes]]], parts: tuple[Part, ...]) -> Block:
    by_id: dict[int, list[bytes]] = {}
    for ids, hashes in pairs:
        for number, hashed in zip(ids, hashes, strict=True):
            by_id.setdefault(number, []).append(hashed)
    single = sorted(number for number, hashes in by_id.items() if len(hashes) == 1)
    return Block(
        ids=single,
        hashes=[by_id[number][0] for number in single],
        doubled=tuple(sorted(number for number, hashes in by_id.items() if len(hashes) > 1)),
        parts=parts,
    )


def next_id(connection: Connection, relations: Sequence[str], first: int) -> int | None:
    """The first event from an id on, wherever it is."""
    found = [
        fetch(connection, render("seals/next_id", relation=relation), {"first": first})[0]
        for relation in relations
    ]
    return min((row["event_id"] for row in found if row["event_id"] is not None), default=None)


def read_reach(
    connection: Connection, schema: str, first: int = -(2**63)
) -> tuple[int | None, int | None]:
    """The first event from an id on, wherever it is, and the last one that was detached with its partition."""
    (row,) = fetch(connection, render("seals/reach", schema=schema), {"first": first})
    return row["next_id"], row["last_detached"]


def block_end(event_id: int) -> int:
    """The last id of the block of an id."""
    return event_id - event_id % IDS + IDS - 1
