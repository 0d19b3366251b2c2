"""A trail that was moved says so, is adopted, and goes on with ids and transactions that are told apart."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from tests.moving.conftest import Move
from tests.moving.words import ADOPT, boundaries, findings, kinds, mend, run
from tests.plugins.cluster import Server
from tests.plugins.database import Databases
from tests.plugins.trail import Trail


def test_a_restored_trail_is_adopted(shop: Trail, empty: Trail, move: Move) -> None:
    move(shop, empty)
    empty.execute("update orders set status = 'paid' where id = 1")
    assert kinds(empty) == ["trail_moved"]
    assert "moved here from another database" in findings(empty)[0]["detail"]
    assert "by hand" not in run(empty, "row-at", "orders", "1", "--at", "now").output
    mend(empty)
    assert findings(empty) == []
    [boundary] = boundaries(empty)
    assert boundary["database"] == empty.database.name
    assert boundary["former"]["database"] == shop.database.name
    assert boundary["reason"] == "REASON"
    # Capture went on, so that installing it again finds no gap.
    empty.audit("orders")
    assert [event["action"] for event in empty.events()] == [*"IIIUB"]
    again = run(empty, *ADOPT)
    assert (again.exit_code, again.stdout[:16]) == (0, "nothing to adopt")


def test_a_trail_from_another_cluster_says_that_transactions_may_repeat(shop: Trail) -> None:
    shop.execute("update audit.home set system_identifier = '7'")
    [finding] = findings(shop)
    assert (finding["kind"], "transaction numbers may repeat" in finding["detail"]) == (
        "trail_moved",
        True,
    )
    assert run(shop, *ADOPT, "--dry-run").exit_code == 0
    assert boundaries(shop) == []
    mend(shop)
    assert boundaries(shop)[0]["former"]["system_identifier"] == "7"
    assert findings(shop) == []


def test_a_copy_by_template_is_another_place(
    shop: Trail, databases: Databases, cluster: Server
) -> None:
    shop.connection.close()
    name = f"{shop.database.name}_copy"
    databases.connection.execute(f"create database {name} template {shop.database.name}")
    try:
        copy = ("--dsn", cluster.dsn(name))
        assert "trail_moved" in CliRunner().invoke(app, ["check", *copy]).stdout
        assert CliRunner().invoke(app, [*ADOPT, *copy]).exit_code == 0
        assert "OK: everything installed" in CliRunner().invoke(app, ["check", *copy]).stdout
    finally:
        databases.drop(name)


def test_a_restore_over_the_trail_that_was_there(shop: Trail, move: Move) -> None:
    move(shop, shop, restore=["--clean", "--if-exists"], errors="cannot drop inherited constraint")
    assert len(shop.events()) == 3
    assert kinds(shop) == ["trail_moved"]
    assert "restored over" in findings(shop)[0]["detail"]
    mend(shop)
    assert findings(shop) == []


def test_tables_whose_oids_changed_places_stay_themselves(shop: Trail) -> None:
    shop.execute("""
        update audit.captured_tables set relation_id = 1 where table_name = 'orders';
        update audit.captured_tables set relation_id = 'orders'::regclass where table_name = 'notes';
        update audit.captured_tables set relation_id = 'notes'::regclass where table_name = 'orders';
        update audit.home set trail_oid = 1
    """)
    mend(shop)
    assert findings(shop) == []
    shop.execute("alter table orders rename to purchases; update purchases set status = 'paid'")
    noted = shop.execute(
        "select table_name, relation_id = table_name::regclass from audit.captured_tables order by 1"
    )
    assert noted == [("notes", True), ("purchases", True)]


def test_a_schema_without_its_events_is_at_home_nowhere(
    shop: Trail, empty: Trail, move: Move
) -> None:
    move(shop, empty, "--schema-only")
    assert "trail_moved" in kinds(empty)
    mend(empty)
    assert findings(empty) == []


def test_a_schema_without_its_events_has_a_trigger_that_is_off(
    shop: Trail, empty: Trail, move: Move
) -> None:
    """Only what captures is noted again; what is off is a finding, and does not keep the rest from being adopted."""
    shop.execute("alter table notes disable trigger user")
    move(shop, empty, "--schema-only")
    assert run(empty, *ADOPT).exit_code == 0
    assert {finding["subject"].rpartition(" on ")[2] for finding in findings(empty)} == {
        "public.notes"
    }
    assert "trigger_disabled" in kinds(empty)
    assert "orders" in [
        name for (name,) in empty.execute("select table_name from audit.captured_tables")
    ]


@pytest.mark.parametrize("sections", [["pre-data"], ["pre-data", "data"]], ids=" and ".join)
def test_a_restore_without_its_last_section(
    shop: Trail, empty: Trail, move: Move, sections: list[str]
) -> None:
    """Keys, indexes and triggers are what `--section=post-data` brings."""
    move(shop, empty, restore=[f"--section={section}" for section in sections])
    for command in (["maintain"], ["partitions", "run"]):
        answer = run(empty, *command)
        assert answer.exit_code == 1
        assert (
            "hint: to see whether something of the trail is missing: audit check" in answer.stderr
        )
    assert {"constraint_missing", "not_append_only", "trigger_missing"} <= set(kinds(empty))


def test_a_restore_in_sections_goes_on_after_the_last_one(
    shop: Trail, empty: Trail, move: Move
) -> None:
    for section in ("pre-data", "data", "post-data"):
        move(shop, empty, restore=[f"--section={section}", "-j2"])
    assert kinds(empty) == ["trail_moved"]
    mend(empty)
    empty.execute("update orders set status = 'paid' where id = 1")
    assert findings(empty) == []
    assert [event["action"] for event in empty.events()] == [*"IIIBU"]
    assert run(empty, "reconcile").exit_code == 0


def test_a_dump_of_the_trail_alone_can_be_read(shop: Trail, empty: Trail, move: Move) -> None:
    move(shop, empty, "-n", "audit")
    mend(empty)
    assert kinds(empty) == []
    answer = run(empty, "history", "orders", "1")
    assert (answer.exit_code, "inserted by" in answer.stdout) == (0, True)
    number = shop.events()[0]["transaction_id"]
    refused = run(empty, "revert", "--transaction", number)
    assert (refused.exit_code, "no longer exists" in refused.stderr) == (2, True)


def test_a_reader_is_told_what_it_may_not_read(shop: Trail) -> None:
    role = f"{shop.database.name}_reader"
    shop.execute(f"create role {role} login")
    try:
        dsn = shop.database.dsn.replace("postgres@", f"{role}@")
        shop.execute(f"grant usage on schema audit to {role}")
        found = CliRunner().invoke(app, ["check", "--dsn", dsn]).stdout
        assert "place and ids of audit.logged_actions" in found
        shop.execute(run(shop, "grants", "--reader", role).stdout)
        assert "OK: everything installed" in CliRunner().invoke(app, ["check", "--dsn", dsn]).stdout
        shop.execute("update audit.home set system_identifier = '7'")
        assert "trail_moved" in CliRunner().invoke(app, ["check", "--dsn", dsn]).stdout
    finally:
        shop.execute(f"drop owned by {role}; drop role {role}")


def test_a_trail_of_an_older_release_is_upgraded_first(shop: Trail) -> None:
    shop.execute("drop table audit.home")
    assert kinds(shop) == ["relation_missing"]
    refused = run(shop, *ADOPT)
    assert (refused.exit_code, "audit upgrade --sql | psql" in refused.stderr) == (2, True)
    shop.execute("drop table audit.captured_tables; drop function audit.present_home()")
    assert {"relation_missing", "schema_outdated"} <= set(kinds(shop))
    assert "trail_moved" not in kinds(shop)


def test_adopting_needs_a_trail_and_a_reason(shop: Trail, empty: Trail) -> None:
    assert "has no audit trail" in str(run(empty, *ADOPT).stderr)
    assert run(empty, *ADOPT).exit_code == 2
    assert run(shop, "adopt", "--reason", " ").exit_code == 2


@pytest.mark.parametrize("adopted", [False, True], ids=["not adopted", "adopted"])
def test_columns_are_followed_after_a_restore_that_numbers_them_anew(
    trail: Trail, empty: Trail, move: Move, adopted: bool
) -> None:
    trail.execute(
        "create table people (x int, id int primary key, y int, secret text, note text);"
        "alter table people drop x; create table users (x int, y int, id int primary key, v text);"
        "alter table users drop x"
    )
    trail.audit("people", exclude=("secret",))
    trail.audit("users", only=("v",))
    trail.execute(
        "alter table people drop y; alter table people rename id to nr;"
        "alter table people rename secret to pin; alter table people rename note to secret;"
        "alter table users drop y; insert into users values (1, 'a'); select audit.note_changes()"
    )
    move(trail, empty)
    if adopted:
        assert run(empty, *ADOPT).exit_code == 0
    empty.execute("insert into people (nr, pin) values (7, 'hunter2'); update users set v = 'b'")
    seen = [(e["row_key"], e["new_row"]) for e in empty.events() if e["action"] in "IU"]
    assert seen == [("1", {"id": 1, "v": "a"}), ("7", {"nr": 7}), ("1", {"id": 1, "v": "b"})]


@pytest.mark.parametrize("adopted", [False, True], ids=["adopted later", "adopted before"])
def test_a_table_is_followed_through_renames_before_and_after_a_restore(
    shop: Trail, empty: Trail, move: Move, adopted: bool
) -> None:
    shop.execute("alter table orders rename to purchases; update purchases set status = 'paid'")
    move(shop, empty)
    if adopted:
        assert run(empty, *ADOPT).exit_code == 0
    empty.execute("alter table purchases rename to bought")
    known = "select * from audit.table_at(null::bought, clock_timestamp()) order by id"
    assert empty.execute(known) == [(1, "paid"), (2, "paid")]  # before anything notes the name
    empty.execute("update bought set status = 'sent'")
    if not adopted:
        assert run(empty, *ADOPT).exit_code == 0
    empty.execute("update bought set status = 'back' where id = 2")
    assert empty.execute(known) == [(1, "sent"), (2, "back")]
    versions = "select row_image ->> 'status' from audit.history('bought', '1')"
    assert [status for (status,) in empty.execute(versions)] == ["new", "paid", "sent"]
    asked = run(empty, "history", "orders", "1").stderr
    assert "note: public.orders is now called public.bought" in asked


@pytest.mark.parametrize("adopted", [False, True], ids=["not adopted", "adopted"])
def test_columns_that_were_renamed_just_before_a_dump_are_followed(
    trail: Trail, empty: Trail, move: Move, adopted: bool
) -> None:
    trail.execute(
        "create table t (x int, id int primary key, a text, b text, c int);"
        "alter table t drop x; create table u (id int primary key, a text)"
    )
    trail.audit("t")
    trail.audit("u")
    trail.execute(
        "insert into t values (1, 'a', 'b', 3), (2, 'a', 'b', 3); insert into u values (1, 'a');"
        "alter table t rename a to former; alter table t rename b to other; alter table t add d int;"
        "alter table u rename a to last"
    )
    move(trail, empty)
    if adopted:
        assert run(empty, *ADOPT).exit_code == 0
    else:
        empty.execute("select audit.note_changes()")
    empty.execute("update t set d = 5 where id = 1")
    known = "select * from audit.table_at(null::{}, clock_timestamp()) order by id"
    # Of the last column, nothing says whether it is another one.
    assert empty.execute(known.format("u")) == [(1, None)]
    assert empty.execute(known.format("t")) == [(1, "a", "b", 3, 5), (2, "a", "b", 3, None)]


def test_a_partition_that_left_just_before_the_dump(shop: Trail, empty: Trail, move: Move) -> None:
    shop.execute("""
        create table visits (id int primary key) partition by range (id);
        create table v1 partition of visits for values from (0) to (10);
        create table v2 partition of visits for values from (10) to (20)
    """)
    shop.audit("visits")
    shop.execute("insert into visits values (1), (11); alter table visits detach partition v1")
    move(shop, empty)
    asked = ("table-at", "visits", "--at", "now")
    assert "partition public.v1 is no longer part" in run(empty, *asked).stderr
    assert run(empty, *ADOPT).exit_code == 0
    assert "partition public.v1 is no longer part" in run(empty, *asked).stderr
    assert run(empty, "baseline", "--table", "visits").exit_code == 0
    assert run(empty, *asked).stderr == ""
