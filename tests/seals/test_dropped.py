"""That a partition was dropped is an event, sealed as all are: who rewrites the record of it is found."""

from __future__ import annotations

import pytest

from tests.plugins.command import Audit, audit
from tests.seals.words import MORE, Sealed, detach, drop

__all__ = ["audit"]


def leave(sealed: Sealed) -> tuple[str, int]:
    """Drop the partition with all events, and seal what says so: its name, and the event."""
    partition = detach(sealed)
    drop(sealed, partition)
    sealed.seal()
    name = partition.split(".")[1]
    [(event,)] = sealed.execute(
        f"select drop_event from audit.partition_lifecycle where leaf_name = '{name}'"
    )
    return name, int(str(event))


@pytest.fixture
def emptied(sealed: Sealed) -> tuple[Sealed, str, int]:
    """Two partitions were dropped; the event of the first one left with the second."""
    leave(sealed)
    sealed.execute(MORE.format(50))
    sealed.seal()
    name, event = leave(sealed)
    sealed.execute(MORE.format(5).replace("1000", "2000"))
    sealed.seal()
    return sealed, name, event


def test_what_was_dropped_is_said_by_events(
    emptied: tuple[Sealed, str, int], audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed, name, event = emptied
    report = sealed.verify()
    assert report.findings == []
    assert [(one.events, one.by) for one in report.gone] == [(462, None), (51, "postgres")]
    monkeypatch.setenv("AUDIT_DATABASE_URL", sealed.trail.database.dsn)
    said = audit("verify", "--key", str(sealed.key)).stdout
    assert f"51 were dropped with {name} by postgres (event {event}), not archived" in said
    assert f"partition {name} dropped, not archived" in audit("show", str(event)).stdout


DROPPED = "from audit.partition_lifecycle where state = 'dropped'"
GONE = (
    "delete from audit.logged_actions where action = 'I'; "
    "insert into audit.seal_partitions select 4711, 'x', first_id, last_id, events from audit.seal_partitions "
    "order by first_id desc limit 1; "
    "insert into audit.partition_lifecycle (leaf, leaf_name, state, dropped_at, drop_event) "
    "select 4711, 'x', 'dropped', now(), "
)
"""Events that are there are said to have left, as this event says."""
FORGED = {
    "an archive that never was": (
        "update audit.partition_lifecycle set archive = 's3://x', archive_digest = 'x', archived_at = now()",
        "drop_record_changed",
    ),
    "another time": (
        "update audit.partition_lifecycle set dropped_at = dropped_at - interval '1 day'",
        "drop_record_changed",
    ),
    "one of them forgotten": (
        f"delete from audit.partition_lifecycle where drop_event = (select min(drop_event) {DROPPED})",
        "drop_record_changed",
    ),
    "another number of events": (
        "update audit.seal_partitions set events = events + 1 where events = 462",
        "drop_record_changed",
    ),
    "events of no partition": (
        "update audit.partition_lifecycle set drop_event = null where state = 'dropped'",
        "drop_unannounced",
    ),
    "present events that have left": (f"{GONE} null", "drop_unannounced"),
    "the same, as a former event says": (f"{GONE} 463", "drop_record_changed"),
    "the same, as that of another says": (
        f"{GONE} max(drop_event) {DROPPED}",
        "drop_unannounced",
    ),
}


def test_a_record_that_was_rewritten_is_found(emptied: tuple[Sealed, str, int]) -> None:
    sealed = emptied[0]
    tables = ("partition_lifecycle", "seal_partitions")
    for table in tables:
        sealed.execute(f"create table public.{table} as table audit.{table}")
    sealed.execute("create table public.logged_actions as table audit.logged_actions")
    for act, (statement, kind) in FORGED.items():
        sealed.tamper(*statement.split("; "))
        assert kind in {found for found, _ in sealed.found()}, act
        sealed.tamper(
            "delete from audit.logged_actions",
            "insert into audit.logged_actions table public.logged_actions",
            *(f"delete from audit.{table}" for table in tables),
            *(f"insert into audit.{table} table public.{table}" for table in tables),
        )
        assert sealed.found() == [], act
