"""Whoever dies during a redaction or a seal, and whenever: nothing is half erased, and the next run completes it.

`ERASURE_PROOF=1` (nox -s erasure-proof) dies before every statement and every step in the archive; so does the server.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest

from audit_toolkit.archive import (
    Archives,
    Store,
    archive_leaf,
    check_catalogue,
    newest,
    read_back,
    read_catalogue,
    read_expected,
    read_manifests,
    seal_problems,
)
from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.partitions import read_partitions
from audit_toolkit.seals import (
    new_key,
    open_sink,
    read_key,
    read_outside,
    read_public,
    run_seal,
    verify,
    write_key,
)
from audit_toolkit.trail import Erasure, redact
from tests.seals.conftest import fill

THOROUGH = bool(os.environ.get("ERASURE_PROOF"))
proof = pytest.mark.skipif(not THOROUGH, reason="set ERASURE_PROOF=1")
FIRST = 30
"""The first row that is erased; each death gets a row of its own."""


class DeadError(BaseException):
    """What comes after is done by nobody."""


class Deaths:
    """Counts statements and steps in the store, and has something happen before one of them."""

    def __init__(self, at: int, act: Callable[[], None], *, of_client: bool) -> None:
        self.at, self.act, self.of_client = at, act, of_client
        self.count = 0
        self.dead = False
        self.connections: list[Any] = []

    def step(self, connection: Any = None) -> None:
        """One more."""
        if connection is not None and connection not in self.connections:
            self.connections.append(connection)
        if self.dead:
            raise DeadError
        self.count += 1
        if self.count == self.at:
            self.act()
            if self.of_client:
                self.dead = True
                for one in self.connections:
                    one.pgconn.finish()
                raise DeadError


@contextmanager
def dying(deaths: Deaths) -> Iterator[None]:
    """Count, until the end of the block."""
    with pytest.MonkeyPatch.context() as patch:

        def counted(owner: type, name: str, find: Callable[[Any], Any]) -> None:
            original = getattr(owner, name)

            def step(self: Any, *arguments: Any, **options: Any) -> Any:
                deaths.step(find(self))
                return original(self, *arguments, **options)

            patch.setattr(owner, name, step)

        counted(psycopg.Cursor, "execute", lambda cursor: cursor.connection)
        counted(psycopg.Cursor, "copy", lambda cursor: cursor.connection)
        counted(psycopg.Connection, "_exec_command", lambda connection: connection)
        for name in ("create", "remove", "has"):
            counted(Store, name, lambda _: None)
        yield


class Shop:
    """A sealed trail, most of it archived, and its place outside."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn, self.folder = dsn, folder
        self.key, self.kept = folder / "seal.key", folder / "kept"
        self.store = Store.open(str(folder / "archive"))
        write_key(self.key, new_key("example.com/shop"))
        self.seal()
        self.execute("insert into orders select n, 'new', null from generate_series(7000, 7003) n")
        self._archive()

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def seal(self) -> None:
        with connect(self.dsn) as connection:
            run_seal(
                connection, "audit", read_key(self.key), sinks=[open_sink(str(self.kept))], wait=9
            )

    def _archive(self) -> None:
        self.seal()
        [(leaf, bounds)] = self.execute(
            "select c.oid::regclass::text, pg_get_expr(c.relpartbound, c.oid) from pg_class as c "
            "where c.oid = (select tableoid from audit.logged_actions limit 1)"
        )
        name = leaf.split(".")[1]
        self.execute(f"alter table audit.logged_actions detach partition {leaf}")
        self.execute(
            "insert into audit.partition_lifecycle (leaf, leaf_name, state, detached_at) "
            f"values ('{leaf}', '{name}', 'detached', now())"
        )
        with connect(self.dsn) as connection:
            entries = read_partitions(connection, "audit").entries
            [entry] = [one for one in entries if one.state == "detached"]
            archive_leaf(connection, self.store, "audit", entry, now=datetime.now(UTC))
        self.execute(
            "update audit.partition_lifecycle set state = 'dropped', dropped_at = now() "
            f"where leaf = '{leaf}'::regclass; drop table {leaf}"
        )
        [(new,)] = self.execute(f"select audit.make_leaf('{name}_2')::text")
        self.execute(f"alter table audit.logged_actions attach partition {new} {bounds}")
        self.execute("select audit.note_dropped(leaf) from audit.partition_lifecycle")
        self.execute("update orders set status = 'late' where id between 30 and 290")
        self.seal()

    def erase(self, row: int) -> None:
        with connect(self.dsn) as connection:
            asked = Erasure(table="orders", rows=[str(row)], columns=["note"], reason="asked to")
            reach = Archives(connection=connection, schema="audit")
            redact(connection, asked, apply=True, archives=reach)

    def left(self, row: int) -> tuple[int, int]:
        """How many events have the value, in the database and in all Parquet files."""
        [(here,)] = self.execute(
            "select count(*) from audit.logged_actions where row_key is not null "
            f"and (new_row -> 'note' ->> 'n' = '{row}' or old_row -> 'note' ->> 'n' = '{row}')"
        )
        there = sum(
            f'"n": {row},' in (event["new_row"] or "") + (event["old_row"] or "")
            for path in Path(self.store.root).rglob("*.parquet")
            if not path.name.startswith("._")
            for event in pq.ParquetFile(path).read(["new_row", "old_row"]).to_pylist()
        )
        return here, there

    def told(self) -> int:
        return int(
            self.execute("select count(*) from audit.logged_actions where action = 'R'")[0][0]
        )

    def problems(self) -> list[str]:
        """What verifying finds, of the trail and of the archive."""
        keys = read_public(self.key)
        with connect(self.dsn) as connection:
            outside = read_outside([str(self.kept)])
            seen = verify(connection, "audit", keys=keys, outside=outside)
            found: list[str] = [f.kind for f in seen.alarms]
            expected = read_expected(connection, "audit")
        for manifest in newest(read_manifests(self.store)):
            found += read_back(self.store, manifest).problems
            found += seal_problems(self.store, manifest, keys)
        catalogue = read_catalogue(self.store)
        return found + [f.message for f in check_catalogue(self.store, catalogue, expected)]


