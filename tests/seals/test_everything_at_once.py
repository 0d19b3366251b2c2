"""Everything that goes on in a trail at once, and kill -9 to all of it: no false alarm meanwhile, and none after.

Eight writers with savepoints, rollbacks and prepared transactions that end at once, within two seconds, or after a
crash; a sealer; redactions, unsigned ones at first; exports; days that go by, whose partitions are archived and
dropped; and beside them verify, reconcile and check (which is a part of maintain). `SEAL_KILLS` is how often the server
is killed (nox -s seal-proof: 100); so are the sealers, and some of the commands. `SEAL_SEED` is another course of it.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.seals import new_key, write_key
from tests.plugins.cluster import directory_in_memory
from tests.plugins.rotating import install
from tests.plugins.trail import audit
from tests.seals.writers import ORDERS, SETTINGS, WRITERS, start_command, transaction

PEOPLE = 5000
"""The first key of the rows whose notes are erased."""
HANGS = 900
"""Seconds after which a command is taken for one that never ends."""
EXPECTED = {
    # The clock of the test goes ahead, and is in the default of a column.
    "maintain": {"column_changed", "clock_behind"},
    # Whoever is killed leaves files in the archive, which the next run completes or removes.
    "archive verify": {"archive_stray_file", "archive_differs"},
}
"""What commands rightly find meanwhile."""


@dataclass
class Storm:
    """A server, what is kept outside of it, and what happened so far."""

    cluster: Cluster
    folder: Path
    chance: random.Random
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    over: threading.Event = field(default_factory=threading.Event)
    writes: Counter[str] = field(default_factory=Counter)
    """Transactions, by how they ended."""
    runs: Counter[str] = field(default_factory=Counter)
    """Commands, by name and how they ended."""
    alarms: list[str] = field(default_factory=list)
    people: int = 0
    erased: set[int] = field(default_factory=set)
    signs: bool = False
    """Whether redactions are signed."""

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def words(self, name: str) -> list[str]:
        """A command, but for the database."""
        key, archive = str(self.folder / "seal.key"), ["--archive", str(self.folder / "archive")]
        kept, public = str(self.folder / "kept"), ["--key", f"{key}.pub"]
        match name:
            case "maintain":
                clock = ["--now", self.now.isoformat(), "--trust-clock", "--interval", "day"]
                rotate = ["--retention", "2 days", "--quarantine", "1 day", "--ahead", "30"]
                return [name, *clock, *rotate, *archive, "--format", "json"]
            case "seal":
                return [name, "--key", key, "--checkpoint-to", kept]
            case "export":
                return ["archive", name, "--wait", "3", *archive]
            case "verify":
                return [name, *public, "--checkpoints", kept]
            case "verify --archive":
                return ["verify", *public, "--checkpoints", kept, *archive]
            case "archive verify":
                return ["archive", "verify", *public, *archive, "--format", "json"]
        return name.split()

    def run(self, name: str, *more: str, killed_after: float | None = None) -> int | None:
        """Run a command: its exit code, None if it was killed."""
        line = [*self.words(name), *more, "--dsn", self.cluster.dsn()]
        said, talk = (self.folder / f"{name}.{stream}" for stream in ("out", "err"))
        process = start_command(line, said, talk)
        process.join(killed_after or HANGS)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
            if killed_after is None:
                self.alarms.append(f"{name} did not end within {HANGS} s")
        else:
            self._judge(name, code, said.read_text(), talk.read_text())
        self.runs[f"{name}: {'killed' if code is None else code}"] += 1
        self.runs["seal: a batch"] += f"\n{said.read_text()}".count("\nsealed ")
        return code

    def _judge(self, name: str, code: int, said: str, talk: str) -> None:
        """Findings are alarms, all else that went wrong is counted."""
        found = json.loads(said) if name in EXPECTED and code in (1, 3) else {}
        kinds = {finding["kind"] for finding in found.get("findings", ())}
        self.runs.update(f"  {name}: {kind}" for kind in kinds)
        if kinds - EXPECTED.get(name, set()) or "Traceback" in talk or (code == 3 and not found):
            self.alarms.append(f"{name}: exit code {code}\n{said}\n{talk}")
        failed = [o["message"] for o in found.get("outcomes", ()) if o["result"] == "failed"]
        for why in failed or (talk.splitlines()[:1] if code not in (0, 3) else ()):
            self.runs[f"  {name}: {why[:120]}"] += 1


def write(storm: Storm, chance: random.Random, number: int) -> None:
    """What a writer does until the end, whatever becomes of the server."""
    while not storm.over.wait(0.1):
        with suppress(psycopg.Error), psycopg.connect(storm.cluster.dsn(), autocommit=True) as connection:  # fmt: skip
            while not storm.over.wait(chance.random() / 10):
                try:
                    storm.writes[transaction(connection, number, chance)] += 1
                except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                    connection.execute("rollback")
                    storm.writes["rollback"] += 1


def settle(storm: Storm, chance: random.Random) -> None:
    """End what was left prepared for more than a second, at the latest after a crash."""
    while not storm.over.wait(0.2):
        with suppress(psycopg.Error):
            end_prepared(storm, chance, "1 second")


def end_prepared(storm: Storm, chance: random.Random, older: str) -> None:
    for (gid,) in storm.execute(
        f"select gid from pg_prepared_xacts where prepared < clock_timestamp() - interval '{older}'"
    ):
        end = chance.choice(("commit", "rollback"))
        storm.execute(f"{end} prepared '{gid}'")
        storm.writes[f"prepare late {end}"] += 1


def seal(storm: Storm, chance: random.Random) -> None:
    """Sealers, one after the other, each of which is killed."""
    while not storm.over.is_set():
        storm.run("seal", "--every", "200ms", killed_after=chance.uniform(3, 20))


def change(storm: Storm, chance: random.Random) -> None:
    """What changes a trail in other ways than writers do."""
    for name in cycle(("redact", "maintain", "export")):
        if storm.over.is_set():
            return
        after = chance.uniform(0.5, 4) if chance.random() < 0.25 else None
        if name != "redact":
            storm.run(name, killed_after=after)
        elif storm.people:
            redact(storm, chance, after)


def redact(storm: Storm, chance: random.Random, after: float | None = None) -> int | None:
    """Erase the note of somebody, whose events may be in the archive by now."""
    who = PEOPLE + chance.randrange(storm.people)
    asked = ["orders", str(who), "--column", "note", "--reason", "asked to", "--apply"]
    signed = ["--key", str(storm.folder / "seal.key")] if storm.signs else []
    code = storm.run("redact", *asked, *signed, killed_after=after)
    if code == 0:
        storm.erased.add(who)
    return code


def look(storm: Storm, chance: random.Random) -> None:
    """What must find nothing."""
    for name in cycle(("verify", "reconcile", "verify --archive", "archive verify")):
        if storm.over.is_set():
            return
        storm.run(name, killed_after=chance.uniform(0.5, 4) if chance.random() < 0.1 else None)


@contextmanager
def raging(storm: Storm) -> Iterator[None]:
    """All of them at once, until the end of the block; raises what ends one of them before."""
    failed: list[BaseException] = []

    def guarded(work: Callable[..., None], seed: int, *more: Any) -> None:
        try:
            work(storm, random.Random(seed), *more)
        except BaseException as error:
            failed.append(error)

    works = [(work,) for work in (settle, seal, change, look)]
    threads = [
        threading.Thread(target=guarded, args=(work, storm.chance.randrange(10**6), *more))
        for work, *more in (*works, *((write, number) for number in range(WRITERS)))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        storm.over.set()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]


def let_two_days_go_by(storm: Storm) -> None:
    """After one to three more verifications the server is killed, at any moment."""
    goal = storm.runs["verify: 0"] + storm.chance.randrange(1, 4)
    ends = time.monotonic() + HANGS
    while storm.runs["verify: 0"] < goal and time.monotonic() < ends and not storm.alarms:
        time.sleep(0.1)
    time.sleep(storm.chance.uniform(0, 3))
    storm.cluster.kill()
    storm.cluster.start()
    storm.now += timedelta(days=2)
    storm.execute(f"update clock set at = '{storm.now.isoformat()}'")
    add_people(storm)


def add_people(storm: Storm) -> None:
    """Rows with notes to be erased."""
    first = PEOPLE + storm.people
    storm.execute(
        "insert into orders select n, 'new', jsonb_build_object('secret', n)"
        f" from generate_series({first}, {first + 2}) as n"
    )
    storm.people += 3


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[Storm]:
    chance = random.Random(int(os.environ.get("SEAL_SEED", "1")))
    with ExitStack() as stack:
        cluster = stack.enter_context(
            throwaway_cluster(settings=SETTINGS, directory=directory_in_memory())
        )
        install(cluster.dsn())
        with connect(cluster.dsn()) as connection:
            connection.execute(ORDERS)
            audit(connection, "orders")
        write_key(tmp_path / "seal.key", new_key("example.com/shop"))
        storm = Storm(cluster, tmp_path, chance)
        add_people(storm)
        assert (storm.run("seal"), storm.run("export")) == (0, 0)
        storm.runs.clear()
        yield storm


@pytest.mark.thorough
def test_nothing_that_goes_on_at_once_is_a_false_alarm(storm: Storm) -> None:
    kills = int(os.environ.get("SEAL_KILLS", "2"))
    with raging(storm):
        for number in range(kills):
            storm.signs = number * 2 >= kills
            let_two_days_go_by(storm)
            if storm.alarms:
                break
    print(f"\n{kills} kills of the server; transactions: {dict(sorted(storm.writes.items()))}")
    print("\n".join(f"{count:6} {what}" for what, count in sorted(storm.runs.items())))
    assert storm.alarms == [], "\n".join(storm.alarms)
    for one in ("verify: 0", "reconcile: 0", "seal: a batch"):
        assert storm.runs[one], one

    end_prepared(storm, storm.chance, "0")
    for name in ("seal", "export", "maintain"):  # which finish what was killed
        assert storm.run(name) in ((0, 3) if name == "maintain" else (0,)), name
    assert redact(storm, storm.chance) == 0
    assert storm.run("seal") == 0
    for name in ("verify", "verify --archive", "archive verify", "reconcile"):
        assert storm.run(name) == 0, storm.alarms
    assert storm.alarms == []
    erased = ",".join(map(str, storm.erased))
    [(events, redacted, seen)] = storm.execute(
        "select count(*), count(*) filter (where action = 'R'), count(*) filter (where"
        f" row_key = any('{{{erased}}}') and new_row -> 'note' ? 'secret') from audit.logged_actions"
    )
    [(dropped,)] = storm.execute(
        "select count(*) from audit.partition_lifecycle where state = 'dropped'"
    )
    print(f"{events} events in the trail, {redacted} redactions, {dropped} partitions dropped")
    assert seen == 0
