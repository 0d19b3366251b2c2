"""Writers and readers at work while partitions come and go."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from tests.plugins.rotating import Rotating

PROOF = "ROTATION_PROOF" in os.environ
WRITERS, READERS, MONTHS = (16, 4, 24) if PROOF else (4, 2, 8)
GIVE_UP = "1s"
"""Twice the lock timeout of the runs."""


@dataclass
class Load:
    """What the threads did."""

    writes: int = 0
    failures: list[str] = field(default_factory=list)
    longest: float = 0.0
    reads: int = 0
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def wrote(self, seconds: float) -> None:
        with self._mutex:
            self.writes += 1
            self.longest = max(self.longest, seconds)

    def read(self) -> None:
        with self._mutex:
            self.reads += 1

    def failed(self, error: Exception) -> None:
        with self._mutex:
            self.failures.append(f"{type(error).__name__}: {error}")


def write(dsn: str, load: Load, stop: threading.Event) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"set lock_timeout = '{GIVE_UP}'")
        while not stop.is_set():
            begun = time.monotonic()
            try:
                connection.execute("insert into orders (status) values ('new')")
            except psycopg.Error as error:
                load.failed(error)
            else:
                load.wrote(time.monotonic() - begun)
            stop.wait(0.005)


def read(dsn: str, load: Load, stop: threading.Event) -> None:
    """Read all of the trail, then sit idle in the transaction for longer than the lock timeout."""
    with psycopg.connect(dsn) as connection:
        while not stop.is_set():
            try:
                connection.execute("set transaction isolation level repeatable read")
                connection.execute("select count(*), min(action_tstamp) from audit.logged_actions")
                stop.wait(0.8)
                connection.commit()
            except psycopg.Error as error:
                load.failed(error)
                connection.rollback()
            load.read()
            stop.wait(0.2)


@contextmanager
def under_load(rotating: Rotating) -> Iterator[Load]:
    load, stop = Load(), threading.Event()
    jobs = [write] * WRITERS + [read] * READERS
    threads = [
        threading.Thread(target=job, args=(rotating.database.dsn, load, stop)) for job in jobs
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def events(rotating: Rotating) -> int:
    """All events, in leaves and in what was detached."""
    return sum(number for _, number in rotating.tables().values())


def deadlocks(rotating: Rotating) -> int:
    rotating.execute(
        "select pg_stat_force_next_flush()"
        if rotating.connection.info.server_version >= 150000
        else "select 1"
    )
    return int(
        rotating.execute(
            "select deadlocks from pg_stat_database where datname = current_database()"
        )[0][0]
    )
