"""Reading a long trail: by index and by leaf, in memory that does not grow with it.

The default run has few events; `nox -s reading-proof` sets TRAIL_EVENTS=10000000.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from time import perf_counter
from typing import Any

import psycopg
import pytest

from audit_toolkit import trail
from audit_toolkit.connection import connect
from audit_toolkit.trail import time_travel
from benchmarks.history import EVENTS_OF_A_ROW, fill_history
from tests.archive.command import audit
from tests.plugins.cluster import Server
from tests.plugins.database import EMPTY, Database, Databases
from tests.plugins.trail import install_trail

EVENTS = int(os.environ.get("TRAIL_EVENTS", "50000"))
ROWS = EVENTS // EVENTS_OF_A_ROW
SMALL = 10_000


@pytest.fixture(scope="session")
def filled(cluster: Server, databases: Databases) -> Iterator[Callable[[int], Database]]:
    """A database with so many events. Tests only read it, so it is made once: copies of it take long."""
    with ExitStack() as closing:

        @cache
        def fill(events: int) -> Database:
            name = databases.create(EMPTY)
            closing.callback(databases.drop, name)
            dsn = cluster.dsn(name)
            install_trail(dsn)
            with connect(dsn) as connection:
                fill_history(connection, events)
            plain = closing.enter_context(psycopg.connect(dsn, autocommit=True))
            return Database(name, dsn, plain, cluster.bin_dir, closing)

        yield fill


@pytest.fixture
def long(filled: Callable[[int], Database]) -> Database:
    return filled(EVENTS)


@dataclass(slots=True)
class Reads:
    """What was read of the trail: of each leaf, rows from end to end and rows by an index."""

    one_by_one: Counter[str] = field(default_factory=Counter)
    by_index: Counter[str] = field(default_factory=Counter)


@contextmanager
def reading(connection: psycopg.Connection[Any]) -> Iterator[Reads]:
    """Count what is read inside the block."""
    reads = Reads()
    with connection.transaction():
        for sign in (-1, 1):
            counters = connection.execute(
                "select relname, seq_tup_read, coalesce(idx_tup_fetch, 0)"
                " from pg_stat_xact_user_tables where schemaname = 'audit'"
                " and relname like 'logged_actions%'"
            )
            for leaf, one_by_one, by_index in counters:
                reads.one_by_one[leaf] += sign * one_by_one
                reads.by_index[leaf] += sign * by_index
            if sign < 0:
                yield reads


def middle(long: Database, events: int = EVENTS) -> datetime:
    (moment,) = long.execute(
        "select action_tstamp from audit.logged_actions where event_id = %s", [events // 2]
    )[0]
    assert isinstance(moment, datetime)
    return moment


VERBS: dict[str, tuple[Callable[[psycopg.Connection[Any], datetime], Any], int]] = {
    # With the gap: events were there before capture was.
    "history": (lambda c, _: trail.history(c, "orders", 42), EVENTS_OF_A_ROW + 1),
    "history of a transaction": (
        lambda c, _: trail.history(c, "orders", transaction=1_000_000 + EVENTS // 30),
        EVENTS_OF_A_ROW,
    ),
    "newest of the table": (lambda c, _: trail.history(c, "orders", limit=100), 100),
    "blame": (lambda c, _: trail.blame(c, "orders", 42), 4),
    "row_at": (lambda c, at: trail.row_at(c, "orders", 42, at), 4),
    "transaction": (
        lambda c, _: trail.select_events(c, trail.Selection(transaction=1_000_000 + EVENTS // 30)),
        EVENTS_OF_A_ROW,
    ),
    "event": (lambda c, _: trail.select_events(c, trail.Selection(event_ids=(EVENTS // 3,))), 1),
    "revert": (
        lambda c, _: (
            trail.plan_revert(
                c, trail.Selection(transaction=1_000_000 + EVENTS // 10 - 1)
            ).plan.steps
        ),
        2,
    ),
    "restore": (lambda c, at: trail.plan_restore(c, "orders", 42, at=at).plan.steps, 2),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_leaf_is_read_from_end_to_end(long: Database, verb: str) -> None:
    ask, answers = VERBS[verb]
    with reading(long.connection) as reads:
        answer = ask(long.connection, middle(long))
        begin = perf_counter()
        ask(long.connection, middle(long))
        took = perf_counter() - begin
    print(f"\n{verb}, {EVENTS:,} events: {took * 1000:.1f} ms")
    assert len(answer) == answers
    assert reads.one_by_one.total() == 0
    assert 0 < reads.by_index.total() < 3000  # twice: a page looks at up to 1000 ids beside it


def test_what_few_changed_is_looked_up_row_by_row(long: Database) -> None:
    first, last = middle(long), middle(long, EVENTS + 6)
    with reading(long.connection) as reads:
        assert len(list(trail.diff(long.connection, "orders", first, last))) == 3
    assert reads.one_by_one.total() + reads.by_index.total() < 1000


def test_what_very_many_changed_is_read_at_once_however_long_the_trail(
    long: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten million events a million rows were looked up one by one."""
    monkeypatch.setattr(time_travel, "_MOST_LOOKED_UP", 50)
    monkeypatch.setattr(time_travel, "_EVENTS_PER_ROW", 1)
    first, last = middle(long), middle(long, EVENTS + 160)
    with reading(long.connection) as reads:
        assert len(list(trail.diff(long.connection, "orders", first, last))) == 80
    assert reads.one_by_one.total() + reads.by_index.total() > EVENTS


