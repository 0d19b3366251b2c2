"""Capture from the WAL beside triggers: what it costs who writes, and what the worker takes for a change."""

from __future__ import annotations

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from audit_toolkit.wal.worker import Worker
from benchmarks.arms import NONE, ROW, STATEMENT, WAL
from benchmarks.backend import Backend, Cost, Databases, median_cost
from benchmarks.compare import prepare
from benchmarks.goals import Goal
from benchmarks.operations import WARM_UP, Operation, restart_numbers, work
from benchmarks.report import goals_table, table

ARMS = (NONE, ROW, STATEMENT, WAL)
OPERATIONS = (Operation.INSERT_N, Operation.UPDATE_N, Operation.DELETE_N)
SETTINGS = {"wal_level": "logical"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the worker took for a change, in microseconds on a CPU."""

    python: float
    server: float
    """To decode the WAL, make images and insert events."""

    @property
    def total(self) -> float:
        """Both."""
        return self.python + self.server


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The medians of all rounds."""

    writing: dict[tuple[str, Operation], Cost]
    reading: dict[Operation, Reading]

    def net(self, arm: str, operation: Operation) -> Cost:
        """What an arm adds to the same change without any audit."""
        cost, floor = self.writing[arm, operation], self.writing[NONE.name, operation]
        return Cost(
            cpu=cost.cpu - floor.cpu, wal=cost.wal - floor.wal, stored=cost.stored - floor.stored
        )

    def total(self, operation: Operation) -> float:
        """The CPU of writers and of the worker, of that of row mode."""
        written = max(self.net(WAL.name, operation).cpu, 0) + self.reading[operation].total
        return written / self.net(ROW.name, operation).cpu


def measure(databases: Databases, *, rows: int, rounds: int, say: Callable[[str], None]) -> Found:
    """Each round runs every arm once, on a new copy of its database."""
    templates = {arm.name: prepare(databases, arm) for arm in ARMS}
    writing: defaultdict[tuple[str, Operation], list[Cost]] = defaultdict(list)
    reading: defaultdict[Operation, list[Reading]] = defaultdict(list)
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}: {len(ARMS)} arms, {rows} rows a statement")
        for arm in random.sample(ARMS, len(ARMS)):
            with databases.copy(templates[arm.name]) as backend:
                if arm is not WAL:
                    for operation, cost in _written(backend, rows).items():
                        writing[arm.name, operation].append(cost)
                    continue
                with closing(_Pair(databases.dsn(backend.database))) as pair:
                    for operation, cost in _written(backend, rows, pair, reading).items():
                        writing[arm.name, operation].append(cost)
    return Found(
        writing={key: median_cost(costs) for key, costs in writing.items()},
        reading={
            operation: Reading(
                python=statistics.median(one.python for one in found),
                server=statistics.median(one.server for one in found),
            )
            for operation, found in reading.items()
        },
    )


class _Pair:
    """A worker and its two connections."""

    def __init__(self, dsn: str) -> None:
        self._writer, self._reader = Backend(dsn), Backend(dsn)
        self._worker = Worker(
            writer=self._writer.connection, reader=self._reader.connection, heartbeat=0
        )
        self._worker.start()
        self.read()

    def read(self) -> int:
        """All that there is; how many changes."""
        total, is_all = 0, False
        while not is_all:
            found = self._worker.turn()
            total, is_all = total + found.events, found.is_all
        return total

    def measure(self, rows: int) -> Reading:
        """Read so many changes."""
        # A commit that flushes those of the others.
        self._writer.run("select pg_logical_emit_message(true, 'flush', '')")
        server, python = self._server_time(), time.process_time()
        read = self.read()
        if read != rows:
            raise RuntimeError(f"{read} changes were read of {rows}")
        python = time.process_time() - python
        return Reading(
            python=python * 1e6 / rows, server=(self._server_time() - server) / 1000 / rows
        )

    def close(self) -> None:
        """End, and let the database be dropped."""
        self._reader.connection.close()
        self._writer.run(f"select pg_drop_replication_slot('{self._worker.slot}')")
        self._writer.connection.close()

    def _server_time(self) -> int:
        return self._writer.cpu_time() + self._reader.cpu_time()


def _written(
    backend: Backend,
    rows: int,
    pair: _Pair | None = None,
    reading: defaultdict[Operation, list[Reading]] | None = None,
) -> dict[Operation, Cost]:
    """The operations on an empty table, after a warm-up; what they wrote is read in between."""
    costs = {}
    for count in (WARM_UP, rows):
        restart_numbers(backend, NONE.shape)
        for operation in OPERATIONS:
            costs[operation] = backend.measure(work(NONE, operation, first=1, last=count), count)
            if pair is not None and reading is not None:
                read = pair.measure(count)
                if count == rows:
                    reading[operation].append(read)
    return costs


def goals(found: Found) -> list[Goal]:
    """Goal 8, the worst of all operations."""

    def worst(words: str, limit: float, measured: Callable[[Operation], float]) -> Goal:
        reached = {operation: measured(operation) for operation in OPERATIONS}
        where = max(reached, key=lambda operation: reached[operation])
        return Goal(number=8, words=words, reached=reached[where], limit=limit, where=where)

    def of_row(measured: Callable[[Cost], float]) -> Callable[[Operation], float]:
        return lambda operation: (
            measured(found.net(WAL.name, operation)) / measured(found.net(ROW.name, operation))
        )

    return [
        worst("CPU of a write with --capture wal, of row mode", 0.1, of_row(lambda cost: cost.cpu)),
        worst(
            "WAL of a write with --capture wal, of row mode", 0.25, of_row(lambda cost: cost.wal)
        ),
        worst("all CPU of --capture wal with its worker, of row mode", 1.2, found.total),
        worst("CPU of the worker, us a change", 50, lambda one: found.reading[one].total),
    ]


def as_text(found: Found) -> str:
    """Tables for a page in Markdown."""
    nets = [
        (arm.name, *(f"{net.cpu:.1f} us, {net.wal:.0f} B" for net in _nets(found, arm.name)))
        for arm in ARMS[1:]
    ]
    read = [
        (
            operation,
            f"{one.python:.1f}",
            f"{one.server:.1f}",
            f"{1e6 / one.total:,.0f}",
            f"{found.total(operation):.2f}",
        )
        for operation, one in found.reading.items()
    ]
    parts = (
        table(("net of no audit, a row", *OPERATIONS), nets),
        table(
            ("the worker, us a change", "Python", "server", "a second of one core", "all, of row"),
            read,
        ),
        goals_table(goals(found)),
    )
    return "\n".join(parts)


def _nets(found: Found, arm: str) -> list[Cost]:
    return [found.net(arm, operation) for operation in OPERATIONS]
