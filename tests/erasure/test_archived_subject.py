"""`audit subject` finds what has left the database with its partition, and names what it could not read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from audit_toolkit.archive import Store
from tests.plugins.command import Audit, audit
from tests.plugins.trail import Trail
from tests.seals.words import Sealed, archive, detach, drop

__all__ = ["audit"]


def leave(trail: Trail, store: Store | None) -> None:
    """What maintenance does with the partition that has all events; another one takes what comes."""
    sealed = Sealed(trail, Path())
    partition = detach(sealed)
    if store is not None:
        archive(sealed, store, partition)
    drop(sealed, partition)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "archive"))


@pytest.fixture
def people(trail: Trail) -> Trail:
    """A customer with another key by now, and orders of him and of others."""
    trail.execute("""
        create table customers (id numeric primary key, email text);
        create table orders (id int primary key, "of/whom" numeric references customers on update cascade)
    """)
    trail.audit("customers", store="delta")
    trail.audit("orders")
    for statement in (
        "insert into customers values (1.0, 'zoe'), (2, 'bob')",
        "insert into orders values (10, 1), (20, 2), (30, 1)",
        'update orders set "of/whom" = 2 where id = 30',
        "update customers set id = 5 where id = 1",
        "delete from orders where id = 10",
    ):
        trail.execute(statement)
    return trail


def rows(printed: str) -> set[tuple[str, str]]:
    events = json.loads(printed)["events"]
    numbers = [event["event_id"] for event in events]
    assert numbers == sorted(set(numbers))
    return {(event["table_name"], event["row_key"]) for event in events}


def test_an_archived_partition_without_events_is_read_as_well(
    people: Trail, store: Store, audit: Audit
) -> None:
    sealed = Sealed(people, Path())
    partition = detach(sealed)
    sealed.tamper(f"delete from {partition}")
    archive(sealed, store, partition)
    drop(sealed, partition)
    people.execute("insert into customers values (6, 'eve')")
    found = audit("subject", "customers", "6")
    assert (found.exit_code, rows(found.stdout)) == (0, {("customers", "6")})
    erase = ("redact", "customers", "6", "--column", "email", "--reason", "asked to", "--apply")
    assert audit(*erase).exit_code == 0


@pytest.mark.parametrize("key", ["5", "1"])
def test_archived_rows_are_found_under_all_keys(
    people: Trail, store: Store, audit: Audit, key: str
) -> None:
    leave(people, store)
    people.execute("update customers set email = 'zoë' where id = 5")
    people.execute("insert into orders values (40, 5)")
    printed = audit("subject", "customers", key).stdout
    assert rows(printed) == {
        ("customers", "1.0"),
        ("customers", "5"),
        ("orders", "10"),
        ("orders", "30"),
        ("orders", "40"),
    }
    assert "bob" not in printed
    assert "zoë" in printed
    assert json.loads(printed)["not_included"] == []


def test_who_had_the_key_later_is_another_person(people: Trail, store: Store, audit: Audit) -> None:
    people.execute("insert into customers values (1, 'eve')")
    leave(people, store)
    people.execute("update customers set email = 'eva' where id = 1")
    printed = audit("subject", "customers", "5").stdout
    assert "zoe" in printed
    assert not {"eve", "eva", "bob"} & {
        (event["new_row"] or {}).get("email") for event in json.loads(printed)["events"]
    }
    assert "eva" in audit("subject", "customers", "1").stdout


def test_what_cannot_be_read_is_named(
    people: Trail, store: Store, audit: Audit, tmp_path: Path
) -> None:
    leave(people, store)
    people.execute("update customers set email = 'zoë' where id = 5")
    moved = tmp_path / "elsewhere"
    shutil.move(store.root, moved)
    answer = audit("subject", "customers", "5", code=3)
    assert rows(answer.stdout) == {("customers", "5")}
    [reason] = json.loads(answer.stdout)["not_included"]
    assert reason in answer.stderr
    assert "logged_actions" in reason
    csv = audit("subject", "customers", "5", "--format", "csv", code=3)
    assert f"not included: {reason}" in csv.stderr
    assert ("orders", "10") in rows(
        audit("subject", "customers", "5", "--archive", str(moved)).stdout
    )
    file = next(moved.rglob("relation=public.orders/**/*.parquet"))
    file.unlink()
    answer = audit("subject", "customers", "5", "--archive", str(moved), code=3)
    assert f"the file {file.relative_to(moved)} is missing" in answer.stderr


def test_what_was_dropped_without_an_archive_is_named(people: Trail, audit: Audit) -> None:
    leave(people, None)
    people.execute("update customers set email = 'zoë' where id = 5")
    answer = audit("subject", "customers", "5", code=3)
    assert "was dropped and not archived: its events are gone" in answer.stderr
