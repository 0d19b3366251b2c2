"""Writers whose transactions end in every way, and commands that are cheap to start, and to kill."""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from runpy import run_module
from typing import Any

from audit_toolkit.connection import connect
from audit_toolkit.errors import BusyError, ConnectError
from audit_toolkit.schema.captured_tables import note_coverage
from audit_toolkit.seals import open_sink, read_key, run_seal

WRITERS, KEYS = 8, 40
"""Each writer has so many rows, and now and then changes those of another."""
ORDERS = "create table orders (id int primary key, status text, note jsonb)"
SETTINGS = {
    "max_prepared_transactions": "100",
    "lock_timeout": "2s",
    "deadlock_timeout": "100ms",
    "synchronous_commit": "off",
    "wal_writer_delay": "10ms",
}
"""A commit may be lost with the server, but none that anything outside was built upon."""
CHANGES = (
    "insert into orders values ({key}, 'new', '{{\"n\": {number}}}') on conflict do nothing",
    "update orders set status = 's{number}' where id = {key}",
    "update orders set note = jsonb_build_object('n', {number}) where id = {key}",
    "update orders set id = -id where id = {key} and not exists (select from orders where id = -{key})",
    "delete from orders where id in ({key}, -{key})",
)
_START = get_context("forkserver")
_START.set_forkserver_preload(
    [
        *(f"audit_toolkit.cli.{name}" for name in ("app", "seal", "verify", "reconcile", "redact")),
        *("audit_toolkit.cli.maintain", "audit_toolkit.cli.archive.verify", "pyarrow.parquet"),
        *(
            "cryptography.hazmat.primitives.asymmetric.ed25519",
            "psycopg",
            "pytest",
            "rich.progress",
        ),
        *("cryptography.hazmat.primitives.serialization", __name__),
    ]
)


def start_command(words: list[str], said: Path, talk: Path) -> BaseProcess:
    """Start `audit` with these words; what it says goes to the two files.

    It is forked from a process that has imported what commands import, or most of the time would go there.
    """
    process = _START.Process(target=_command_line, args=(words, str(said), str(talk)))
    process.start()
    return process


def start_sealer(dsn: str, key: Path, kept: Path, *, pause: float, patience: float) -> BaseProcess:
    """Start what `audit seal --every` does, without the second that a command takes to start; it ends when killed."""
    process = _START.Process(target=_seal, args=(dsn, key, kept, pause, patience))
    process.start()
    return process


def _seal(dsn: str, key: Path, kept: Path, pause: float, patience: float) -> None:
    while True:
        with suppress(ConnectError, BusyError), connect(dsn) as connection:
            note_coverage(connection, "audit")
            run_seal(
                connection, "audit", read_key(key), sinks=[open_sink(str(kept))], wait=patience
            )
        time.sleep(pause)


def _command_line(words: list[str], said: str, talk: str) -> None:
    for stream, file in ((1, said), (2, talk)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = ["audit", *words]
    run_module("audit_toolkit", run_name="__main__")


def transaction(connection: Any, number: int, chance: random.Random) -> str:
    """One transaction of a writer, and how it ended."""
    connection.execute("begin")
    for savepoint in range(chance.randrange(1, 4)):
        connection.execute(f"savepoint s{savepoint}")
        for _ in range(chance.randrange(1, 4)):
            whose = number if chance.random() < 0.9 else chance.randrange(WRITERS)
            key = 1 + whose * KEYS + chance.randrange(KEYS)
            change = chance.choice(CHANGES)
            connection.execute(change.format(key=key, number=chance.randrange(10**6)))
        if chance.random() < 0.3:
            connection.execute(f"rollback to savepoint s{savepoint}")
    end = chance.choices(("commit", "rollback", "prepare"), (60, 25, 15))[0]
    gid = f"{number}-{chance.randrange(10**12)}"
    connection.execute(f"prepare transaction '{gid}'" if end == "prepare" else end)
    if end == "prepare" and chance.random() < 0.5:
        end += chance.choice((" commit", " rollback"))
        connection.execute(f"{end.split()[1]} prepared '{gid}'")
    return end
