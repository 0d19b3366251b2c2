"""A server with wal_level = logical, a database with a trail on it for each test, and its witness."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import sql

from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.witness import Found, Round, Witness
from audit_toolkit.witness.tables import Watched
from tests.plugins.database import AT_HOME, Connection, Database
from tests.plugins.trail import Trail, install_trail

TEMPLATE = "witnessed"


@dataclass
class Watch:
    """A trail with its witness; every round is one of `look`."""

    trail: Trail
    cluster: Cluster
    _stack: ExitStack = field(repr=False)
    _witness: Witness | None = None

    def execute(self, query: str, params: object = None) -> list[tuple[object, ...]]:
        """SQL, one commit for each call without BEGIN."""
        return self.trail.execute(query, params)

    def audit(self, name: str, **rule: object) -> None:
        """Install capture on a table."""
        self.trail.audit(name, **rule)

    def begin(self) -> Witness:
        """Start the witness, in place of the one before."""
        self.end()
        connection = self._stack.enter_context(connect(self.trail.database.dsn))
        moments = iter(range(0, 10**9, 100))  # so that every round looks at everything
        self._witness = Witness(connection, clock=lambda: float(next(moments)))
        self._witness.round()
        return self._witness

    def end(self) -> None:
        """The witness is gone."""
        if self._witness is not None:
            self._witness.close()
            self._witness = None

    def look(self) -> Round:
        """What the witness finds now."""
        assert self._witness is not None
        return self._witness.round()

    def found(self) -> list[Found]:
        """The findings of a look."""
        return [one for _, one in self.look().found]

    def tables(self) -> list[Watched]:
        """What the witness knows of tables."""
        assert self._witness is not None
        return list(self._witness.state.tables.values())


@pytest.fixture(scope="session")
def logical_cluster() -> Iterator[Cluster]:
    """The server, with the template."""
    with throwaway_cluster(
        settings={
            "wal_level": "logical",
            "max_replication_slots": "20",
            "max_prepared_transactions": "4",
        }
    ) as one:
        with psycopg.connect(one.dsn(), autocommit=True) as connection:
            connection.execute(f"create database {TEMPLATE}")
        install_trail(one.dsn(TEMPLATE))
        yield one


@contextmanager
def database_of(cluster: Cluster, stack: ExitStack) -> Iterator[Database]:
    """A database with a trail, gone with its slots afterwards."""
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"create database {name} template {TEMPLATE}")
    connection: Connection = psycopg.connect(cluster.dsn(name), autocommit=True)
    try:
        connection.execute(AT_HOME)
        yield Database(name, cluster.dsn(name), connection, None, stack)
    finally:
        stack.close()
        connection.close()
        with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
            admin.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
                [name],
            )
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def trail(logical_cluster: Cluster) -> Iterator[Trail]:
    """A new database with the trail, on the server that can decode its WAL."""
    with ExitStack() as stack, database_of(logical_cluster, stack) as database:
        yield Trail(database)


@pytest.fixture
def watch(trail: Trail, logical_cluster: Cluster) -> Iterator[Watch]:
    """A trail and its witness, which `begin` starts."""
    with ExitStack() as stack:
        one = Watch(trail, logical_cluster, stack)
        yield one
        one.end()


def unjudged(watch: Watch) -> dict[str, int]:
    """What a look could not judge, by reason; it finds nothing."""
    seen = watch.look()
    assert [(one.message, one.event_ids) for _, one in seen.found] == []
    assert seen.is_at_end
    return {why: number for (_, why), number in seen.unjudged.items()}
