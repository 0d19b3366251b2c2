"""Nothing is found where nothing was changed: many small runs, each of which ends where nobody chose.

A run is a burst of eight writers, with savepoints, rollbacks and prepared transactions that end at once or some runs
later, beside a sealer that is killed; in some, so is the server. Amid that or after it, the whole trail is verified
with all checkpoints that are kept outside. `SEAL_CLEAN_RUNS` is how many (nox -s seal-proof: 10 000), `SEAL_SEED`
another course of them.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.seals import new_key, read_outside, read_public, verify, write_key
from tests.plugins.cluster import directory_in_memory
from tests.plugins.database import AT_HOME
from tests.plugins.trail import audit, install_trail
from tests.seals.writers import (
    ORDERS,
    SETTINGS,
    WRITERS,
    start_command,
    start_sealer,
    transaction,
)

SEED = int(os.environ.get("SEAL_SEED", "1"))
RUNS = int(os.environ.get("SEAL_CLEAN_RUNS", "10"))
ONE_TRAIL = 25
"""Runs after which a new trail begins, and the server was killed once: so verifying all of it stays quick."""
BURST = 2
"""Transactions of each writer in a run."""
QUICKLY = "-c lock_timeout=50ms -c deadlock_timeout=10ms"
"""Writers give up soon: the rows of a prepared transaction stay locked until it ends."""


@dataclass
class Writer:
    """One of those that write at once, whatever becomes of the server."""

    number: int
    chance: random.Random
    connection: Any = None

    def burst(self, dsn: str) -> Counter[str]:
        """Some transactions, by how they ended."""
        ends: Counter[str] = Counter()
        for _ in range(BURST):
            time.sleep(self.chance.uniform(0, 0.04))
            try:
                self.connection = self.connection or psycopg.connect(
                    dsn, autocommit=True, options=QUICKLY
                )
                ends[transaction(self.connection, self.number, self.chance)] += 1
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                self.connection.execute("rollback")
                ends["rollback"] += 1
            except psycopg.OperationalError:
                self.connection = None
                ends["lost with the server"] += 1
        return ends

    def leave(self) -> None:
        """Close its connection."""
        if self.connection:
            self.connection.close()
            self.connection = None


@dataclass
class Runs:
    """A server, one trail after the other on it, and what happened so far."""

    cluster: Cluster
    folder: Path
    pool: ThreadPoolExecutor
    chance: random.Random
    writers: list[Writer]
    trail: int = 0
    """Its number."""
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def dsn(self) -> str:
        """The present trail."""
        return self.cluster.dsn(f"trail_{self.trail}")

    @property
    def kept(self) -> Path:
        """Its checkpoints."""
        return self.folder / f"kept_{self.trail}"

    def of_one_trail(self, number: int) -> None:
        """So many runs of a new trail, and its end: all is sealed, and commands find nothing, either."""
        self._begin_anew()
        killed = self.chance.randrange(number)
        for run in range(number):
            self._run(kill=run == killed)
        self._end_prepared(self._prepared(), share=1)
        for words in (self._seal(), self._verify(), ["reconcile"]):
            self._finds_nothing(words)
        assert self._verified() == 0
        [(batches,)] = self._execute("select count(*) from audit.seal_checkpoints")
        self.counts["batches of killed sealers"] += batches - 1

    def _execute(self, statement: str) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _begin_anew(self) -> None:
        for writer in self.writers:
            writer.leave()
        former, self.trail = self.trail, self.trail + 1
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
            connection.execute(f"drop database if exists trail_{former} with (force)".encode())
            connection.execute(f"create database trail_{self.trail} template clean".encode())
        self._execute(AT_HOME)

    def _run(self, *, kill: bool) -> None:
        prepared = self._prepared()
        amid = kill or self.chance.random() < 0.5
        with self._sealer():
            bursts = [self.pool.submit(writer.burst, self.dsn) for writer in self.writers]
            self._end_prepared(prepared, share=0.7)
            if kill:
                time.sleep(self.chance.uniform(0, 0.1))
                self.cluster.kill()
                self.cluster.start()
                self.counts["server killed"] += 1
            if amid:
                self._verified()
            for burst in bursts:
                self.counts += burst.result()
        if not amid:
            self._verified()

    @contextmanager
    def _sealer(self) -> Iterator[None]:
        """Seals batch after batch, until it is killed at any moment."""
        process = start_sealer(
            self.dsn,
            self.folder / "seal.key",
            self.kept,
            pause=self.chance.choice((0.001, 0.03)),
            patience=self.chance.choice((0, 0.5)),
        )
        try:
            yield
            process.join(self.chance.uniform(0, 0.2))
            assert process.exitcode is None, "the sealer ended"
        finally:
            process.kill()
            process.join()
        self.counts["sealer killed"] += 1

    def _prepared(self) -> list[str]:
        return [gid for (gid,) in self._execute("select gid from pg_prepared_xacts")]

    def _end_prepared(self, prepared: list[str], share: float) -> None:
        """End some of the transactions that runs before left prepared."""
        for gid in prepared:
            if self.chance.random() < share:
                end = self.chance.choice(("commit", "rollback"))
                self._execute(f"{end} prepared '{gid}'")
                self.counts[f"prepare late {end}"] += 1

    def _verified(self) -> int:
        """Verify all of the trail with all that is kept outside; how many events are not sealed."""
        keys, outside = read_public(self.folder / "seal.key.pub"), self._outside()
        with connect(self.dsn) as connection:
            report = verify(connection, "audit", keys=keys, outside=outside)
        assert report.findings == [], f"trail {self.trail}, seed {SEED}"
        self.counts["verified"] += 1
        self.counts["events verified"] += report.verified
        self.counts["checkpoints compared"] += report.outside
        return report.unsealed

    def _outside(self) -> list[tuple[str, str]]:
        """What sealers brought there; none may have come so far, or only to make the folder."""
        kept = any(self.kept.glob("*/[!.]*.checkpoint"))
        return read_outside([str(self.kept)]) if kept else []

    def _seal(self, *more: str) -> list[str]:
        key = str(self.folder / "seal.key")
        return ["seal", "--key", key, "--checkpoint-to", str(self.kept), *more]

    def _verify(self) -> list[str]:
        key = str(self.folder / "seal.key.pub")
        return ["verify", "--key", key, "--checkpoints", str(self.kept)]

    def _start(self, words: list[str]) -> Any:
        said, talk = self.folder / "said", self.folder / "talk"
        return start_command([*words, "--dsn", self.dsn], said, talk)

    def _said(self) -> str:
        """What the last command said."""
        files = (self.folder / "said", self.folder / "talk")
        return "".join(file.read_text() for file in files if file.exists())

    def _finds_nothing(self, words: list[str]) -> None:
        while True:
            process = self._start(words)
            process.join(300)
            if process.exitcode != 5:  # the server has yet to notice that the last sealer is gone
                break
        assert process.exitcode == 0, self._said()
        self.counts[words[0]] += 1


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    chance = random.Random(SEED)
    writers = [Writer(number, random.Random(chance.random())) for number in range(WRITERS)]
    memory = directory_in_memory()
    with (
        throwaway_cluster(settings=SETTINGS, directory=memory) as cluster,
        ThreadPoolExecutor(WRITERS) as pool,
    ):
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("create database clean")
        install_trail(cluster.dsn("clean"))
        with connect(cluster.dsn("clean")) as trail:
            trail.execute(ORDERS)
            audit(trail, "orders")
        write_key(tmp_path / "seal.key", new_key("example.com/shop"))
        yield Runs(cluster, tmp_path, pool, chance, writers)
        for writer in writers:
            writer.leave()


def test_nothing_is_found_in_any_run(runs: Runs) -> None:
    begun = time.monotonic()
    for done in range(0, RUNS, ONE_TRAIL):
        runs.of_one_trail(min(ONE_TRAIL, RUNS - done))
        print(f"{runs.counts['sealer killed']} runs, {time.monotonic() - begun:.0f} s", flush=True)
    print("\n".join(f"{count:9} {what}" for what, count in sorted(runs.counts.items())))
    assert runs.counts["batches of killed sealers"] >= RUNS // 20  # none need be in a few runs
    assert runs.counts["server killed"]
    assert runs.counts["prepare late commit"]