def redaction_dies(shop: Shop, number: int, deaths: Deaths, revive: Callable[[], None]) -> None:
    """Erase one row and die; whatever is left, a second run completes it."""
    row, told = FIRST + number, shop.told()
    with dying(deaths), suppress(DeadError, Exception):
        shop.erase(row)
    revive()
    here, there = shop.left(row)
    if shop.told() == told:
        assert (here > 0, there > 0) == (True, True), deaths.count
    else:
        assert here == 0, deaths.count
    with connect(shop.dsn) as connection:
        keys = read_public(shop.key)
        assert verify(connection, "audit", keys=keys).alarms == [], deaths.count
    shop.erase(row)
    assert shop.left(row) == (0, 0), deaths.count
    assert shop.told() == told + 1


def length(shop: Shop) -> int:
    """How many steps a redaction has."""
    deaths = Deaths(0, lambda: None, of_client=True)
    with dying(deaths):
        shop.erase(FIRST)
    return deaths.count


@pytest.fixture
def shop(make_database: Any, sealed_template: str, tmp_path: Path) -> Shop:
    return Shop(make_database(template=sealed_template).dsn, tmp_path)


def test_a_redaction_that_is_killed_anywhere_is_completed(shop: Shop) -> None:
    steps = length(shop)
    chosen = range(1, steps + 1) if THOROUGH else (steps * 2 // 3, steps - 12, steps - 4)
    for number, at in enumerate(chosen, 1):
        deaths = Deaths(at, lambda: None, of_client=True)
        redaction_dies(shop, number, deaths, lambda: None)
        assert deaths.dead
    assert shop.problems() == []
    print(f"the client died before {len(chosen)} of {steps} steps")


@pytest.fixture
def own_server() -> Iterator[Cluster]:
    with throwaway_cluster(settings={"fsync": "on", "synchronous_commit": "on"}) as cluster:
        fill(cluster.dsn())
        yield cluster


def killing(cluster: Cluster, at: int) -> Deaths:
    return Deaths(at, cluster.kill, of_client=False)


@proof
def test_a_server_that_is_killed_during_a_redaction(own_server: Cluster, tmp_path: Path) -> None:
    shop = Shop(own_server.dsn(), tmp_path)
    steps = length(shop)
    for at in range(1, steps + 1):
        redaction_dies(shop, at, killing(own_server, at), own_server.start)
    assert shop.problems() == []
    print(f"the server died before each of {steps} steps")


@proof
def test_a_server_that_is_killed_during_a_seal(own_server: Cluster, tmp_path: Path) -> None:
    shop = Shop(own_server.dsn(), tmp_path)
    at, deaths = 0, Deaths(0, lambda: None, of_client=False)
    while deaths.count >= at:
        at += 1
        shop.execute(f"update orders set status = 'sealed {at}' where id between 30 and 40")
        deaths = killing(own_server, at)
        with dying(deaths), suppress(Exception):
            shop.seal()
        with suppress(Exception):
            own_server.start()
        assert shop.problems() == [], at
        shop.seal()
        assert shop.problems() == [], at
    print(f"the server died before each of {at - 1} statements")
