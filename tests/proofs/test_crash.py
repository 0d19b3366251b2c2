"""The server is killed in the middle of traffic: what was acknowledged has its events, nothing else has any."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import sql

from audit_toolkit.config import Capture, TableRule
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from tests.plugins.database import Connection
from tests.plugins.proofs import ShowFigures
from tests.plugins.replay import BrokenTrailError, Replay, read_events, require_equal, require_keys
from tests.plugins.seeds import some_quick
from tests.plugins.trail import install_trail
from tests.proofs.bench import PLAIN, install

WRITERS = 4
BETWEEN_KILLS = 400
"""Transactions that are acknowledged between two kills, at least."""

TABLE = "create table accounts (id bigint primary key, owner text, balance numeric(12, 2))"

Story = tuple[tuple[str, str, str | None], ...]

# What every committed transaction leaves: the row comes with 0, then is given its balance.
WHOLE: Story = (("I", "0.00", None), ("U", "7.50", "0.00"))


@dataclass(slots=True)
class Ledger:
    """What the writers know of their transactions; a key is used once."""

    started: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    rolled_back: set[int] = field(default_factory=set)
    lock: threading.Condition = field(default_factory=threading.Condition)
    keys: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**9)))
    over: bool = False

    def next_key(self) -> int:
        """A new key, noted as started."""
        with self.lock:
            key = next(self.keys)
            self.started.add(key)
            return key

    def note(self, key: int, *, committed: bool) -> None:
        """The server has said how a transaction ended."""
        with self.lock:
            (self.acknowledged if committed else self.rolled_back).add(key)
            self.lock.notify_all()

    def wait_for(self, acknowledged: int) -> None:
        """Wait until so many transactions are acknowledged."""
        with self.lock:
            reached = self.lock.wait_for(lambda: len(self.acknowledged) >= acknowledged, timeout=60)
        assert reached, "the writers made no progress"


def write(dsn: str, ledger: Ledger, seed: int) -> None:
    """Write until it is over; reconnect whenever the server has gone."""
    chance = random.Random(seed)
    while not ledger.over:
        with (
            suppress(psycopg.OperationalError),
            psycopg.connect(dsn, connect_timeout=5) as connection,
        ):
            while not ledger.over:
                write_one(connection, ledger, chance)


def write_one(connection: Connection, ledger: Ledger, chance: random.Random) -> None:
    """One transaction with two changes; three in ten are rolled back."""
    key = ledger.next_key()
    connection.execute(
        "insert into accounts values (%s, %s, 0)", (key, "x" * chance.randrange(3000))
    )
    connection.execute("update accounts set balance = 7.5 where id = %s", (key,))
    if chance.random() < 0.3:
        connection.rollback()
        ledger.note(key, committed=False)
    else:
        connection.commit()
        ledger.note(key, committed=True)


@contextmanager
def traffic(dsn: str, ledger: Ledger) -> Iterator[None]:
    """Several writers, as long as the block lasts."""
    writers = [
        threading.Thread(target=write, args=(dsn, ledger, number)) for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        ledger.over = True
        for writer in writers:
            writer.join()


def crash(cluster: Cluster, dsn: str, kills: int) -> Ledger:
    """Kill the server that often in the middle of traffic, and start it again; what the writers know then."""
    ledger = Ledger()
    with traffic(dsn, ledger):
        for number in range(1, kills + 1):
            ledger.wait_for(number * BETWEEN_KILLS)
            cluster.kill()
            cluster.start()
        ledger.wait_for((kills + 1) * BETWEEN_KILLS)
    return ledger


def stories(connection: Connection) -> dict[int, Story]:
    """What the trail tells of each key."""
    found: dict[int, Story] = {}
    query = """
        select row_key::bigint, action, new_row ->> 'balance', old_row ->> 'balance'
        from audit.logged_actions where table_name = 'accounts' order by event_id
    """
    for key, *event in connection.execute(query):
        found[key] = (*found.get(key, ()), tuple(event))
    return found


def check(connection: Connection, ledger: Ledger) -> None:
    """Raise `BrokenTrailError` for an acknowledged transaction without its events, or an event too much."""
    rows = {key for (key,) in connection.execute("select id from accounts")}
    told = stories(connection)
    if lost := ledger.acknowledged - rows:
        raise BrokenTrailError(f"acknowledged and not in the table: {sorted(lost)}")
    if missing := {key for key in rows if told.get(key) != WHOLE}:
        raise BrokenTrailError(f"committed without exactly their events: {sorted(missing)}")
    if extra := set(told) - rows:
        raise BrokenTrailError(f"events of transactions that never were: {sorted(extra)}")
    replay = Replay()
    events = read_events(connection, "public")["accounts"]
    replay.apply(events)
    require_keys(events, ("id",))
    require_equal(connection, "public.accounts", replay.rows)


@pytest.fixture(scope="module")
def victim() -> Iterator[Cluster]:
    with throwaway_cluster() as cluster:
        yield cluster


@contextmanager
def audited(cluster: Cluster, name: str, rule: TableRule) -> Iterator[Connection]:
    """A new database with the trail and an audited table."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    install_trail(cluster.dsn(name))
    with psycopg.connect(cluster.dsn(name), autocommit=True) as connection:
        connection.execute(PLAIN)
        connection.execute(TABLE)
        install(connection, "accounts", rule)
        yield connection


@pytest.mark.parametrize("capture", some_quick([Capture.ROW, Capture.STATEMENT], [Capture.ROW]))
def test_after_kills_every_acknowledged_change_has_its_events_and_nothing_else_has(
    victim: Cluster, capture: Capture, pytestconfig: pytest.Config, show_figures: ShowFigures
) -> None:
    asked: int = pytestconfig.getoption("--crash-kills")
    kills = asked // 2 + (asked % 2 if capture is Capture.ROW else 0)
    dsn = victim.dsn(capture)
    with audited(victim, capture, TableRule(capture=capture)):
        pass
    ledger = crash(victim, dsn, kills)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(PLAIN)
        check(connection, ledger)
    unknown = len(ledger.started) - len(ledger.acknowledged) - len(ledger.rolled_back)
    show_figures(
        f"{kills} kills, {len(ledger.acknowledged)} transactions acknowledged,"
        f" {len(ledger.rolled_back)} rolled back, {unknown} of unknown outcome; 0 missing, 0 extra"
    )


def test_control_a_trail_that_does_not_survive_a_crash_is_found(victim: Cluster) -> None:
    with audited(victim, "unlogged", TableRule()) as connection:
        leaves = connection.execute("select leaf::text from audit.leaves()").fetchall()
        for (leaf,) in leaves:
            connection.execute(f"alter table {leaf} set unlogged")
    ledger = crash(victim, victim.dsn("unlogged"), 1)
    with (
        psycopg.connect(victim.dsn("unlogged"), autocommit=True) as connection,
        pytest.raises(BrokenTrailError, match="committed without exactly their events"),
    ):
        check(connection, ledger)


def test_control_an_event_of_an_aborted_transaction_is_found(victim: Cluster) -> None:
    with audited(victim, "ghost", TableRule()) as connection:
        connection.execute(
            "insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row)"
            " values ('public', 'accounts', 'I', '7', '{}')"
        )
        with pytest.raises(BrokenTrailError, match="events of transactions that never were"):
            check(connection, Ledger())
