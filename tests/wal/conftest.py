"""A server of its own with wal_level = logical, and a slot for what its tables do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from audit_toolkit import wal
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from tests.plugins.database import Connection

SLOT = "the_slot"
PUBLICATION = 'odd "Name", too'


@dataclass(frozen=True, slots=True)
class Source:
    """A database with a slot and a publication."""

    cluster: Cluster
    connection: Connection

    def execute(self, query: str, params: Any = None) -> None:
        """SQL; one commit for each call without BEGIN."""
        self.connection.execute(query, params)

    def peek(self) -> list[bytes]:
        """All that the slot has, read by a connection of its own."""
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as reader:
            return list(wal.peek(reader, SLOT, PUBLICATION))

    def read(self) -> list[wal.Change | wal.Done]:
        """All changes of the slot."""
        return list(wal.read_changes(self.peek()))

    def changes(self) -> list[wal.Change]:
        """All changes, without the ends of transactions."""
        return [found for found in self.read() if isinstance(found, wal.Change)]


@pytest.fixture(scope="session")
def logical_cluster() -> Iterator[Cluster]:
    """The server; only the tests of this directory wait for it."""
    with throwaway_cluster(settings={"wal_level": "logical"}) as cluster:
        yield cluster


@pytest.fixture
def open_source(logical_cluster: Cluster) -> Iterator[Callable[..., Source]]:
    """Run DDL, then publish these tables with what they do from then on; all is gone after the test."""
    with closing(psycopg.connect(logical_cluster.dsn(), autocommit=True)) as connection:

        def opened(ddl: str, tables: str = "t", options: str = "") -> Source:
            connection.execute(ddl)
            name = sql.Identifier(PUBLICATION).as_string()
            more = f"with ({options})" if options else ""
            connection.execute(f"create publication {name} for table {tables} {more}")
            wal.create_slot(connection, SLOT)
            return Source(logical_cluster, connection)

        yield opened
    with psycopg.connect(logical_cluster.dsn(), autocommit=True) as connection:
        connection.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
        name = sql.Identifier(PUBLICATION)
        connection.execute(sql.SQL("drop publication if exists {}").format(name))
