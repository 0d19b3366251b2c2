"""Back from the WAL to triggers, because the server keeps too much WAL or lost the slot: no hole, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from audit_toolkit.config import Capture
from audit_toolkit.wal.worker import Worker
from tests.plugins.trail import Trail
from tests.wal.conftest import WalTrail, kinds, run

TABLE = "create table readings (id int primary key)"


@pytest.fixture
def readings(wal_trail: WalTrail) -> WalTrail:
    """A table that is read from the WAL."""
    wal_trail.execute(TABLE)
    wal_trail.audit("readings", capture=Capture.WAL)
    wal_trail.read()
    return wal_trail


def keys(trail: Trail) -> list[str]:
    return [key or "" for action, key in trail.story() if action == "I"]


def last_coverage(trail: Trail) -> dict[str, Any]:
    return next(e["new_row"] for e in reversed(trail.events()) if e["action"] == "M")


def worker_of(trail: WalTrail, fallback: int | None) -> Worker:
    worker = trail.worker()
    worker.fallback = fallback
    worker.start(wait=False)
    return worker


def test_by_hand_there_and_back(readings: WalTrail) -> None:
    readings.execute("insert into readings values (1)")
    said = run(readings, "capture", "fallback", "--reason", "the disk fills up")
    assert "public.readings is recorded by triggers again" in said
    readings.execute("insert into readings values (2)")
    assert keys(readings) == ["1", "2"]
    assert last_coverage(readings)["fallback"] == "the disk fills up"
    assert (
        readings.execute("select from pg_replication_slots where database = current_database()")
        == []
    )
    assert "the disk fills up" in run(readings, "capture", "status")
    assert "audit capture resume" in run(readings, "check", "--fail-on", "error")

    assert "by triggers again: the disk fills up" in run(readings, "history", "readings")
    assert "missing" not in run(readings, "capture", "status")

    readings.execute("insert into readings values (3)")
    assert run(readings, "capture", "run", "--once").splitlines()[-1] == "0 changes read"
    refused = run(readings, "capture", "fallback", "--reason", "again", code=2)
    assert "no table is read from the WAL" in refused
    assert "public.readings" in run(readings, "capture", "resume")
    readings.execute("insert into readings values (4)")
    readings.read()
    readings.execute("insert into readings values (5)")
    readings.read()
    assert keys(readings) == ["1", "2", "3", "4", "5"]
    assert last_coverage(readings)["assurance"] == "wal"
    assert not [event for event in readings.events() if event["action"] == "G"]
    assert "not_from_wal" not in kinds(readings)


def test_one_table_alone_leaves_the_others_with_the_worker(readings: WalTrail) -> None:
    readings.execute("create table parts (id int primary key) partition by range (id)")
    readings.execute("create table parts_1 partition of parts for values from (0) to (100)")
    readings.audit("parts", capture=Capture.WAL)
    readings.read()
    refused = run(readings, "capture", "fallback", "--table", "nope", "--reason", "r", code=2)
    assert "nope" in refused
    run(readings, "capture", "fallback", "--table", '"parts"', "--reason", "r")
    refused = run(readings, "capture", "fallback", "--table", "parts", "--reason", "r", code=2)
    assert "not read from the WAL" in refused
    readings.execute("insert into readings values (1); insert into parts values (2)")
    assert keys(readings) == ["2"]
    readings.read()
    readings.execute("update parts set id = 3; truncate parts_1")
    readings.read()
    assert keys(readings) == ["2", "1"]
    assert [row[0] for row in readings.rows("parts")] == [*"IUD"]
    assert readings.execute(
        "select count(*) from pg_replication_slots where database = current_database()"
    ) == [(1,)]


def test_the_worker_goes_back_once_the_server_keeps_too_much(readings: WalTrail) -> None:
    worker = worker_of(readings, fallback=0)
    readings.execute("insert into readings values (1)")
    while not worker.turn().is_all:
        pass
    readings.execute("insert into readings values (2)")
    assert keys(readings) == ["1", "2"]
    assert worker.turn().events == 0
    assert "more than --fallback" in " ".join(readings.said)
    assert readings.said[-1] == "triggers record all tables: audit capture resume"


@pytest.mark.thorough
def test_writers_that_hold_the_table_are_not_waited_for_long(readings: WalTrail) -> None:
    worker = worker_of(readings, fallback=0)
    with readings.database.connect() as writer:
        writer.execute("begin; insert into readings values (1)")
        worker.turn()
        writer.execute("commit")
    assert keys(readings) == []
    worker._not_before.clear()
    worker.turn()
    readings.execute("insert into readings values (2)")
    assert keys(readings) == ["1", "2"]


@pytest.fixture
def small_limit(logical_databases: Any) -> Iterator[None]:
    """A server that gives up a slot soon."""
    connection = logical_databases.connection
    connection.execute("alter system set max_slot_wal_keep_size = '1MB'")
    connection.execute("select pg_reload_conf()")
    yield
    connection.execute("alter system reset max_slot_wal_keep_size")
    connection.execute("select pg_reload_conf()")


def lose_slot(trail: WalTrail) -> None:
    """Write until the server has given up the slot."""
    status = "select wal_status from pg_replication_slots where database = current_database()"
    for _ in range(50):
        trail.execute("select pg_logical_emit_message(false, 'x', 'y'), pg_switch_wal()")
        trail.execute("checkpoint")
        if trail.execute(status) == [("lost",)]:
            return
    pytest.fail("the server kept the slot")


@pytest.mark.parametrize("fallback", [None, 1024**3])
def test_a_slot_that_the_server_gave_up_is_a_gap_with_its_bounds(
    readings: WalTrail, small_limit: None, fallback: int | None
) -> None:
    worker = worker_of(readings, fallback)
    worker.turn()
    readings.execute("insert into readings values (1)")
    lose_slot(readings)
    assert "slot_lost" in kinds_of_errors(readings)
    while not worker.turn().is_all:
        pass
    readings.execute("insert into readings values (2)")
    assert keys(readings) == (["2"] if fallback else [])
    worker.turn()
    assert keys(readings) == ["2"]
    (gap,) = (e["new_row"] for e in readings.events() if e["action"] == "G")
    assert "slot was lost" in gap["reason"]
    assert gap["from_lsn"] < gap["to_lsn"]
    worker.writer.close()
    run(readings, "baseline", "--table", "readings")
    snapshots = [key for action, key in readings.story() if action == "S"]
    assert snapshots == ["1"]
    assert last_coverage(readings).get("assurance") == (None if fallback else "wal")


def kinds_of_errors(trail: WalTrail) -> str:
    return run(trail, "check", code=3)


@pytest.fixture
def without_wal(trail: Trail) -> Trail:
    """A table that was read from the WAL of a server which was restarted with wal_level = replica."""
    trail.execute(TABLE)
    trail.audit("readings", capture=Capture.WAL)
    assert "no table is read from the WAL" in run(
        trail, "capture", "fallback", "--reason", "r", code=2
    )
    assert "triggers record changes until then" in run(trail, "capture", "run", "--once", code=2)
    assert trail.execute("select audit.read_from_wal('capture_public__readings')") == [(True,)]
    trail.execute("insert into readings values (1)")  # which nobody records
    return trail


def test_without_the_wal_triggers_record_again_by_hand(without_wal: Trail) -> None:
    said = run(without_wal, "capture", "run", "--once", code=2)
    assert "changes of 1 table are recorded only after: audit capture fallback" in said.replace(
        "\n", " "
    )
    assert "audit capture fallback" in run(without_wal, "check", code=3)
    run(without_wal, "capture", "fallback", "--reason", "wal_level was lowered")
    without_wal.execute("insert into readings values (2)")
    assert [event for event in without_wal.story() if event[0] in "IG"] == [("G", None), ("I", "2")]
    assert last_coverage(without_wal)["fallback"] == "wal_level was lowered"


def test_without_the_wal_a_worker_with_fallback_goes_back_at_once(without_wal: Trail) -> None:
    said = run(without_wal, "capture", "run", "--once", "--fallback", "1GB", code=2)
    assert "triggers record changes until then" in said
    without_wal.execute("insert into readings values (2)")
    assert keys(without_wal) == ["2"]


def test_a_publication_that_somebody_dropped_is_made_again_with_a_gap(readings: WalTrail) -> None:
    readings.execute("insert into readings values (1)")
    readings.execute("drop publication audit_capture")
    said = run(readings, "check", "--table", "readings", code=3)
    assert "publication_changed" in said
    assert "trigger_disabled" not in said
    readings.read()
    readings.execute("insert into readings values (2)")
    readings.read()
    assert keys(readings) == ["2"]
    (gap,) = (e["new_row"] for e in readings.events() if e["action"] == "G")
    assert gap["reason"].startswith("somebody dropped audit_capture")
    assert not kinds(readings) & {"publication_changed", "trigger_disabled"}
