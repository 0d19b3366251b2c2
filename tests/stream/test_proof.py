"""Writers that commit late, roll back and prepare; consumers that are killed: nothing missed, in order per row.

Small by default; `nox -s stream-proof` runs a million events (`STREAM_EVENTS`).
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

import psycopg
import pytest

from audit_toolkit.demo.cluster import throwaway_cluster
from audit_toolkit.trail.history.ordering import WINDOW
from tests.plugins.trail import audit, install_trail
from tests.stream.conftest import ORDERS

EVENTS = int(os.environ.get("STREAM_EVENTS", "1500"))
WRITERS = 16 if EVENTS > 10_000 else 6
INSTANCES = 3
ROWS = 40 if EVENTS <= 10_000 else 400
LONGEST_PAUSE = 0.2 if EVENTS <= 10_000 else 2.0
"""Seconds between two kills at most: to start an instance takes a core for some time, which writers want as well."""


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


def write(dsn: str, number: int, events: int) -> None:
    """About so many events, in transactions of every kind."""
    chance = random.Random(number)
    with psycopg.connect(dsn) as connection:
        done = 0
        while done < events:
            rows = sorted(chance.sample(range(1, ROWS + 1), chance.randint(1, 3)))
            kind = chance.choice(["commit", "commit", "rollback", "savepoint", "prepare"])
            if kind == "prepare":
                connection.tpc_begin(f"{number} {done} {chance.random()}")
            for row in rows:
                connection.execute("update orders set v = v + 1 where id = %s", [row])
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
            done += len(rows)


class Instances:
    """Several instances of one consumer that append to one file; some are killed now and then."""

    def __init__(self, dsn: str, file: Path) -> None:
        self._command = [sys.executable, "-m", "audit_toolkit", "stream", "run", "c"]
        self._command += ["--to", f"file:{file}", "--batch", "100"]
        self._environment = {**os.environ, "AUDIT_DATABASE_URL": dsn}
        self.running = [self._start() for _ in range(INSTANCES)]
        self.kills = 0
        self._file, self._size = file, 0

    def wait_for_more(self, seconds: float) -> None:
        """Wait until something was delivered since the last time, so long at most: a kill before that tells little."""
        deadline = time.monotonic() + seconds
        while self._file.stat().st_size == self._size and time.monotonic() < deadline:
            time.sleep(0.005)
        self._size = self._file.stat().st_size

    def kill(self, place: int) -> None:
        """Kill it with -9, and start another one in its place."""
        self.running[place].send_signal(signal.SIGKILL)
        self.running[place].wait()
        self.running[place] = self._start()
        self.kills += 1

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            env=self._environment,
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
    stop = threading.Event()
    chance = random.Random(1)
    with ExitStack() as stack, psycopg.connect(dsn, autocommit=True) as connection:
        instances = Instances(dsn, file)
        stack.callback(instances.close)
        writers = [
            threading.Thread(target=write, args=(dsn, n, EVENTS // WRITERS)) for n in range(WRITERS)
        ]
        watcher = threading.Thread(target=naive, args=(dsn, seen, stop))
        for thread in (watcher, *writers):
            thread.start()
        while any(thread.is_alive() for thread in writers):
            instances.wait_for_more(5 if EVENTS <= 10_000 else 60)
            time.sleep(chance.random() * LONGEST_PAUSE)
            instances.kill(chance.randrange(INSTANCES))
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
        f"{len(expected)} events, {instances.kills} kills,"
        f" {len(arrived) - len(expected)} came again; a naive cursor missed {len(set(expected) - set(seen))}"
    )
