"""Every way to break an index, for real: statements cancelled, killed, deadlocked or out of room."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg

from tests.plugins.database import Connection, Database

LEAVES = ("events_2025", "events_2026", "events_tail")

TABLES = """
    create table events (id bigint, at date not null, actor text, body text)
        partition by range (at);
    create table events_2025 partition of events for values from ('2025-01-01') to ('2026-01-01');
    create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
    create table events_tail partition of events for values from ('2027-01-01') to (maxvalue);
    insert into events
        select n, date '2025-01-01' + (n % 900)::int, 'actor ' || n % 7, repeat('x', 20)
        from generate_series(1, 3000) n;
    create table people (id int primary key, name text, email text);
    insert into people select n, 'name ' || n, 'mail ' || n from generate_series(1, 1000) n;
    create index people_name_idx on people (name);
"""

VALIDITY = """
    select c.relname, i.indisvalid, i.indisready, i.indislive
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    where c.relnamespace = 'public'::regnamespace
    order by c.relname
"""


def flags(database: Database) -> dict[str, str]:
    """Every index of schema public as `vrl`: the letters of valid, ready and live that hold."""
    return {
        name: "".join(letter for letter, holds in zip("vrl", states, strict=True) if holds)
        for name, *states in database.execute(VALIDITY)
    }


def definitions(database: Database) -> dict[str, str]:
    """Every finished index of the database's own schemas: its name and its definition."""
    rows = database.execute(
        "select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) from pg_index i"
        " join pg_class c on c.oid = i.indexrelid"
        " where indisvalid and indisready and indislive and c.relnamespace ="
        " any (array['public', 'pg_toast']::regnamespace[])"
    )
    return dict(rows)


class Running:
    """A statement that runs in a session of its own until it ends or is stopped."""

    def __init__(self, database: Database, statement: str, *settings: str) -> None:
        self.database, self.statement = database, statement
        self.connection = database.connect()
        for setting in settings:
            self.connection.execute(setting)
        self.pid = self.connection.info.backend_pid
        self.error: psycopg.Error | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.connection.execute(self.statement)
        except psycopg.Error as error:
            self.error = error

    def wait_until_blocked(self) -> None:
        """Return once it waits for a lock or a transaction."""
        blocked = "select from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
        self._until(lambda: self.database.connection.execute(blocked, [self.pid]).rowcount == 1)

    def wait_for_phase(self, phase: str) -> None:
        """Return once it waits in that phase of pg_stat_progress_create_index."""
        query = "select from pg_stat_progress_create_index where pid = %s and phase = %s"
        self._until(
            lambda: self.database.connection.execute(query, [self.pid, phase]).rowcount == 1
        )
        self.wait_until_blocked()

    def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            assert self.thread.is_alive(), f"ended before it waited: {self.error}"
            self.database.execute("select pg_sleep(0.005)")

    def stop(self, how: str = "pg_cancel_backend") -> None:
        """Cancel it, or kill its session with `pg_terminate_backend`."""
        self.database.execute(f"select {how}({self.pid})")
        self.thread.join()
        assert self.error is not None, f"was not stopped: {self.statement}"

    def finish(self) -> None:
        """Let it end by itself."""
        self.thread.join()
        assert self.error is None, self.error


def writer(database: Database, table: str) -> Connection:
    """A session with an open transaction that wrote to the table."""
    connection = database.connect(autocommit=False)
    connection.execute(f"delete from {table} where false")
    return connection


def reader(database: Database, table: str) -> Connection:
    """A session with an open transaction that read the table and keeps no snapshot."""
    connection = database.connect(autocommit=False)
    connection.execute(f"select from {table} limit 1")
    return connection


def old_snapshot(database: Database) -> Connection:
    """A session with an open transaction that only keeps a snapshot."""
    connection = database.connect(autocommit=False)
    connection.execute("set transaction isolation level repeatable read")
    connection.execute("select 1")
    return connection


def stopped_before_build(
    database: Database, statement: str, table: str, how: str = "pg_cancel_backend"
) -> None:
    """Stop a CREATE INDEX or REINDEX CONCURRENTLY while it waits for writers to begin with."""
    with writer(database, table):
        running = Running(database, statement)
        running.wait_for_phase("waiting for writers before build")
        running.stop(how)


def stopped_in_validation(database: Database, statement: str) -> None:
    """Stop it when everything is built and it waits for old snapshots."""
    with old_snapshot(database):
        running = Running(database, statement)
        running.wait_for_phase("waiting for old snapshots")
        running.stop()


def stopped_after_swap(database: Database, statement: str, table: str) -> None:
    """Stop a REINDEX CONCURRENTLY when the new index is in place and the old one is still there."""
    with reader(database, table):
        running = Running(database, statement)
        running.wait_for_phase("waiting for readers before marking dead")
        running.stop()


def stopped_while_dropping(database: Database, statement: str, table: str) -> None:
    """Stop a REINDEX CONCURRENTLY when the old index is dead and not yet gone."""
    first = reader(database, table)
    running = Running(database, statement)
    running.wait_for_phase("waiting for readers before marking dead")
    with reader(database, table):
        first.rollback()
        running.wait_for_phase("waiting for readers before dropping")
        running.stop()


def drop_stopped(database: Database, index: str, table: str) -> None:
    """Stop a DROP INDEX CONCURRENTLY in its first wait: not used any more, but still maintained."""
    with reader(database, table):
        running = Running(database, f"drop index concurrently {index}")
        running.wait_until_blocked()
        running.stop()


def drop_stopped_late(database: Database, index: str, table: str) -> None:
    """Stop a DROP INDEX CONCURRENTLY in its second wait: the index is dead."""
    first = reader(database, table)
    running = Running(database, f"drop index concurrently {index}")
    running.wait_until_blocked()
    live = "select from pg_index where indexrelid = %s::regclass and indislive"
    with reader(database, table):
        first.rollback()
        while database.connection.execute(live, [index]).rowcount:
            assert running.thread.is_alive(), running.error
        running.wait_until_blocked()
        running.stop()


def deadlocked(database: Database, statement: str, table: str) -> None:
    """Let it fail with a deadlock: it waits for a writer that waits for its table lock."""
    lock = f"lock {table} in share update exclusive mode"
    gate, other = database.connect(autocommit=False), writer(database, table)
    gate.execute(lock)
    other.execute("set deadlock_timeout = '1min'")
    build = Running(database, statement, "set deadlock_timeout = '10ms'")
    build.wait_until_blocked()
    waiting = threading.Thread(target=other.execute, args=(lock,))
    waiting.start()
    blocked = "select from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
    while not database.connection.execute(blocked, [other.info.backend_pid]).rowcount:
        database.execute("select pg_sleep(0.005)")
    gate.rollback()
    build.thread.join()
    waiting.join()
    other.rollback()
    assert isinstance(build.error, psycopg.errors.DeadlockDetected)


def failing(database: Database, statement: str, *settings: str) -> None:
    """Run a statement that fails by itself."""
    running = Running(database, statement, *settings)
    running.thread.join()
    assert running.error is not None, f"did not fail: {statement}"


def execute_quietly(database: Database, *statements: str) -> None:
    """Run statements of which some may fail."""
    for statement in statements:
        with suppress(psycopg.Error):
            database.execute(statement)
