"""What is not known is said: capture that was off, ended, or began on a table made anew."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from audit_toolkit.capture import Progress, take_baseline
from audit_toolkit.config import Capture, Store
from audit_toolkit.connection import connect
from audit_toolkit.schema.grants import render_grants
from tests.moving.words import run
from tests.plugins.trail import Trail, warnings

ORDERS = "create table orders (id int primary key, status text)"


def gaps(trail: Trail) -> list[tuple[Any, ...]]:
    """What the trail says of capture, in its order, and the first word of the reason."""
    return trail.execute(
        "select new_row ->> 'capture', split_part(new_row ->> 'reason', ' ', 1) || ' ' || table_name"
        " from audit.logged_actions where action = 'G' order by event_id"
    )


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new')")
    return trail


@pytest.mark.parametrize("noted", [False, True], ids=["unnoticed", "noticed"])
def test_a_table_that_was_dropped_and_restored_with_its_triggers(
    orders: Trail, *, noted: bool
) -> None:
    """Nothing tells how old the rows are that came back."""
    [(triggers,)] = orders.execute(
        "select string_agg(pg_get_triggerdef(oid) || "
        "format('; alter table orders enable always trigger %I', tgname), ';') "
        "from pg_trigger where tgrelid = 'orders'::regclass"
    )
    orders.execute("update orders set status = 'paid'; drop table orders")
    if noted:
        orders.execute("select audit.note_changes()")
    orders.execute(f"{ORDERS}; insert into orders values (1, 'new'); {triggers}")
    if not noted:
        [said] = warnings(orders, NOW)
        assert "public.orders was dropped and restored" in said
    orders.audit("orders")
    assert gaps(orders) == [("resumed", "the orders" if noted else "capture orders")]


def test_installing_again_without_a_break_leaves_no_gap(orders: Trail) -> None:
    for rule in ({}, {"capture": Capture.STATEMENT}, {"exclude": ("status",)}, {}):
        orders.audit("orders", **rule)
    orders.execute("alter table orders add note text; alter table orders rename to purchases")
    orders.audit("purchases")
    assert gaps(orders) == []


def test_a_first_installation_says_nothing(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.execute("insert into orders values (1, 'new')")
    trail.audit("orders")
    trail.release("orders")
    trail.audit("orders")
    assert trail.events() == []


def test_what_changed_between_two_installations_is_a_gap(orders: Trail) -> None:
    orders.release("orders")
    orders.execute("update orders set status = 'paid'")
    orders.audit("orders")
    assert gaps(orders) == [("ended", "capture orders"), ("resumed", "capture orders")]


@pytest.mark.parametrize("end", ["release", "by hand"])
def test_columns_that_were_renamed_while_capture_was_off(orders: Trail, end: str) -> None:
    orders.execute("alter table orders add note text; update orders set note = 'ring twice'")
    if end == "release":
        orders.release("orders")
    else:
        orders.execute("drop function audit.capture_public__orders() cascade")
    orders.execute("""
        alter table orders rename status to state; alter table orders rename note to status;
        alter table orders rename to purchases
    """)
    orders.audit("purchases")
    for query in ("table_at(null::purchases, now())", "row_at(null::purchases, '1', now())"):
        assert orders.execute(f"select * from audit.{query}") == [(1, "new", "ring twice")]
    assert gaps(orders)[-1] == ("resumed", "capture purchases")


BREAKS = {
    "disabled and enabled": """
        alter table orders disable trigger "00_audit_row";
        update orders set status = 'paid';
        alter table orders enable always trigger "00_audit_row" """,
    "dropped": 'drop trigger "00_audit_row" on orders',
    "all disabled": "alter table orders disable trigger all",
    "made again by hand": """
        drop trigger "00_audit_row" on orders;
        create trigger "00_audit_row" after insert or update or delete on orders
            for each row execute function audit.capture_public__orders();
        alter table orders enable always trigger "00_audit_row" """,
    "the function dropped": "drop function audit.capture_public__orders() cascade",
    "the registry emptied": """
        alter table orders disable trigger all;
        delete from audit.captured_tables""",
}


@pytest.mark.parametrize("kind", BREAKS)
def test_capture_that_was_off_by_hand_is_a_gap(orders: Trail, kind: str) -> None:
    orders.execute(BREAKS[kind])
    orders.audit("orders")
    assert gaps(orders) == [("resumed", "capture orders")]
    orders.audit("orders")
    assert len(gaps(orders)) == 1


def test_a_table_made_anew_begins_with_a_gap(orders: Trail) -> None:
    since = orders.execute("select captured_since from audit.captured_tables")
    orders.execute("drop table orders")
    orders.execute(ORDERS)
    orders.audit("orders")
    assert gaps(orders) == [("resumed", "the orders")]
    assert orders.execute("select captured_since from audit.captured_tables") > since


def test_a_table_that_takes_the_name_of_a_renamed_one_is_another(orders: Trail) -> None:
    orders.execute("alter table orders rename to orders_2025")
    orders.execute(ORDERS)
    orders.audit("orders")
    orders.execute("insert into orders values (1, 'other')")
    assert gaps(orders) == []
    assert orders.execute(
        "select table_name, new_row ->> 'change' from audit.logged_actions"
        " where action = 'M' order by event_id"
    ) == [("orders_2025", "renamed"), ("orders", "created")]


def test_a_pause_is_no_break(orders: Trail) -> None:
    for state, switch in (("paused", "disable"), ("resumed", "enable always")):
        orders.execute(
            f'alter table orders {switch} trigger "00_audit_row";'
            f' alter table orders {switch} trigger "00_audit_truncate";'
            f" select audit.record_gap('orders', '{state}', 'an import')"
        )
    orders.audit("orders")
    assert [state for state, _ in gaps(orders)] == ["paused", "resumed"]


NOW = "select * from audit.row_at(null::orders, '1', now())"


CHANGES = {
    "replaced": """
        create or replace function audit.capture_public__orders() returns trigger language plpgsql
        security definer set search_path = pg_catalog, pg_temp as 'begin return null; end'
    """,
    "settings": "alter function audit.capture_public__orders() set search_path = public",
    "further setting": "alter function audit.capture_public__orders() set row_security = off",
    "rights": "alter function audit.capture_public__orders() security invoker",
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_capture_function_that_was_changed_by_hand_leaves_a_gap(orders: Trail, kind: str) -> None:
    orders.execute(CHANGES[kind])
    orders.execute("update orders set status = 'paid'")
    [[between]] = orders.execute("select clock_timestamp()")
    assert warnings(orders, NOW) == [
        "audit: the capture function of public.orders was changed by hand: changes made since then may be missing"
    ]
    orders.audit("orders")
    assert gaps(orders) == [("resumed", "its orders")]
    [said] = warnings(orders, NOW.replace("now()", f"'{between}'"))
    assert said.startswith("audit: capture of public.orders was off at some time between 20")
    [said] = warnings(orders, f"select * from audit.table_at(null::orders, '{between}')")
    assert "was off at some time between" in said
    [said] = warnings(orders, NOW)
    assert said.startswith("audit: capture of public.orders was off until 20")
    orders.audit("orders")
    assert len(gaps(orders)) == 1


KEYS = {
    "another": "alter table orders drop constraint orders_pkey, add primary key (status)",
    "more of it": "alter table orders drop constraint orders_pkey, add primary key (id, status)",
    "made anew": "alter table orders drop id; alter table orders add id serial primary key",
    "none": "alter table orders drop constraint orders_pkey",
}


@pytest.mark.parametrize("kind", KEYS)
def test_another_key_is_a_gap_as_events_of_before_have_the_former_one(
    orders: Trail, kind: str
) -> None:
    orders.execute(KEYS[kind])
    orders.audit("orders")
    assert gaps(orders) == [("resumed", "its orders")]
    orders.audit("orders")
    orders.execute(
        "alter table orders rename status to state; alter table orders alter state type varchar(9)"
    )
    orders.audit("orders")
    assert len(gaps(orders)) == 1


def test_a_partition_that_was_truncated_before_that_was_recorded_is_a_gap(trail: Trail) -> None:
    trail.execute(
        "create table visits (id int primary key) partition by range (id);"
        "create table visits_1 partition of visits for values from (0) to (10)"
    )
    trail.audit("visits")
    trail.execute("create table visits_2 partition of visits default")
    trail.execute("insert into visits values (1), (20)")
    trail.audit("visits")
    assert gaps(trail) == []
    trail.execute("create table visits_3 partition of visits for values from (10) to (20)")
    trail.execute("insert into visits values (11)")
    trail.execute("truncate visits_3")
    trail.audit("visits")
    assert gaps(trail) == [("resumed", "a visits")]
    trail.audit("visits")
    trail.execute("truncate visits_3")
    assert len(gaps(trail)) == 1


def test_keys_that_changed_places_are_no_gap(trail: Trail) -> None:
    trail.execute("create table orders (a int, b int, v int, primary key (a, b))")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 2)")
    trail.execute(
        "alter table orders rename a to c; alter table orders rename b to a; alter table orders rename c to b"
    )
    trail.execute("update orders set v = 3")
    trail.audit("orders")
    trail.execute("update orders set v = 4")
    assert gaps(trail) == []
    assert {event["row_key"] for event in trail.events() if event["action"] in "IU"} == {"[1, 2]"}


WITHHELD = {
    "a column came": ("alter table orders add note text", "note"),
    "one took the name": ("alter table orders rename status to secret", "secret"),
}


@pytest.mark.parametrize("kind", WITHHELD)
@pytest.mark.parametrize("gone", ["rename secret to pin", "drop secret"])
def test_what_was_left_out_while_a_hidden_column_was_gone_is_a_gap(
    trail: Trail, kind: str, gone: str
) -> None:
    change, column = WITHHELD[kind]
    trail.execute("create table orders (id int primary key, status text, secret text, n int)")
    trail.audit("orders", exclude=("secret",))
    trail.execute("alter table orders rename n to number")
    trail.audit("orders", exclude=("secret",))
    assert gaps(trail) == []
    trail.execute(f"alter table orders {gone}; {change}; insert into orders values (1)")
    trail.execute(f"update orders set {column} = 'x'")
    rule: dict[str, Any] = {"exclude": ("pin",)} if "pin" in gone else {}
    trail.audit("orders", **rule)
    assert gaps(trail) == [("resumed", "a orders")]
    trail.audit("orders", **rule)
    assert len(gaps(trail)) == 1


def test_rows_that_went_with_a_partition_are_said(trail: Trail) -> None:
    trail.execute("""
        create table orders (id int primary key, status text) partition by range (id);
        create table first partition of orders for values from (0) to (10);
        create table rest partition of orders default
    """)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new'), (20, 'new')")
    [[before]] = trail.execute("select clock_timestamp()")
    assert warnings(trail, NOW) == []
    trail.execute("alter table orders detach partition first")
    said = (
        "audit: partition public.first is no longer part of public.orders:"
        " rows that went with it are still in the answer"
    )
    every = "select * from audit.table_at(null::orders, {})"
    assert warnings(trail, NOW) == warnings(trail, every.format("now()")) == [said]
    trail.execute("select audit.note_changes()")
    assert warnings(trail, every.format("clock_timestamp()")) == [said]
    assert warnings(trail, every.format(f"'{before}'")) == []
    trail.execute("update orders set status = 'paid'")
    assert warnings(trail, NOW.replace("now()", "clock_timestamp()")) == [said]
    assert warnings(trail, NOW.replace("now()", "clock_timestamp()").replace("'1'", "'20'")) == []
    baseline = run(trail, "baseline", "--table", "orders", "--reason", "a partition left")
    assert baseline.exit_code == 0, baseline.output
    assert warnings(trail, every.format("clock_timestamp()")) == []
    assert trail.execute(every.format("clock_timestamp()")) == [(20, "paid")]


HARMLESS = {
    "another owner": "alter function audit.capture_public__orders() owner to pg_monitor",
    "renamed and back": """
        alter function audit.capture_public__orders() rename to f;
        alter function audit.f() rename to capture_public__orders
    """,
    "granted": "grant execute on function audit.capture_public__orders() to public",
    "commented": "comment on function audit.capture_public__orders() is null",
    "cost": "alter function audit.capture_public__orders() cost 7",
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_leaves_the_code_as_it_was_is_no_gap(orders: Trail, kind: str) -> None:
    orders.execute(HARMLESS[kind])
    orders.audit("orders")
    assert gaps(orders) == []


def test_a_function_of_a_table_that_is_read_from_the_wal_is_known_without_its_comment(
    orders: Trail,
) -> None:
    orders.audit("orders", capture=Capture.WAL)
    query = "select audit.code_of('capture_public__orders')"
    code = orders.execute(query)
    orders.execute(HARMLESS["commented"])
    assert orders.execute(query) == code
    orders.execute("alter function audit.replay_public__orders() cost 7")
    assert orders.execute(query) == code
    orders.execute("alter function audit.replay_public__orders() set row_security = off")
    assert orders.execute(query) != code


def test_a_reader_is_warned_of_a_changed_function(orders: Trail) -> None:
    role = f"{orders.database.name}_reader"
    orders.execute(f"create role {role}; grant select on orders to {role}")
    for statement in render_grants("audit", "postgres", reader=role):
        orders.execute(statement)
    orders.execute(CHANGES["replaced"] + f"; set role {role}")
    [said] = warnings(orders, NOW)
    orders.execute("reset role")
    assert "was changed by hand" in said
    orders.execute(f"drop owned by {role}; drop role {role}")


@pytest.mark.parametrize("store", [Store.ROWS, Store.DELTA])
def test_a_baseline_knows_what_a_table_had_under_its_former_names(
    trail: Trail, store: Store
) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", store=store)
    trail.execute("insert into orders values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')")
    trail.execute(
        "update orders set status = 'x' where id = 2; update orders set id = 40 where id = 4"
    )
    trail.execute("""
        alter table orders rename to purchases; alter table purchases rename status to state;
        update purchases set state = 'y' where id = 3
    """)
    assert run(trail, "pause", "--table", "purchases", "--reason", "x").exit_code == 0
    trail.execute("delete from purchases where id in (2, 3)")
    assert run(trail, "resume", "--table", "purchases", "--reason", "x").exit_code == 0
    assert run(trail, "baseline", "--table", "purchases", "--reason", "x").exit_code == 0
    now = "select * from audit.table_at(null::purchases, clock_timestamp()) order by id"
    assert trail.execute(now) == trail.execute("select * from purchases order by id")
    gone = "select row_key, old_row ->> 'state' from audit.logged_actions where action = 'S' and new_row is null"
    assert sorted(trail.execute(gone)) == [("2", "x"), ("3", "y")]
    assert run(trail, "reconcile").exit_code == 0


def reads_as_it_is(trail: Trail, table: str) -> bool:
    now = f"select * from audit.table_at(null::{table}, clock_timestamp()) order by 1"
    return trail.execute(now) == trail.execute(f"select * from {table} order by 1")


SWAP = """
    create table orders_new (like orders including all); insert into orders_new table orders;
    alter table orders rename to orders_old; alter table orders_new rename to orders
