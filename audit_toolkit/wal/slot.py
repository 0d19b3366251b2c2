"""A logical slot, over SQL functions alone: a managed service needs no replication connection for it.

`peek` never moves the slot; `advance` does, once what was read is kept. Reading with the function
that does both would lose whatever its transaction did not get to commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg

from audit_toolkit.connection import fetch
from audit_toolkit.names import wal_publication
from audit_toolkit.templates import query, render
from audit_toolkit.wal.changes import lsn_text

BATCH_ROWS = 2000
BATCH_BYTES = 8 * 1024 * 1024
"""How much is fetched at once, as far as the size of what came before tells."""


def create_slot(connection: psycopg.Connection[Any], slot: str) -> None:
    """Make the slot: what commits from now on is kept for it. In a transaction of its own.

    From PostgreSQL 17 on a failover slot, which standbys have as well if they are set to.
    """
    failover = connection.info.server_version >= 170000
    connection.execute(render("queries/wal_create_slot", failover=failover), {"slot": slot})


def peek(
    connection: psycopg.Connection[Any], slot: str, publication: str, *, at_least: int = 10_000
) -> Iterator[list[bytes]]:
    """The next messages of the slot, whole transactions: as many as it takes to reach `at_least`.

    They come in batches, in a transaction that ends with the iteration. Values are printed as no
    setting of the session, the role or the database can change.
    """
    with connection.transaction():
        connection.execute(render("queries/wal_settings", of_transaction=True))
        with connection.cursor("audit_wal", binary=True) as cursor:
            cursor.execute(
                query("wal_peek"),
                {"slot": slot, "publication": publication, "at_least": at_least},
            )
            rows = BATCH_ROWS // 16
            while messages := [data for (data,) in cursor.fetchmany(rows)]:
                yield messages
                size = sum(map(len, messages)) // len(messages) + 1
                rows = max(1, min(BATCH_ROWS, 4 * rows, BATCH_BYTES // size))


def advance(connection: psycopg.Connection[Any], slot: str, end_lsn: int) -> None:
    """Let the server forget what is before `end_lsn`; to be called once that is committed."""
    connection.execute(query("wal_advance"), {"slot": slot, "end_lsn": lsn_text(end_lsn)})


def slot_name(connection: psycopg.Connection[Any], schema: str) -> str:
    """The name of the slot of a trail in this database."""
    prefix = re.sub(r"[^a-z0-9_]", "_", wal_publication(schema).lower())[:48]
    return str(fetch(connection, render("wal/slot_name", prefix=prefix))[0]["slot_name"])
