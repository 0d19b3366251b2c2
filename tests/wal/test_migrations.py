"""Capture from the WAL by migrations: there and back, with a worker in between."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pytest

from audit_toolkit.config import Capture
from audit_toolkit.errors import RuleError
from audit_toolkit.migrations import init_project
from tests.plugins.project import Shop
from tests.wal.conftest import WalTrail


@pytest.fixture
def shop(wal_trail: WalTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A project of that database, which has a table."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", wal_trail.database.dsn)
    init_project(Path("migrations"))
    wal_trail.execute("create table orders (id serial primary key)")
    return Shop(tmp_path, wal_trail.database)


def insert(trail: WalTrail) -> None:
    trail.execute("insert into orders default values")
    trail.read()


def keys(trail: WalTrail) -> list[str]:
    return [key or "" for action, key in trail.story() if action == "I"]


def leftovers(trail: WalTrail) -> list[tuple[object, ...]]:
    """What a table needs while it is read from the WAL, and not after."""
    return trail.execute(
        "select relreplident = 'f', exists (select from pg_publication_rel where prrelid = c.oid),"
        " exists (select from pg_proc where proname like 'replay%')"
        " from pg_class as c where relname = 'orders'"
    )


def run(shop: Shop, *words: str) -> str:
    answer = shop.audit(*words, "--upgrade")
    assert answer.code == 0, answer.err
    return answer.err


def test_from_triggers_to_the_wal_and_back_nothing_is_lost_or_double(
    wal_trail: WalTrail, shop: Shop
) -> None:
    run(shop, "install", "--table", "orders")
    insert(wal_trail)
    said = run(shop, "install", "--table", "orders", "--capture", "wal")
    assert said.endswith("applied; next:\n  audit capture run\n  audit history orders\n")
    insert(wal_trail)
    insert(wal_trail)
    assert leftovers(wal_trail) == [(True, True, True)]
    run(shop, "install", "--table", "orders", "--capture", "wal", "--store", "changes")
    insert(wal_trail)
    run(shop, "install", "--table", "orders", "--capture", "row")
    insert(wal_trail)
    assert leftovers(wal_trail) == [(False, False, False)]
    assert shop.downgrade("-1").code == 0
    assert leftovers(wal_trail) == [(True, True, True)]
    insert(wal_trail)
    insert(wal_trail)
    assert shop.downgrade("-2").code == 0
    insert(wal_trail)
    assert leftovers(wal_trail) == [(False, False, False)]
    assert keys(wal_trail) == [str(number) for number in range(1, 9)]
    assert not [event for event in wal_trail.events() if event["action"] == "G"]


def test_uninstall_ends_capture_once_the_trail_has_all(wal_trail: WalTrail, shop: Shop) -> None:
    run(shop, "install", "--table", "orders", "--capture", "wal")
    insert(wal_trail)
    insert(wal_trail)
    run(shop, "uninstall", "--table", "orders")
    insert(wal_trail)
    assert keys(wal_trail) == ["1", "2"]
    assert wal_trail.story()[-1] == ("G", None)
    assert leftovers(wal_trail) == [(False, False, False)]
    assert shop.downgrade("-1").code == 0
    insert(wal_trail)
    insert(wal_trail)
    assert keys(wal_trail) == ["1", "2", "4", "5"]


def test_upgrade_renders_both_functions_again(wal_trail: WalTrail, shop: Shop) -> None:
    run(shop, "install", "--table", "orders", "--capture", "wal")
    insert(wal_trail)
    wal_trail.execute("alter table orders add column note text default 'x'")
    run(shop, "install", "--table", "orders", "--capture", "wal", "--exclude", "note")
    insert(wal_trail)
    insert(wal_trail)
    rows = [event["new_row"] for event in wal_trail.events() if event["action"] == "I"]
    assert [row.get("note") for row in rows] == [None, None, None]
    answer = shop.audit("check", "--fail-on", "error")
    assert answer.code == 0, answer.text


@pytest.mark.pg(">= 18")
def test_generated_columns_are_there(wal_trail: WalTrail) -> None:
    for name, capture in (("by_row", Capture.ROW), ("by_wal", Capture.WAL)):
        wal_trail.execute(
            f"create table {name} (id int primary key, twice int generated always as (id * 2) stored)"
        )
        wal_trail.audit(name, capture=capture)
    wal_trail.read()
    for name in ("by_row", "by_wal"):
        wal_trail.execute(
            f"insert into {name} values (1); update {name} set id = 2; delete from {name}"
        )
    wal_trail.read()
    assert wal_trail.rows("by_wal") == wal_trail.rows("by_row")


@pytest.mark.pg("< 18")
def test_a_table_with_generated_columns_is_refused(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table t (id int primary key, b int generated always as (id) stored)")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="generated columns"):
        wal_trail.audit("t", capture=Capture.WAL)


@pytest.mark.pg(">= 18")
def test_a_table_with_virtual_columns_is_refused(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table t (id int primary key, b int generated always as (id) virtual)")
    with pytest.raises(RuleError, match="virtual generated column"):
        wal_trail.audit("t", capture=Capture.WAL)


@pytest.mark.pg(">= 18")
def test_a_generated_column_that_comes_later_stops_nothing(
    wal_trail: WalTrail,
) -> None:
    wal_trail.execute("create table t (id int primary key)")
    wal_trail.audit("t", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("insert into t values (1)")
    wal_trail.execute("alter table t add column b int generated always as (id * 2) stored")
    wal_trail.execute("insert into t values (2)")
    wal_trail.read()
    assert [(event["action"], event["row_key"]) for event in wal_trail.events()] == [
        ("M", None),
        ("I", "1"),
        ("M", None),
        ("I", "2"),
    ]
