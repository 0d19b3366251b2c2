"""Writers, a worker, and kill -9 of the worker, of a way back to triggers, and of the server again and again: each
change once, and in order. What a large transaction takes of memory, and how far the worker is behind under load.

`nox -s capture-proof` kills 50 times (`CAPTURE_KILLS`).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_toolkit.config import Capture
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from tests.plugins.cluster import directory_in_memory
from tests.plugins.proofs import ShowFigures
from tests.plugins.trail import audit, install_trail

KILLS = int(os.environ.get("CAPTURE_KILLS", "0"))
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


def start_worker(dsn: str) -> subprocess.Popen[bytes]:
    return start(dsn, "run", "--every", "0.05")


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


@pytest.mark.skipif(not KILLS, reason="CAPTURE_KILLS is not set")
def test_each_change_is_in_the_trail_once_whatever_is_killed(show_figures: ShowFigures) -> None:
    settings = {"wal_level": "logical"}
    with throwaway_cluster(directory=directory_in_memory(), settings=settings) as cluster:
        _prepare(cluster)
        ended, chance = threading.Event(), random.Random(0)
        threads = [
            threading.Thread(target=write, args=(cluster.dsn(), number, ended))
            for number in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        worker = start_worker(cluster.dsn())
        killed, back = {"worker": 0, "server": 0, "fallback": 0}, 0
        try:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.2, 2.5))
                draw = chance.random()
                if draw < 0.7:
                    worker.kill()
                    worker.wait()
                    killed["worker"] += 1
                    if draw < 0.3:
                        code = _go_back(cluster, chance.choice([chance.uniform(0.5, 6), None]))
                        killed["fallback"] += code < 0
                        back += code == 0
                else:
                    cluster.kill()
                    cluster.start()
                    killed["server"] += 1
                if worker.poll() is not None:
                    worker = start_worker(cluster.dsn())
        finally:
            ended.set()
            for thread in threads:
                thread.join()
            worker.kill()
            worker.wait()
        assert killed["worker"] + killed["server"] == KILLS
        assert start(cluster.dsn(), "run", "--once").wait() == 0
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
        f"{len(rows) // 2} changes, {killed['worker']} workers, {killed['server']} servers and {killed['fallback']} "
        f"ways back to triggers killed, {back} times back to triggers and to the WAL again: 0 missing, 0 double"
    )


def _go_back(cluster: Cluster, seconds: float | None) -> int:
    """Go back to triggers and to the WAL again; killed after so many seconds, else tried until it ends."""
    for _ in range(1 if seconds else 20):
        way_back = start(cluster.dsn(), "fallback", "--reason", "the proof")
        try:
            way_back.wait(seconds)
        except subprocess.TimeoutExpired:
            way_back.kill()
        code = way_back.wait()
        if code == 0:
            break
    while start(cluster.dsn(), "resume").wait():
        time.sleep(0.1)
    return code


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
