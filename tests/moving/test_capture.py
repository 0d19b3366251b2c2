"""Capture that a restore, an ALTER TABLE or a subscription silenced for a while is found, and mended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.config import Capture
from tests.moving.conftest import Move
from tests.moving.words import findings, kinds, mend, run
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail

BREAKS = {
    "off and on": """
        alter table orders disable trigger "00_audit_row";
        update orders set status = 'unseen';
        alter table orders enable always trigger "00_audit_row"
    """,
    "all off and on": """
        alter table orders disable trigger all;
        update orders set status = 'unseen';
        alter table orders enable always trigger "00_audit_row";
        alter table orders enable always trigger "00_audit_truncate"
    """,
    "made anew": """
        drop trigger "00_audit_row" on orders;
        update orders set status = 'unseen';
        create trigger "00_audit_row" after insert or update or delete on orders
            for each row execute function audit.capture_public__orders();
        alter table orders enable always trigger "00_audit_row"
    """,
    "renamed meanwhile": """
        alter table orders disable trigger "00_audit_row";
        alter table orders rename to orders_;
        update orders_ set status = 'unseen';
        alter table orders_ rename to orders;
        alter table orders enable always trigger "00_audit_row"
    """,
}


def gaps(trail: Trail) -> list[tuple[Any, ...]]:
    return trail.execute("""
        select table_name, new_row ->> 'capture', new_row ->> 'reason' from audit.logged_actions
        where action = 'G' order by event_id
    """)


@pytest.mark.parametrize("kind", BREAKS)
def test_capture_that_was_off_and_is_on_again(shop: Trail, kind: str) -> None:
    shop.execute(BREAKS[kind])
    [finding] = findings(shop)
    assert (finding["kind"], finding["object"]) == ("capture_interrupted", "public.orders")
    assert finding["remedy"] == "audit resume --table public.orders --reason REASON"
    mend(shop)
    assert gaps(shop) == [("orders", "resumed", "REASON")]
    assert findings(shop) == []
    again = run(shop, "resume", "--table", "orders", "--reason", "again")
    assert (again.exit_code, "is not paused" in again.stderr) == (2, True)


OTHER_DDL = (
    "alter table orders add note text; alter table orders rename status to state",
    "create table lines (orders_id int references orders)",
    """
        create function nothing() returns trigger language plpgsql as 'begin return new; end';
        create trigger own before insert on orders for each row execute function nothing();
        alter table orders disable trigger own
    """,
    "alter table lines drop constraint lines_orders_id_fkey; alter table orders alter id type bigint",
    "vacuum full pg_trigger",
    "alter table orders rename to purchases",
)


def test_other_ddl_interrupts_nothing(shop: Trail) -> None:
    for statements in OTHER_DDL:
        shop.execute(statements)
    assert "capture_interrupted" not in kinds(shop)


def test_what_is_off_is_resumed_before_what_is_missing_is_installed(shop: Trail) -> None:
    shop.execute("""
        drop trigger "00_audit_truncate" on orders;
        alter table orders disable trigger "00_audit_row"
    """)
    first, second = findings(shop)
    assert first["remedy"] == "audit resume --table public.orders --reason REASON"
    assert second["remedy"] == "audit install --table public.orders --sql | psql"
    assert run(shop, *first["remedy"].split()[1:]).exit_code == 0
    shop.audit("orders")
    assert len(gaps(shop)) == 1
    assert findings(shop) == []


def test_a_pause_is_no_interruption(shop: Trail) -> None:
    for command in ("pause", "resume"):
        assert run(shop, command, "--table", "orders", "--reason", "import").exit_code == 0
    assert findings(shop) == []


def test_a_pause_that_was_ended_by_hand(shop: Trail) -> None:
    assert run(shop, "pause", "--table", "orders", "--reason", "import").exit_code == 0
    for name in ("00_audit_row", "00_audit_truncate"):
        shop.execute(f'alter table orders enable always trigger "{name}"')
    assert kinds(shop) == ["capture_interrupted"]
    mend(shop)
    assert [capture for _, capture, _ in gaps(shop)] == ["paused", "resumed"]
    assert findings(shop) == []


def test_partitions_that_come_and_go_interrupt_nothing(trail: Trail) -> None:
    trail.execute("""
        create table visits (id int primary key) partition by range (id);
        create table visits_1 partition of visits for values from (0) to (9)
    """)
    trail.audit("visits")
    trail.execute("""
        alter table visits detach partition visits_1;
        create table visits_2 partition of visits for values from (0) to (9)
    """)
    assert "capture_interrupted" not in kinds(trail)
    assert run(trail, "pause", "--table", "visits", "--reason", "x").exit_code == 0
    assert "capture_interrupted" not in kinds(trail)


@pytest.mark.parametrize(
    "state", some_quick(["disable", "enable", "enable replica"], ["disable", "enable replica"])
)
def test_triggers_that_are_off_are_resumed_with_a_gap(shop: Trail, state: str) -> None:
    shop.execute(f"""
        alter table orders {state} trigger "00_audit_row"; alter table orders {state} trigger "00_audit_truncate"
    """)
    [finding] = findings(shop)
    assert finding["kind"] == ("trigger_disabled" if state == "disable" else "trigger_not_always")
    mend(shop)
    assert gaps(shop) == [("orders", "resumed", "REASON")]
    assert findings(shop) == []


def test_a_single_table_that_was_restored(shop: Trail, move: Move) -> None:
    move(shop, shop, "--table", "orders", restore=["--clean"])
    assert kinds(shop) == ["capture_interrupted"]
    mend(shop)
    assert gaps(shop) == [("orders", "resumed", "REASON")]
    assert findings(shop) == []


def test_rows_restored_with_capture_on_are_events(shop: Trail, migrated: Trail, move: Move) -> None:
    move(shop, migrated, "--data-only", "--table", "orders")
    assert migrated.story() == [("I", "1"), ("I", "2")]
    assert findings(migrated) == []


def test_rows_restored_with_triggers_disabled(shop: Trail, migrated: Trail, move: Move) -> None:
    restore = ["--disable-triggers"]
    move(shop, migrated, "--data-only", "--table", "orders", restore=restore)
    assert migrated.story() == []
    [finding] = findings(migrated)
    assert (finding["kind"], finding["object"][:6]) == ("trigger_not_always", '"00_au')
    mend(migrated)
    assert findings(migrated) == []
    assert gaps(migrated) == [("orders", "resumed", "REASON")]


def test_schema_first_and_then_all_data_with_triggers_disabled(
    shop: Trail, empty: Trail, move: Move
) -> None:
    """pg_restore enables triggers again, but not ALWAYS: those of the trail too."""
    move(shop, empty, restore=["--schema-only"])
    move(shop, empty, restore=["--data-only", "--disable-triggers"])
    found = findings(empty)
    of_trail = [f for f in found if f["object"].partition(" on ")[2].startswith("audit.")]
    assert {f["kind"] for f in of_trail} == {"trigger_changed"}
    assert "psql -c 'alter table audit.home enable always trigger \"00_audit_owner_only\"'" in [
        f["remedy"] for f in of_trail
    ]
    unguarded = [f["object"] for f in found if f["kind"] in ("not_append_only", "not_guarded")]
    assert len(unguarded) == len(set(unguarded))
    mend(empty)
    assert findings(empty) == []


def test_a_trail_restored_into_one_that_migrations_made(
    shop: Trail, migrated: Trail, move: Move
) -> None:
    """Its events come with their ids; what was captured here before has the same ones."""
    migrated.execute("insert into orders values (9, 'own')")
    data = ["--data-only", "--table", "audit.logged_actions*", "--table", "audit.home"]
    move(shop, migrated, *data)
    assert len(migrated.events()) == 4
    assert "trail_moved" in kinds(migrated)
    migrated.execute("insert into orders values (10, 'own')")
    mend(migrated)
    assert findings(migrated) == []
    ids = [event["event_id"] for event in migrated.events()]
    assert ids == sorted(set(ids))


@contextmanager
def subscribed(trail: Trail, publisher: Trail, tables: str) -> Iterator[None]:
    """A subscription that is not switched on: its catalogue says what it would bring."""
    publisher.execute(f"create publication everything for table {tables}")
    trail.execute(
        f"create subscription arrivals connection '{publisher.database.dsn}' publication everything"
        " with (create_slot = false, slot_name = none, enabled = false)"
    )
    try:
        yield
    finally:
        trail.execute("drop subscription arrivals")
        publisher.execute("drop publication everything")


def test_a_subscriber_that_receives_the_trail_and_captures(shop: Trail, migrated: Trail) -> None:
    with subscribed(migrated, shop, "audit.logged_actions, orders"):
        [finding] = findings(migrated)
        assert (finding["kind"], finding["severity"]) == ("trail_subscribed", "error")
        assert "alter publication everything drop table audit.logged_actions" in finding["remedy"]
        assert "alter subscription arrivals refresh publication" in finding["remedy"]
        for table in ("orders", "notes"):
            migrated.release(table)
        assert findings(migrated) == []
    with subscribed(migrated, shop, "orders"):
        migrated.audit("orders")
        assert findings(migrated) == []


def test_statement_capture_of_what_is_replicated(shop: Trail, migrated: Trail) -> None:
    migrated.audit("orders", capture=Capture.STATEMENT)
    with subscribed(migrated, shop, "orders, notes"):
        [finding] = findings(migrated)
        assert (finding["kind"], finding["object"]) == ("statement_on_subscriber", "public.orders")
        assert finding["remedy"] == "audit install --table public.orders --capture row --sql | psql"
        migrated.audit("orders")
        assert findings(migrated) == []
    assert gaps(migrated) == [
        ("orders", "resumed", "rows that replication brought were not recorded")
    ]


def test_a_reader_finds_what_is_wrong_on_a_subscriber(shop: Trail, migrated: Trail) -> None:
    role = f"{migrated.database.name}_reader"
    with subscribed(migrated, shop, "audit.logged_actions, orders"):
        migrated.execute(f"create role {role} login")
        try:
            migrated.execute(run(migrated, "grants", "--reader", role).stdout)
            dsn = migrated.database.dsn.replace("postgres@", f"{role}@")
            assert "trail_subscribed" in CliRunner().invoke(app, ["check", "--dsn", dsn]).stdout
        finally:
            migrated.execute(f"drop owned by {role}; drop role {role}")