@pytest.mark.parametrize(
    "call",
    [
        "audit.row_at(null::orders, '42', %(at)s)",
        "audit.history('orders', '42')",
        "audit.row_image_at('public', 'orders', '42', %(at)s)",
        "audit.row_known_since('public', 'orders', '42')",
        "audit.warn_of_gap('public', 'orders', '42', %(at)s)",
        "audit.names_of('public', 'orders')",
    ],
)
def test_a_plan_that_is_kept_reads_by_index_too(long: Database, call: str) -> None:
    """After five calls in a session, plans are those that know no values."""
    sql, values = f"select count(*) from {call} as found", {"at": middle(long)}
    with psycopg.connect(long.dsn, autocommit=True) as connection:
        for _ in range(8):
            connection.execute(sql, values)
        with reading(connection) as reads:
            connection.execute(sql, values)
    assert reads.one_by_one.total() == 0
    assert 0 < reads.by_index.total() < 200


def test_time_prunes_leaves(long: Database) -> None:
    moment = middle(long)
    with reading(long.connection) as reads:
        recent = trail.history(long.connection, "orders", since=moment, actor="user:7")
    assert len(recent) == pytest.approx(EVENTS / 2 / 997, abs=2)
    bounds: dict[str, datetime] = dict(
        long.execute("select split_part(leaf::text, '.', 2), upper_bound from audit.leaves()")
    )
    read = {leaf for leaf, rows in reads.by_index.items() if rows > 2}
    assert read
    assert all(bounds[leaf] > moment for leaf in read)
    assert reads.one_by_one.total() == 0


@pytest.mark.thorough
def test_a_table_of_any_size_in_the_same_memory(filled: Callable[[int], Database]) -> None:
    peaks = {}
    for events in (SMALL, EVENTS):
        database, rows = filled(events), events // EVENTS_OF_A_ROW
        for output in ("csv", "jsonl"):
            [(moment, known)] = database.execute(
                "select t.now, (select count(*) from audit.table_at(null::orders, t.now)) from now() as t (now)"
            )
            assert known > rows / 2  # how many depends on the day of the month
            arguments = ("table-at", "orders", "--at", moment.isoformat(), "--format", output)
            text, peak = audit(*arguments, "--dsn", database.dsn)
            assert text.count("\n") == known + (output == "csv")
            peaks[rows, output] = peak
    print(f"\ntable-at, rows and format: peak in MB: {peaks}")
    for output in ("csv", "jsonl"):
        assert peaks[ROWS, output] < peaks[SMALL // EVENTS_OF_A_ROW, output] * 1.3
