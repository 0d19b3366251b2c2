"""Destroy salts of sealed events, so that their values can be erased without breaking the tree.

    with connection.transaction():
        destroyed = destroy_slots(connection, "audit", [(4711, "old_row"), (4711, "new_row")], redaction_id)
        ...                                     # replace or empty the values themselves
        digest = commit_remaining(connection, "audit", redaction_id)
        ...                                     # write the R event with the id redaction_id: its new_row has
                                                # "slots_sha256": digest

`redaction_id` is drawn from the sequence of the trail beforehand. What stands in the tree of a destroyed slot
is its commitment, which is kept; without the salt it says nothing of the value, not even to whoever guesses it.
To what is left in its place a new commitment is made, which the R event announces.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError
from audit_toolkit.names import quote_plainly
from audit_toolkit.schema.install import SLOTS
from audit_toolkit.seals.leaves import read_relations, read_seeds
from audit_toolkit.seals.salts import block_of, puncture, salts_between
from audit_toolkit.seals.verify import redaction_digest
from audit_toolkit.templates import render, split_statements

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_NUMBERS = {name: number for number, name in enumerate(SLOTS)}


def destroy_slots(
    connection: Connection, schema: str, slots: Iterable[tuple[int, str]], redaction_id: int
) -> tuple[tuple[int, str], ...]:
    """Destroy the salts of slots, given as (event id, column), and keep the commitments that stand in the tree.

    To be called before the values are touched, within the transaction that does all of it, by the owner of the
    trail. Returns the slots that were sealed; of the others, and of those that are NULL, there is nothing to
    destroy. No sealer runs until the transaction ends. Raises `AuditError` where an event is not what was
    sealed.
    """
    asked = sorted({(event_id, _NUMBERS[name]) for event_id, name in slots})
    for statement in split_statements(render("seals/lock", schema=schema)):
        connection.execute(statement.encode())
    ids = sorted({event_id for event_id, _ in asked})
    rows = fetch(connection, render("seals/sealed_ids", schema=schema), {"ids": ids})
    sealed = {row["event_id"] for row in rows}
    names = tuple(SLOTS)
    done: list[tuple[int, str]] = []
    for block, group in groupby(
        (one for one in asked if one[0] in sealed), lambda o: block_of(o[0])
    ):
        some = list(group)
        nodes = read_seeds(connection, schema, block, block).get(block, {})
        if not nodes:
            raise AuditError(
                f"the salts of event {some[0][0]} are missing", hint="audit verify says more"
            )
        found = _commitments(connection, schema, nodes, some)
        there = [one for one in some if one in found]
        _replace(connection, schema, block, nodes, puncture(nodes, there))
        with connection.cursor() as cursor:
            cursor.executemany(
                render("seals/add_redacted", schema=schema),
                [
                    {
                        "event_id": event_id,
                        "slot": slot,
                        "redaction_id": redaction_id,
                        "commitment": found[event_id, slot],
                    }
                    for event_id, slot in there
                ],
            )
        done += [(event_id, names[slot]) for event_id, slot in there]
    return tuple(done)


def _commitments(
    connection: Connection, schema: str, nodes: dict[int, bytes], slots: list[tuple[int, int]]
) -> dict[tuple[int, int], bytes]:
    """The commitments that stand in the tree for these slots, where there is one."""
    ids = sorted({event_id for event_id, _ in slots})
    asked = {"ids": ids, "salts": [salts_between(nodes, number, number) for number in ids]}
    found: dict[tuple[int, int], bytes] = {}
    for relation in read_relations(connection, schema):
        statement = render("seals/commitments", relation=relation, slots=SLOTS)
        for row in fetch(connection, statement, asked):
            for name, slot in _NUMBERS.items():
                if row[name] is not None:
                    found[row["event_id"], slot] = bytes(row[name])
    # What was redacted before has its commitment, whatever is in its place now.
    statement = render("seals/former_commitments", schema=schema)
    for row in fetch(connection, statement, {"ids": ids}):
        found[row["event_id"], row["slot"]] = bytes(row["commitment"])
    return {one: found[one] for one in slots if one in found}


def _replace(
    connection: Connection,
    schema: str,
    block: int,
    before: dict[int, bytes],
    after: dict[int, bytes],
) -> None:
    gone = sorted(before.keys() - after.keys())
    connection.execute(render("seals/delete_seeds", schema=schema), {"block": block, "nodes": gone})
    with connection.cursor() as cursor:
        cursor.executemany(
            render("seals/add_node", schema=schema),
            [
                {"block": block, "node": node, "seed": after[node]}
                for node in sorted(after.keys() - before.keys())
            ],
        )


def commit_remaining(connection: Connection, schema: str, redaction_id: int) -> str:
    """Commit to what is left in the slots of a redaction; the digest that its R event has as `slots_sha256`.

    To be called when the values are replaced, in the same transaction.
    """
    found: list[tuple[int, int, bytes, bytes | None]] = []
    relations = read_relations(connection, schema)
    for relation in relations:
        statement = render("seals/remaining", schema=schema, relation=relation, slots=SLOTS)
        found += [
            (row["event_id"], row["slot"], bytes(row["commitment"]), row["remaining"])
            for row in fetch(connection, statement, {"redaction_id": redaction_id})
        ]
    return redaction_digest(sorted(found))


def draw_redaction_id(connection: Connection, schema: str) -> int:
    """The id of the R event that is to come, drawn as capture does: when the transaction has its number."""
    connection.execute("select pg_current_xact_id()")
    sequence = f"{quote_plainly(schema)}.logged_actions_event_id_seq"
    (row,) = fetch(connection, "select nextval(%(s)s::regclass) as id", {"s": sequence})
    number: int = row["id"]
    return number
