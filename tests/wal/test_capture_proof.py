"""Writers, a worker, and kill -9 of the worker and of the server again and again: each change once, and in order.

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

EVENTS = """
    select table_name, action, row_key, old_row_key, old_row::text, new_row::text, transaction_id::text
    from audit.logged_actions
    where action in ('I', 'U', 'D')
    order by event_id"""


def start_worker(dsn: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "audit_toolkit", "capture", "run", "--every", "0.05"]
    return subprocess.Popen([*command, "--dsn", dsn], stderr=subprocess.DEVNULL)


def write(dsn: str, writer: int, ended: threading.Event) -> None:
    """The same changes of two tables in each transaction, of keys that no other writer has."""
    chance = random.Random(writer)
    while not ended.is_set():
        try:
            with psycopg.connect(dsn) as connection:
                while not ended.is_set():
                    _write_once(connection, writer, chance)
        except psycopg.Error:
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
        worker, killed = start_worker(cluster.dsn()), {"worker": 0, "server": 0}
        try:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.2, 2.5))
                if chance.random() < 0.7:
                    worker.kill()
                    worker.wait()
                    killed["worker"] += 1
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
        assert sum(killed.values()) == KILLS
        subprocess.run(
            [
                sys.executable,
                "-m",
                "audit_toolkit",
                "capture",
                "run",
                "--once",
                "--dsn",
                cluster.dsn(),
            ],
            check=True,
        )
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
        f"{len(rows) // 2} changes, {killed['worker']} workers and {killed['server']} servers killed, "
        "0 missing, 0 double"
    )


def _prepare(cluster: Cluster) -> None:
    install_trail(cluster.dsn())
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        for table, capture in (("by_row", Capture.ROW), ("by_wal", Capture.WAL)):
            connection.execute(
                f"create table {table} (id int primary key, version int, padding text)"
            )
            audit(connection, table, capture=capture)
