"""Writers and a worker, while workers, ways back to triggers and servers are killed again and again, and workers are
paused and replaced: each change once, and in order. What a large transaction takes of memory, and how far the worker
is behind a server under load.

`nox -s capture-proof` kills 50 times (`CAPTURE_KILLS`).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_toolkit.config import Capture
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.errors import AuditError
from tests.plugins.cluster import directory_in_memory
from tests.plugins.proofs import ShowFigures
from tests.plugins.trail import audit, install_trail

KILLS = int(os.environ.get("CAPTURE_KILLS", "0"))
SEED = int(os.environ.get("CAPTURE_SEED", "0"))
WRITERS = 3
LOAD_SECONDS = int(os.environ.get("CAPTURE_LOAD_SECONDS", "30"))

EVENTS = """
    select table_name, action, row_key, old_row_key, old_row::text, new_row::text, transaction_id::text
    from audit.logged_actions
    where action in ('I', 'U', 'D')
    order by event_id"""

PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
LOAD = """
\\set k random(1, 100000)
insert into by_wal values (:k, 0, repeat('x', 50)) on conflict (id) do update set version = by_wal.version + 1;
"""


def start(dsn: str, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "audit_toolkit", "capture", *words, "--dsn", dsn]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


HASTY = """
import sys
from audit_toolkit.cli.app import app
from audit_toolkit.wal import one_worker
one_worker.LEASE_SECONDS = 2
app(sys.argv[1:])
"""
"""A worker that takes over soon from one that stands still."""


def start_worker(dsn: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HASTY, "capture", "run", "--every", "0.05", "--dsn", dsn]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write(dsn: str, writer: int, ended: threading.Event) -> None:
    """The same changes of two tables in each transaction, of keys that no other writer has."""
    chance = random.Random(writer)
    while not ended.is_set():
        try:
            with psycopg.connect(dsn) as connection:
                while not ended.is_set():
                    _write_once(connection, writer, chance)
        except (psycopg.Error, psycopg.Rollback):
            time.sleep(0.05)


def _write_once(connection: psycopg.Connection[Any], writer: int, chance: random.Random) -> None:
    rows = chance.choice([1, 1, 2, 5, 300])
    keys = [writer + WRITERS * chance.randrange(400) for _ in range(rows)]
    action = chance.choice(["upsert", "upsert", "delete", "move"])
    moved = chance.choice([-1, 1]) * keys[0]
    with connection.transaction():
        for table in ("by_row", "by_wal"):
            match action:
                case "upsert":
                    connection.execute(
                        f"insert into {table} select distinct k, 0, repeat('x', 50) from unnest(%s::int[]) as k"
                        " on conflict (id) do update set version = excluded.version + 1"
                        f" + {table}.version",
                        [keys],
                    )
                case "delete":
                    connection.execute(f"delete from {table} where id = any(%s)", [keys])
                case "move":
                    connection.execute(
                        f"update {table} set id = -id where id = %s",
                        [moved],
                    )
        if chance.random() < 0.1:
            raise psycopg.Rollback
    time.sleep(0.002)


def by_key(rows: list[tuple[Any, ...]], table: str) -> dict[str, list[tuple[Any, ...]]]:
    """The events of each row in their order."""
    found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for name, action, key, *rest in rows:
        if name == table:
            found[key].append((action, *rest))
    return found


@dataclass(slots=True)
class Proof:
    """A server with writers and a worker, all of which may die at any moment."""

    cluster: Cluster
    chance: random.Random
    worker: subprocess.Popen[bytes]
    killed: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)

    def kill_worker(self) -> None:
        self.worker.kill()
        self.worker.wait()
        self.killed["worker"] += 1

    def pause_worker(self) -> None:
        """Stop it wherever it is, until another one has taken over; then let it go on."""
        paused = self.worker
        paused.send_signal(signal.SIGSTOP)
        self.worker = start_worker(self.cluster.dsn())
        read = self._changes_read()
        until(lambda: self._changes_read() > read, "another worker has taken over")
        paused.send_signal(signal.SIGCONT)
        time.sleep(self.chance.uniform(0.5, 2))
        paused.kill()  # where it waits to be the one again
        paused.wait()
        self.done["paused"] += 1

    def _changes_read(self) -> int:
        self.see_to_worker()
        with psycopg.connect(self.cluster.dsn()) as connection:
            (row,) = connection.execute("select events from audit.capture_progress").fetchall()
        return int(row[0])

    def kill_server(self) -> None:
        self.cluster.kill()
        self.cluster.start()
        self.killed["server"] += 1

    def see_to_worker(self) -> None:
        if self.worker.poll() is not None:
            self.worker = start_worker(self.cluster.dsn())

    def await_worker(self) -> None:
        """Until the worker has taken the table over: before that, there is no way back to be tried."""
        self.see_to_worker()
        until(self.is_read_from_wal, "the worker took the table over")

    def is_read_from_wal(self) -> bool:
        self.see_to_worker()
        return self._ask("wal_since is not null")

    def is_with_triggers(self) -> bool:
        return self._ask("wal_since is null and fallback is not null")

    def _ask(self, condition: str) -> bool:
        query = f"select from audit.captured_tables where {condition} and function_name = 'capture_public__by_wal'"
        with psycopg.connect(self.cluster.dsn()) as connection:
            return bool(connection.execute(query).rowcount)

    def there_and_back(self) -> None:
        """Back to triggers by command and to the WAL again; what does it is killed, or the server under it."""
        self.kill_worker()
        for _ in range(self.chance.randrange(3)):
            self._try("fallback", "--reason", "the proof", may_die=True)
        until(
            lambda: self._try("fallback", "--reason", "the proof") == 0 or self.is_with_triggers(),
            "it is back",
        )
        time.sleep(self.chance.uniform(0.1, 0.5))  # while triggers record
        self._try("resume", may_die=True)
        until(lambda: self._try("resume") == 0, "the worker may take it over again")
        self.done["fallback"] += 1

    def _try(self, *words: str, may_die: bool = False) -> int:
        running = start(self.cluster.dsn(), *words)
        if may_die:
            with suppress(subprocess.TimeoutExpired):
                running.wait(self.chance.uniform(0.3, 3))
            if running.poll() is None and self.chance.random() < 0.3:
                self.kill_server()
            elif running.poll() is None:
                running.kill()
                self.killed["way back"] += 1
        return running.wait()

    def install_there_and_back(self) -> None:
        """As migrations to `--capture row` and `--capture wal` do it; the server may die under them."""
        for capture in (Capture.ROW, Capture.WAL):
            death = threading.Timer(self.chance.uniform(0, 2), self.kill_server)
            if self.chance.random() < 0.4:
                death.start()
            until(lambda: self._install(capture), f"it is captured by --capture {capture}")  # noqa: B023
            death.cancel()
            if death.is_alive():
                death.join()
            time.sleep(self.chance.uniform(0.1, 0.5))
        self.done["install"] += 1

    def _install(self, capture: Capture) -> bool:
        self.see_to_worker()
        try:
            with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
                audit(connection, "by_wal", capture=capture)
        except (psycopg.Error, AuditError):
            return False
        return True


def until(holds: Callable[[], bool], what: str) -> None:
    """Try until it holds, whatever is killed; a minute is more than it takes."""
    for _ in range(600):
        with suppress(psycopg.OperationalError):
            if holds():
                return
        time.sleep(0.1)
    pytest.fail(f"not in many tries: {what}")


@pytest.mark.skipif(not KILLS, reason="CAPTURE_KILLS is not set")
def test_each_change_is_in_the_trail_once_whatever_is_killed(show_figures: ShowFigures) -> None:
    settings = {"wal_level": "logical"}
    with throwaway_cluster(directory=directory_in_memory(), settings=settings) as cluster:
        _prepare(cluster)
        ended = threading.Event()
        threads = [
            threading.Thread(target=write, args=(cluster.dsn(), number, ended))
            for number in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        proof = Proof(cluster, random.Random(SEED), start_worker(cluster.dsn()))
        try:
            while proof.killed.total() < KILLS or len(proof.done) < 3:
                proof.await_worker()
                time.sleep(proof.chance.uniform(0.2, 2.5))
                draw = proof.chance.random()
                if draw < 0.25:
                    proof.kill_worker()
                elif draw < 0.4:
                    proof.pause_worker()
                elif draw < 0.6:
                    proof.kill_server()
                elif draw < 0.85:
                    proof.there_and_back()
                else:
                    proof.install_there_and_back()
        finally:
            ended.set()
            for thread in threads:
                thread.join()
            proof.worker.kill()
            proof.worker.wait()
        until(lambda: proof._try("run", "--once") == 0, "all is read")
        with psycopg.connect(cluster.dsn()) as connection:
            rows = connection.execute(EVENTS).fetchall()
            gaps = connection.execute(
                "select new_row from audit.logged_actions where action = 'G'"
            ).fetchall()
    assert gaps == []
    by_wal, by_row = by_key(rows, "by_wal"), by_key(rows, "by_row")
    different = {
        key: (
            [e for e in by_wal[key] if e not in by_row[key]],
            [e for e in by_row[key] if e not in by_wal[key]],
        )
        for key in {*by_wal, *by_row}
        if by_wal[key] != by_row[key]
    }
    assert not different
    show_figures(
        f"{len(rows) // 2} changes, {proof.killed['worker']} workers, {proof.killed['server']} servers and "
        f"{proof.killed['way back']} ways back killed; {proof.done['fallback']} times back to triggers and to the WAL "
        f"again by command, {proof.done['install']} by migration; {proof.done['paused']} workers paused and replaced: "
        "0 missing, 0 double"
    )


def memory_of_a_run(dsn: str) -> int:
    """The megabytes that a worker takes at most, which reads all there is."""
    worker = (sys.executable, "-m", "audit_toolkit", "capture", "run", "--once", "--dsn", dsn)
    # By a small process: what a parent takes counts as its child's, too.
    said = subprocess.run([sys.executable, "-c", PEAK, *worker], check=True, stdout=subprocess.PIPE)
    return int(said.stdout) // 1024


@pytest.mark.skipif(not KILLS, reason="CAPTURE_KILLS is not set")
def test_a_transaction_of_a_million_rows_takes_no_more_memory(show_figures: ShowFigures) -> None:
    with throwaway_cluster(settings={"wal_level": "logical"}) as cluster:
        _prepare(cluster)
        memory_of_a_run(cluster.dsn())
        used, recorded = [], 0
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            for rows in (1_000, 1_000_000):
                connection.execute(
                    f"insert into by_wal select n, 0, repeat('x', 50) from generate_series(1, {rows}) as n"
                )
                connection.execute("update by_wal set version = 1")
                connection.execute("delete from by_wal")
                used.append(memory_of_a_run(cluster.dsn()))
                recorded += 3 * rows
                counted = connection.execute(
                    "select count(*) from audit.logged_actions where action in ('I', 'U', 'D')"
                )
                assert counted.fetchone() == (recorded,)
    assert used[1] < used[0] + 48
    show_figures(f"a worker takes {used[0]} MB for 1,000 rows and {used[1]} MB for 1,000,000")


@pytest.mark.skipif(not KILLS, reason="CAPTURE_KILLS is not set")
def test_how_far_the_worker_is_behind_a_server_under_load(show_figures: ShowFigures) -> None:
    pgbench = next(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), None)
    if pgbench is None:
        pytest.skip("there is no pgbench")
    with throwaway_cluster(settings={"wal_level": "logical"}) as cluster:
        _prepare(cluster)
        script = cluster.data_dir.with_name("load.sql")
        script.write_text(LOAD)
        worker = start_worker(cluster.dsn())
        load = subprocess.Popen(
            [
                str(pgbench),
                "-n",
                "-c",
                "1",
                "-T",
                str(LOAD_SECONDS),
                "-f",
                str(script),
                cluster.dsn(),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        behind: list[float] = []
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            while load.poll() is None:
                behind.append(_seconds_until_recorded(connection, -len(behind) - 1))
                time.sleep(0.2)
        worker.kill()
        worker.wait()
        said = load.communicate()[0]
    (rate,) = (line for line in said.splitlines() if line.startswith("tps"))
    behind.sort()
    show_figures(
        f"{rate}; an event is there after {behind[len(behind) // 2]:.2f} s (median), {behind[-1]:.2f} s (most)"
    )


def _seconds_until_recorded(connection: psycopg.Connection[Any], key: int) -> float:
    connection.execute("insert into by_wal values (%s, 0, '')", [key])
    began = time.monotonic()
    recorded = """
        select from audit.logged_actions
        where schema_name = 'public' and table_name = 'by_wal' and row_key = %s"""
    while not connection.execute(recorded, [str(key)]).rowcount:
        time.sleep(0.01)
    return time.monotonic() - began


def _prepare(cluster: Cluster) -> None:
    install_trail(cluster.dsn())
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        for table, capture in (("by_row", Capture.ROW), ("by_wal", Capture.WAL)):
            connection.execute(
                f"create table {table} (id int primary key, version int, padding text)"
            )
            audit(connection, table, capture=capture)
