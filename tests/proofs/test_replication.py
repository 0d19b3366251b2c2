"""What arrives by logical replication is captured on the subscriber too, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from audit_toolkit.config import Capture, TableRule, Truncate
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from tests.plugins.database import Connection
from tests.plugins.replay import BrokenTrailError, Replay, read_events, require_equal, require_keys
from tests.plugins.trail import install_trail
from tests.proofs.bench import PLAIN, install

TABLE = "create table orders (id int primary key, status text, total float8, at timestamptz)"

TRAFFIC = (
    "insert into orders values (1, 'new', 0.30000000000000004, '2026-01-01 00:00+09'), (2, null, null, null)",
    "begin; insert into orders values (3, 'new', 1, 'infinity'); savepoint s; truncate orders; rollback to s; commit",
    "update orders set status = 'paid' where id = 1",
    "update orders set id = id + 10 where id > 1",
    "delete from orders where id = 12",
    "begin; insert into orders values (99, 'never', 0, now()); rollback",
)


def run(connection: Connection) -> None:
    """Some transactions, one of them aborted."""
    for transaction in TRAFFIC:
        connection.execute(transaction)


@pytest.fixture(scope="module")
def publisher() -> Iterator[Cluster]:
    """A server that can replicate logically, here from one of its databases to another."""
    settings = {"wal_level": "logical"}
    with throwaway_cluster(settings=settings) as cluster:
        yield cluster


@contextmanager
def replicated(
    cluster: Cluster, name: str, rule: TableRule
) -> Iterator[tuple[Connection, Connection]]:
    """A table in one database and its replica in another, which alone is audited."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        for role in ("source", "copy"):
            connection.execute(f'create database "{name}_{role}"')
    install_trail(cluster.dsn(f"{name}_copy"))
    with (
        psycopg.connect(cluster.dsn(f"{name}_source"), autocommit=True) as source,
        psycopg.connect(cluster.dsn(f"{name}_copy"), autocommit=True) as copy,
    ):
        for connection in (source, copy):
            connection.execute(PLAIN)
            connection.execute(TABLE)
        install(copy, "orders", rule)
        source.execute("create publication p for table orders")
        source.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
        copy.execute(
            f"create subscription {name} connection '{cluster.dsn(f'{name}_source')}' publication p"
            " with (create_slot = false, copy_data = false)"
        )
        wait_for_subscriber(source, name)
        yield source, copy
        copy.execute(f"drop subscription {name}")


def wait_for_subscriber(source: Connection, name: str) -> None:
    """Wait until the subscriber has applied all that was committed."""
    [(target,)] = source.execute("select pg_current_wal_lsn()")
    for _ in range(600):
        caught_up = source.execute(
            "select from pg_stat_replication where application_name = %s and replay_lsn >= %s",
            (name, target),
        ).fetchall()
        if caught_up:
            return
        source.execute("select pg_sleep(0.05)")
    raise AssertionError("the subscriber does not follow")


def test_replicated_rows_are_captured(publisher: Cluster) -> None:
    with replicated(publisher, "rows", TableRule()) as (source, copy):
        run(source)
        wait_for_subscriber(source, "rows")
        events = read_events(copy, "public")["orders"]
        replay = Replay()
        replay.apply(events)
        require_keys(events, ("id",))
        require_equal(copy, "public.orders", replay.rows)
        assert [event.action for event in events] == list("IIIUUUD")
        source.execute("truncate orders")
        wait_for_subscriber(source, "rows")
        assert read_events(copy, "public", events[-1].event_id)["orders"][0].action == "T"


def test_nothing_that_is_replicated_is_refused(publisher: Cluster) -> None:
    """The apply worker has no context: were it refused, replication would stand still."""
    rule = TableRule(require_context="actor", truncate=Truncate.FORBID)
    with replicated(publisher, "required", rule) as (source, copy):
        run(source)
        source.execute("truncate orders")
        wait_for_subscriber(source, "required")
        events = read_events(copy, "public")["orders"]
        assert [event.action for event in events] == list("IIIUUUDT")
        with pytest.raises(psycopg.Error, match="needs the key 'actor'"):
            copy.execute("insert into orders values (7)")


def test_statement_capture_does_not_see_replicated_rows(publisher: Cluster) -> None:
    """A limit of PostgreSQL: statement triggers do not fire for what is applied (docs/guarantees.md)."""
    with replicated(publisher, "statements", TableRule(capture=Capture.STATEMENT)) as (
        source,
        copy,
    ):
        run(source)
        wait_for_subscriber(source, "statements")
        assert read_events(copy, "public") == {}
        with pytest.raises(BrokenTrailError):
            require_equal(copy, "public.orders", Replay().rows)


def test_control_capture_that_is_not_always_enabled_misses_them(publisher: Cluster) -> None:
    with replicated(publisher, "origin", TableRule()) as (source, copy):
        copy.execute('alter table orders enable trigger "00_audit_row"')
        run(source)
        wait_for_subscriber(source, "origin")
        with pytest.raises(BrokenTrailError):
            require_equal(copy, "public.orders", Replay().rows)
