"""Writers that commit late, roll back and prepare; consumers that are killed: nothing missed, in order per row.

Small by default; `nox -s stream-proof` runs a million events (`STREAM_EVENTS`), or what it can in `STREAM_MINUTES`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_toolkit.demo.cluster import throwaway_cluster
from audit_toolkit.trail.history.ordering import WINDOW
from tests.plugins.trail import audit, install_trail
from tests.stream.conftest import ORDERS

EVENTS = int(os.environ.get("STREAM_EVENTS", "1500"))
WRITERS = 16 if EVENTS > 10_000 else 6
INSTANCES = 3
ROWS = 40 if EVENTS <= 10_000 else 4000
MOST_ROWS = 3 if EVENTS <= 10_000 else 30
"""That a transaction changes."""
LONGEST_PAUSE = 0.2 if EVENTS <= 10_000 else 3.0
"""Seconds between two kills at most: to start an instance takes a core for some time, which writers want as well."""
MINUTES = float(os.environ.get("STREAM_MINUTES", "2" if EVENTS <= 10_000 else "inf"))
"""After which the writers end, however much they wrote."""
AMID = 1 if EVENTS <= 10_000 else 3
"""Kills in the middle of a delivery that they go on for, at least."""


@pytest.fixture
def dsn() -> Iterator[str]:
    """A server that can prepare transactions."""
    with throwaway_cluster(settings={"max_prepared_transactions": "20"}) as cluster:
        install_trail(cluster.dsn())
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(ORDERS)
            audit(connection, "orders")
            connection.execute(
                "insert into orders select n, 0 from generate_series(1, %s) n", [ROWS]
            )
        yield cluster.dsn()


def write(dsn: str, number: int, events: int, until: float, enough: threading.Event) -> None:
    """Commit so many events, in transactions of every kind, or more until it is enough; fewer when time is over."""
    chance = random.Random(number)
    with psycopg.connect(dsn) as connection:
        done = 0
        while (done < events or not enough.is_set()) and time.monotonic() < until:
            size = chance.choice([1, 2, 3, MOST_ROWS])
            rows = sorted(chance.sample(range(1, ROWS + 1), size))
            kind = chance.choice(["commit", "commit", "rollback", "savepoint", "prepare"])
            if kind == "prepare":
                connection.tpc_begin(f"{number} {done} {chance.random()}")
            with connection.cursor() as cursor:
                cursor.executemany(
                    "update orders set v = v + 1 where id = %s", [[row] for row in rows]
                )
            if chance.random() < 0.05:
                time.sleep(chance.random() / 50)
            if kind == "savepoint":
                connection.execute("savepoint s")
                connection.execute("update orders set v = -1 where id = %s", [rows[-1]])
                connection.execute("rollback to s")
            if kind == "prepare":
                connection.tpc_prepare()
                connection.tpc_commit()
            elif kind == "rollback":
                connection.rollback()
            else:
                connection.commit()
            done += len(rows) if kind != "rollback" else 0


HOLDER = """
    select a.application_name, c.leased_at::text
    from audit.consumers as c
    join pg_stat_activity as a on a.pid = c.lease_pid and a.backend_start <= c.leased_at
