"""A server of its own with wal_level = logical, and a slot for what its tables do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from audit_toolkit import wal
from audit_toolkit.cli.app import app
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.wal.worker import Worker
from tests.plugins.cluster import Server, directory_in_memory
from tests.plugins.database import AT_HOME, EMPTY, Connection, Database, Databases
from tests.plugins.trail import Trail, install_trail

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
            return [data for batch in wal.peek(reader, SLOT, PUBLICATION) for data in batch]

    def read(self) -> list[wal.Change[wal.Row] | wal.Done]:
        """All changes of the slot."""
        return list(wal.read_changes(self.peek()))

    def changes(self) -> list[wal.Change[wal.Row]]:
        """All changes, without the ends of transactions."""
        return [found for found in self.read() if isinstance(found, wal.Change)]


@pytest.fixture(scope="session")
def logical_cluster() -> Iterator[Cluster]:
    """The server; only the tests of this directory wait for it."""
    settings = {
        "wal_level": "logical",
        "max_prepared_transactions": "4",
        "logical_decoding_work_mem": "64kB",  # so that large transactions are spilled, and read back
    }
    with throwaway_cluster(directory=directory_in_memory(), settings=settings) as cluster:
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


@dataclass(frozen=True, slots=True)
class WalTrail(Trail):
    """A database with the trail, on a server whose WAL can be read."""

    closing: ExitStack
    said: list[str] = field(default_factory=list)

    def worker(self, **cursors: Any) -> Worker:
        """A worker with connections of its own; `cursors` go to the one that writes."""
        writer, reader = (
            self.closing.enter_context(
                closing(psycopg.connect(self.database.dsn, autocommit=True, **options))
            )
            for options in (cursors, {})
        )
        return Worker(writer=writer, reader=reader, say=self.said.append, heartbeat=0)

    def read(self) -> int:
        """What `audit capture run --once` does; how many changes were read."""
        worker = self.worker()
        worker.start(wait=False)
        total, is_all = 0, False
        while not is_all:
            found = worker.turn()
            total, is_all = total + found.events, found.is_all
        worker.writer.close()
        return total

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """The events of rows of a table, without what differs between any two."""
        return self.execute(
            "select action, row_key, old_row_key, old_row::text, new_row::text from audit.logged_actions"
            " where table_name = %s and action in ('I', 'U', 'D', 'T') order by event_id",
            [table],
        )


def run(trail: Trail, *words: str, code: int = 0) -> str:
    """A command of `audit` on that database; what it says."""
    result = CliRunner().invoke(app, [*words, "--dsn", trail.database.dsn])
    assert result.exit_code == code, result.output
    return result.output


def kinds(trail: WalTrail) -> set[str]:
    """What `audit check` finds."""
    found = json.loads(run(trail, "check", "--format", "json", "--fail-on", "error"))
    return {finding["kind"] for finding in found["findings"]}


@pytest.fixture(scope="session")
def logical_templates() -> dict[str, str]:
    """What databases of that server are copied from; a test may kill the server, but not these."""
    return {EMPTY: "template0"}


@pytest.fixture
def logical_databases(
    logical_cluster: Cluster, logical_templates: dict[str, str]
) -> Iterator[Databases]:
    """The databases of that server."""
    with psycopg.connect(logical_cluster.dsn(), autocommit=True) as connection:
        version = connection.info.server_version // 10000
        server = Server(logical_cluster.dsn(), version, logical_cluster.bin_dir)
        made = Databases(server, connection, logical_templates)
        made.add_template("trail", install_trail)
        yield made


@pytest.fixture
def wal_trail(logical_databases: Databases) -> Iterator[WalTrail]:
    """A new database with the trail; its slot goes with it."""
    server = logical_databases.server
    with ExitStack() as stack:
        name = logical_databases.create("trail")
        stack.callback(logical_databases.drop, name)
        stack.callback(
            logical_databases.connection.execute,
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
            [name],
        )
        connection = stack.enter_context(
            closing(psycopg.connect(server.dsn(name), autocommit=True))
        )
        connection.execute(AT_HOME)
        database = Database(name, server.dsn(name), connection, server.bin_dir, stack)
        yield WalTrail(database, stack)
