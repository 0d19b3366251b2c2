"""A server for measuring, and what a statement costs the backend that runs it."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from audit_toolkit.demo.cluster import Cluster, throwaway_cluster

SETTINGS = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "full_page_writes": "off",  # a change's own WAL, not that of the last checkpoint
    "jit": "off",
    "max_connections": "100",
    "max_wal_size": "8GB",
    "shared_buffers": "512MB",
    "synchronous_commit": "off",
}
"""What differs from PostgreSQL's defaults, besides `fsync`, which every throwaway server has off."""


@contextmanager
def server(**more: str) -> Iterator[Cluster]:
    """A throwaway server that does nothing by itself while something is measured."""
    with throwaway_cluster(settings=SETTINGS | more) as cluster:
        yield cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a piece of work cost, per row."""

    cpu: float
    """Microseconds on a CPU, in the backend."""
    wal: float
    """Bytes of write-ahead log."""
    stored: float
    """Bytes that the database grew by, indexes included."""


def median_cost(costs: Sequence[Cost]) -> Cost:
    """The median of each figure by itself."""
    return Cost(
        cpu=statistics.median(cost.cpu for cost in costs),
        wal=statistics.median(cost.wal for cost in costs),
        stored=statistics.median(cost.stored for cost in costs),
    )


class Backend:
    """An autocommit connection together with the server process behind it."""

    def __init__(self, dsn: str) -> None:
        self.connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)
        self.database = self.connection.info.dbname
        self._schedstat = Path(f"/proc/{self.connection.info.backend_pid}/schedstat")

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def run(self, statement: str) -> None:
        """Run a statement, or several, in one transaction."""
        self.connection.execute(statement)

    def value(self, statement: str) -> Any:
        """The first column of the first row."""
        row = self.connection.execute(statement).fetchone()
        return None if row is None else row[0]

    def cpu_time(self) -> int:
        """Nanoseconds that the backend has been on a CPU: time that others took away is not in it."""
        return int(self._schedstat.read_text().split()[0])

    def measure(self, statement: str, rows: int) -> Cost:
        """Run a piece of work that changes so many rows."""
        wal, size = self._wal(), self._size()
        cpu = self.cpu_time()
        self.run(statement)
        cpu = self.cpu_time() - cpu
        return Cost(
            cpu=cpu / 1000 / rows,
            wal=(self._wal() - wal) / rows,
            stored=(self._size() - size) / rows,
        )

    def _wal(self) -> int:
        return int(self.value("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    def _size(self) -> int:
        return int(self.value("select pg_database_size(current_database())"))


class Databases:
    """The databases of a server: templates, and copies of them that are gone after use."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._numbers = count()

    def template(self, *scripts: str) -> str:
        """The name of a new database in which these scripts have run."""
        name = f"template_{next(self._numbers)}"
        self._execute("create database {}", name)
        with Backend(self.dsn(name)) as backend:
            for script in scripts:
                backend.run(script)
        return name

    def dsn(self, name: str) -> str:
        """Its address."""
        return self.cluster.dsn(name)

    @contextmanager
    def copy(self, template: str) -> Iterator[Backend]:
        """A connection to a new copy of a database that nobody is connected to."""
        name = f"copy_{next(self._numbers)}"
        self._execute("create database {} template {}", name, template)
        try:
            with Backend(self.cluster.dsn(name)) as backend:
                backend.run(read_sql("at_home"))
                yield backend
        finally:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Remove a database that nobody is connected to."""
        self._execute("drop database {}", name)

    def _execute(self, statement: LiteralString, *names: str) -> None:
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def read_sql(name: str) -> str:
    """The text of `sql/<name>.sql` of this package."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def processor() -> str:
    """The machine's processor in the words of its maker."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else "unknown"