"""


class Instances:
    """Several instances of one consumer that append to one file; some are killed now and then."""

    def __init__(self, dsn: str, file: Path, connection: psycopg.Connection[Any]) -> None:
        self._command = [sys.executable, "-m", "audit_toolkit", "stream", "run", "c"]
        self._command += ["--to", f"file:{file}", "--batch", "100"]
        self._environment = {**os.environ, "AUDIT_DATABASE_URL": dsn}
        self._connection = connection
        self._file = file
        self._started = 0
        self.running = dict(self._start() for _ in range(INSTANCES))
        self.kills = self.amid = 0

    def wait_for_the_first(self) -> None:
        """Wait until one of them may deliver: before that, kills tell little."""
        deadline = time.monotonic() + 120
        while self._holder() is None:
            assert time.monotonic() < deadline, "no instance starts"
            time.sleep(0.02)

    def kill(self, name: str, *, amid: bool = False) -> None:
        """Kill it with -9, and start another one in its place."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.running |= [self._start()]
        self.kills += 1
        self.amid += amid

    def kill_amid(self, seconds: float) -> None:
        """Kill the one that delivers, right after it wrote something, within so many seconds."""
        until = time.monotonic() + seconds
        taken, size = self._holder(), self._file.stat().st_size
        while time.monotonic() < until:
            time.sleep(0.002)
            if self._file.stat().st_size > size:
                # What was written since it was looked for is its own where it has the lease still.
                if taken is not None and self._holder() == taken:
                    self.kill(taken[0], amid=True)
                    return
                taken, size = self._holder(), self._file.stat().st_size

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()

    def _holder(self) -> tuple[str, str] | None:
        """The instance with the lease, and since when it has it."""
        found: tuple[str, str] | None = self._connection.execute(HOLDER).fetchone()
        return found if found and found[0] in self.running else None

    def _start(self) -> tuple[str, subprocess.Popen[bytes]]:
        self._started += 1
        name = f"instance {self._started}"
        return name, subprocess.Popen(
            self._command,
            env={**self._environment, "PGAPPNAME": name},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def naive(dsn: str, seen: list[int], stop: threading.Event) -> None:
    """What everybody writes first."""
    query = "select event_id from audit.logged_actions where event_id > %s order by 1"
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not stop.wait(0.005):
            seen += [n for (n,) in connection.execute(query, [seen[-1] if seen else 0])]


def delivered(file: Path) -> Iterator[tuple[int, str]]:
    """The events of a file, and their rows; a million of them whole would need gigabytes."""
    with file.open() as lines:
        for line in lines:
            event = json.loads(line)
            yield event["event_id"], event["row_key"]


def test_every_committed_event_arrives_in_order(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    file.touch()
    seen: list[int] = []
    stop, enough = threading.Event(), threading.Event()
    chance = random.Random(1)
    with ExitStack() as stack, psycopg.connect(dsn, autocommit=True) as connection:
        instances = Instances(dsn, file, connection)
        stack.callback(instances.close)
        instances.wait_for_the_first()
        until = time.monotonic() + 60 * MINUTES
        writers = [
            threading.Thread(target=write, args=(dsn, n, EVENTS // WRITERS, until, enough))
            for n in range(WRITERS)
        ]
        watcher = threading.Thread(target=naive, args=(dsn, seen, stop))
        for thread in (watcher, *writers):
            thread.start()
        while any(thread.is_alive() for thread in writers):
            time.sleep(chance.random() * LONGEST_PAUSE)
            if chance.random() < 0.8:
                instances.kill_amid(5 if EVENTS <= 10_000 else 60)
            else:
                instances.kill(chance.choice(list(instances.running)))
            if instances.amid >= AMID:
                enough.set()
        stop.set()
        watcher.join()
        expected = [n for (n,) in connection.execute("select event_id from audit.logged_actions")]
        last = max(expected)
        deadline = time.monotonic() + 600
        place = "select event_id from audit.consumers where name = 'c'"
        while (connection.execute(place).fetchone() or (0,))[0] < last:
            assert time.monotonic() < deadline, "the consumer does not get on"
            time.sleep(0.1)
    arrived = list(delivered(file))
    times = Counter(event_id for event_id, _ in arrived)
    assert set(times) == set(expected)
    assert sum(times.values()) - len(times) <= instances.kills * 2 * WINDOW
    rows: dict[str, list[int]] = defaultdict(list)
    for event_id, row in arrived:
        if times[event_id] > 0:  # the first time that it came
            times[event_id] = 0
            rows[row].append(event_id)
    assert all(ids == sorted(ids) for ids in rows.values())
    assert set(expected) - set(seen), "who remembers the highest id has missed nothing: no proof"
    print(
        f"{len(expected)} events, {instances.kills} kills, {instances.amid} of them amid a delivery,"
        f" {len(arrived) - len(expected)} came again; a naive cursor missed {len(set(expected) - set(seen))}"
    )