"""


@pytest.mark.parametrize("store", [Store.ROWS, Store.DELTA])
def test_a_baseline_takes_no_rows_of_a_table_that_had_the_name_for_those_of_this_one(
    trail: Trail, store: Store
) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", store=store)
    trail.execute("insert into orders values (1, 'a'), (2, 'b')")
    trail.execute(SWAP)
    trail.audit("orders", store=store)
    trail.audit("orders_old", store=store)
    for table, written in (("orders", 2), ("orders_old", 0)):
        said = run(trail, "baseline", "--table", table, "--reason", "x").output
        assert f"2 rows, {written} snapshots" in said
        assert reads_as_it_is(trail, table)
    assert run(trail, "reconcile").exit_code == 0


@pytest.mark.parametrize(
    ("seen", "unseen"),
    [
        ("update orders set id = 5 where id = 1", "update orders set id = 1 where id = 5"),
        ("truncate orders", "insert into orders values (1, 'a'), (2, 'b')"),
        ("alter table orders rename to sold", "update sold set status = 'z' where id = 2"),
        ("alter table orders rename status to state", "update orders set state = 'z' where id = 2"),
    ],
)
def test_a_baseline_knows_what_became_of_a_row_since_it_was_last_seen_so(
    trail: Trail, seen: str, unseen: str
) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'a'), (2, 'b')")
    trail.execute(seen)
    table = "sold" if "sold" in unseen else "orders"
    trail.audit(table)
    assert run(trail, "pause", "--table", table, "--reason", "x").exit_code == 0
    trail.execute(unseen)
    assert run(trail, "resume", "--table", table, "--reason", "x").exit_code == 0
    changed = 2 if "truncate" in seen or "id = 5" in seen else 1
    for written in (changed, 0):
        assert run(trail, "baseline", "--table", table, "--reason", "x").exit_code == 0
        count = "select count(*) from audit.logged_actions where action = 'S'"
        assert trail.execute(count) == [(changed,)], written
        assert reads_as_it_is(trail, table)
    assert run(trail, "reconcile").exit_code == 0


def test_a_baseline_of_a_table_without_a_key_goes_by_the_events_of_the_table(trail: Trail) -> None:
    trail.execute("create table orders (status text)")
    trail.audit("orders")
    trail.execute("insert into orders values ('a'), ('b')")
    trail.execute(SWAP)
    for table, exit_code in (("orders", 0), ("orders_old", 2)):
        trail.audit(table)
        done = run(trail, "baseline", "--table", table, "--lock", "--reason", "x")
        assert done.exit_code == exit_code, done.output
        assert reads_as_it_is(trail, table)


ALL_NOW = "select count(*) from audit.table_at(null::orders, clock_timestamp())"


def off_and_on(trail: Trail) -> None:
    for verb in ("pause", "resume"):
        assert run(trail, verb, "--table", "orders", "--reason", "x").exit_code == 0


def test_a_baseline_that_finds_nothing_to_record_ends_the_warning(orders: Trail) -> None:
    off_and_on(orders)
    assert warnings(orders, ALL_NOW)
    assert "0 snapshots" in run(orders, "baseline", "--table", "orders", "--reason", "x").output
    assert not warnings(orders, ALL_NOW)


@pytest.mark.parametrize("meanwhile", ["killed", "off"])
def test_a_baseline_ends_the_warning_only_where_it_came_to_its_end(
    orders: Trail, meanwhile: str
) -> None:
    orders.execute("insert into orders values (2, 'new')")
    assert run(orders, "pause", "--table", "orders", "--reason", "x").exit_code == 0
    orders.execute("update orders set status = 'unseen'")
    assert run(orders, "resume", "--table", "orders", "--reason", "x").exit_code == 0

    def interrupt(progress: Progress) -> None:
        if progress.seen == 1 and meanwhile == "killed":
            raise KeyboardInterrupt
        if progress.seen == 1:
            off_and_on(orders)

    with connect(orders.database.dsn) as connection, suppress(KeyboardInterrupt):
        target = orders.target("orders")
        take_baseline(connection, target, "audit", batch_rows=1, on_progress=interrupt)
    assert orders.execute("select true from audit.logged_actions where action = 'S' limit 1")
    assert warnings(orders, ALL_NOW)
    assert run(orders, "baseline", "--table", "orders", "--reason", "x").exit_code == 0
    assert not warnings(orders, ALL_NOW)
