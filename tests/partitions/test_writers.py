"""Rotation under load: writers, long readers and sessions idle in transaction, while months go by.

The default run is a short one. The whole proof (16 writers, 24 months) is `nox -s rotation-proof`, which sets
ROTATION_PROOF=1. The clock that the trail's default asks is moved between runs. A write that waits for twice
the lock timeout of maintenance gives up: it fails, and is counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
import pytest

from audit_toolkit.capture import check_rule, plan_capture, select_tables
from audit_toolkit.catalog import read_relations, read_table
from audit_toolkit.config import TableRule
from audit_toolkit.partitions import Policy
from audit_toolkit.plan import apply
from tests.partitions.conftest import START, Rotating, months
from tests.plugins.trail import SCHEMA

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


@pytest.fixture
def orders(rotating: Rotating) -> Rotating:
    """A trail with an audited table that the writers write to."""
    rotating.execute("create table orders (id bigint generated always as identity, status text)")
    relation = select_tables(read_relations(rotating.connection), ["orders"], trail_schema=SCHEMA)
    table = read_table(rotating.connection, relation[0])
    apply(plan_capture(check_rule(table, TableRule()), SCHEMA), rotating.connection)
    return rotating


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


def test_months_of_rotation_under_load(orders: Rotating) -> None:
    now, results, created = START, [], 0
    orders.policy = Policy(retention=months(3), drop=False)
    with under_load(orders) as load:
        for _ in range(MONTHS):
            now += timedelta(days=30)
            orders.execute("update clock set at = %s", [now])
            results += orders.run(now)
    # What waited for a reader comes with the next run; after two more, nothing is left.
    results += orders.run(now) + orders.run(now)
    failed = [outcome.message for outcome in results if outcome.result == "failed"]
    created = sum(outcome.stage == "create" for outcome in results)
    detached = sum(outcome.stage == "detach" for outcome in results)
    print(
        f"\n{MONTHS} months, {WRITERS} writers, {READERS} readers: {load.writes} writes,"
        f" {len(load.failures)} failed, the longest took {load.longest * 1000:.0f} ms;"
        f" {load.reads} reads; {created} creations, {detached} detaches, {len(failed)} tries failed;"
        f" {deadlocks(orders)} deadlocks"
    )
    assert load.failures == []
    assert events(orders) == load.writes == orders.execute("select count(*) from orders")[0][0]
    assert deadlocks(orders) == 0
    assert detached >= MONTHS - 4
    assert created >= 2
    assert orders.findings() == {}


def test_a_tail_in_use_is_relabelled_under_load(orders: Rotating) -> None:
    """Maintenance was dead for a year, and comes back while everybody writes into the tail."""
    now = START + timedelta(days=365)
    orders.execute("update clock set at = %s", [now])
    with under_load(orders) as load:
        while load.writes < 50:
            time.sleep(0.01)
        tail = orders.read().tail
        assert tail is not None
        assert tail.has_rows
        outcomes = orders.run(now)
        while any(outcome.result != "done" for outcome in outcomes):
            outcomes = orders.run(now)
        written = load.writes
        while load.writes < written + 50:
            time.sleep(0.01)
    print(
        f"\nrelabelled under {WRITERS} writers: {load.writes} writes, {len(load.failures)} failed,"
        f" the longest took {load.longest * 1000:.0f} ms"
    )
    assert load.failures == []
    assert events(orders) == load.writes
    assert orders.findings() == {}
