"""A database of its own for every test, copied from a template in about 10 ms.

Tests that all need the same objects make a template of their own, once per run:

    @pytest.fixture(scope="session")
    def audited_template(template_database: TemplateDatabase) -> str:
        return template_database("audited", install_everything)  # called with the template's DSN

    @pytest.fixture
    def audited(make_database: MakeDatabase, audited_template: str) -> Database:
        return make_database(template=audited_template)
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from audit_toolkit.demo.binaries import psql_path
from tests.plugins.cluster import Server

EMPTY = "empty"
AT_HOME = """
    do $$
    begin
        if to_regclass('audit.home') is not null then
            update audit.home set database_oid = d.oid, database_name = d.datname
            from pg_database as d where d.datname = current_database();
        end if;
    end $$
"""
"""A copy of a trail is in another place than its template, which `audit check` would say."""
CLOSING_STEPS = 50

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True, slots=True)
class Database:
    """A database that belongs to one test."""

    name: str
    dsn: str
    connection: Connection
    """The connection of `execute`, in autocommit mode; its settings last as long as the test."""
    _bin_dir: Path | None = field(repr=False)
    _closing: ExitStack = field(repr=False)

    def connect(self, *, autocommit: bool = True, **options: Any) -> Connection:
        """One more connection; `options` as for `psycopg.connect`. The fixture closes it."""
        connection = psycopg.connect(self.dsn, autocommit=autocommit, **options)
        self._closing.callback(connection.close)
        return connection

    def execute(
        self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> list[TupleRow]:
        """Run SQL, several statements where there are no parameters; the rows of the last one."""
        cursor = self.connection.execute(query, params)
        while cursor.nextset():
            pass
        result = cursor.pgresult  # rows without columns, as of "select from t", have no description
        has_rows = result is not None and result.status == psycopg.pq.ExecStatus.TUPLES_OK
        return cursor.fetchall() if has_rows else []

    def psql(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a script in psql, which ends at the first error with code 3. No psql: a skip."""
        psql = psql_path(self._bin_dir)
        if psql is None:
            pytest.skip("psql is not installed")
        options = ["-X", "-v", "ON_ERROR_STOP=1", *arguments, "-d", self.dsn]
        return subprocess.run(
            [psql, *options], input=script, capture_output=True, encoding="utf-8", check=False
        )


class TemplateDatabase(Protocol):
    """Makes a template, the first time it is asked for: a name, and who fills it given its DSN."""

    def __call__(self, name: str, prepare: Callable[[str], None]) -> str:
        """The name, for `make_database`. `prepare` closes its connections before it returns."""
        ...


class MakeDatabase(Protocol):
    """Makes a database for the running test, any number of times."""

    def __call__(self, *, template: str = EMPTY) -> Database:
        """A copy of the template of that name, gone when the test is over."""
        ...


@dataclass(frozen=True, slots=True)
class Databases:
    """The databases of one run: created and dropped here, and nowhere else."""

    server: Server
    connection: Connection
    templates: dict[str, str] = field(default_factory=lambda: {EMPTY: "template0"})

    def add_template(self, name: str, prepare: Callable[[str], None]) -> str:
        """See `TemplateDatabase`."""
        if name not in self.templates:
            database = self.create(EMPTY)
            prepare(self.server.dsn(database))
            # Whoever is connected to a template keeps it from being copied.
            self._run("alter database {} with allow_connections false", database)
            self.templates[name] = database
        return name

    def create(self, template: str) -> str:
        """The name of a new database, one that no other run on this server uses."""
        name = f"audit_test_{secrets.token_hex(8)}"
        # Copying files is three times as fast as logging them (PostgreSQL 15), the default.
        strategy = " strategy file_copy" if self.server.version >= 15 else ""
        self._run("create database {} template {}" + strategy, name, self.templates[template])
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        # The server finds out that a session ended a moment after the client has closed it. Where
        # it has not, the drop waits in steps of 100 ms.
        for _ in range(CLOSING_STEPS):
            if not self._sessions(name):
                break
            time.sleep(0.001)
        self._run("drop database {} with (force)", name)

    def drop_templates(self) -> None:
        """Drop the templates that this run added."""
        for name, database in self.templates.items():
            if name != EMPTY:
                self.drop(database)

    def _sessions(self, name: str) -> int:
        query = "select from pg_stat_activity where datname = %s"
        return self.connection.execute(query, [name]).rowcount

    def _run(self, statement: str, *names: str) -> None:
        self.connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@pytest.fixture(scope="session")
def databases(cluster: Server) -> Iterator[Databases]:
    """The databases of the run."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        made = Databases(cluster, connection)
        # The first session of a database finds out about its catalogues, for each one that is copied from it.
        made.templates[EMPTY] = made.templates[made.add_template("visited", _visit)]
        yield made
        made.drop_templates()


def _visit(dsn: str) -> None:
    psycopg.connect(dsn).close()


@pytest.fixture(scope="session")
def template_database(databases: Databases) -> TemplateDatabase:
    """Call it with a name and a function that fills an empty database, once per run."""
    return databases.add_template


@pytest.fixture
def make_database(cluster: Server, databases: Databases) -> Iterator[MakeDatabase]:
    """Call it for a database that the test alone uses."""
    with ExitStack() as closing:

        def make(*, template: str = EMPTY) -> Database:
            name = databases.create(template)
            closing.callback(databases.drop, name)
            dsn = cluster.dsn(name)
            connection = psycopg.connect(dsn, autocommit=True)
            closing.callback(connection.close)
            connection.execute(AT_HOME)
            return Database(name, dsn, connection, cluster.bin_dir, closing)

        yield make


@pytest.fixture
def database(make_database: MakeDatabase) -> Database:
    """A new, empty database that the test alone uses."""
    return make_database()
