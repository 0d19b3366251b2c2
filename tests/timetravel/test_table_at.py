from __future__ import annotations

import re
import secrets
from datetime import datetime

import psycopg
import pytest

from audit_toolkit.capture import take_baseline
from audit_toolkit.schema.grants import render_grants
from tests.plugins.seeds import seeds
from tests.plugins.trail import Trail
from tests.timetravel.histories import ITEMS, KEYED, describe, happen, rows_of
from tests.timetravel.words import now

TABLE_AT = "audit.table_at(null::public.items, %s)"
ORDERS = "create table orders (id int primary key, status text, total numeric)"


@pytest.mark.parametrize("seed", seeds(6, quick=1))
@pytest.mark.parametrize("store", ["rows", "changes"])
def test_equals_the_copies_that_were_taken(trail: Trail, seed: int, store: str) -> None:
    trail.execute(ITEMS.replace("{key}", KEYED))
    trail.audit("items", store=store)
    for number, moment in enumerate(list(happen(trail, seed, 20))):
        assert rows_of(trail, TABLE_AT, [moment.at]) == moment.rows, describe(trail)
        for key in range(1 + number % 3, 30, 3):
            found = rows_of(
                trail, "audit.row_at(null::public.items, %s, %s)", [str(key), moment.at]
            )
            assert found == {row: n for row, n in moment.rows.items() if f'"id":{key},' in row}


@pytest.mark.parametrize("seed", range(2))
def test_of_a_table_without_a_key(trail: Trail, seed: int) -> None:
    trail.execute(ITEMS.replace("{key}", ""))
    trail.audit("items")
    for moment in list(happen(trail, seed, 15)):
        assert rows_of(trail, TABLE_AT, [moment.at]) == moment.rows, describe(trail)


def test_of_a_table_that_changed_its_columns(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new', 5)")
    before = now(trail)
    trail.execute("""
        alter table orders drop column status;
        alter table orders alter total type text;
        alter table orders add note text default 'none';
        update orders set note = 'later'
    """)
    found = trail.execute("select * from audit.table_at(null::orders, %s)", [before])
    assert found == [(1, "5", None)]
    assert trail.execute("select * from audit.table_at(null::orders, now())") == [(1, "5", "later")]
    trail.execute("alter table orders alter total type date using null")
    with pytest.raises(psycopg.errors.InvalidDatetimeFormat):
        trail.execute("select * from audit.row_at(null::orders, '1', %s)", [before])


def test_rows_older_than_the_trail_are_not_made_up(trail: Trail) -> None:
    trail.execute(ORDERS + "; insert into orders values (1, 'old', 1), (2, 'old', 2)")
    trail.audit("orders")
    early = now(trail)
    refused(trail, early, "the trail has no events of row 1 of public.orders")
    refused_row(trail, early, "the trail has no events of row 1 of public.orders")
    trail.execute("update orders set status = 'seen' where id = 1")
    middle = now(trail)
    refused(trail, early, "the trail has events of row 1 of public.orders only from")
    refused_row(trail, early, "the trail has events of row 1 of public.orders only from")
    refused(trail, middle, "the trail has no events of row 2 of public.orders")
    baseline(trail)
    refused(trail, middle, "the trail has events of row 2 of public.orders only from")
    assert len(trail.execute("select * from audit.table_at(null::orders, now())")) == 2
    assert not trail.execute("select * from audit.row_at(null::orders, '3', %s)", [early])
    trail.execute("insert into orders values (3, 'new', 3)")
    assert not trail.execute("select * from audit.row_at(null::orders, '3', %s)", [early])


def test_truncate_makes_all_known(trail: Trail) -> None:
    trail.execute(ORDERS + "; insert into orders values (1, 'old', 1)")
    trail.audit("orders")
    trail.execute("truncate orders")
    empty = now(trail)
    trail.execute("insert into orders values (2, 'new', 2)")
    assert trail.execute("select * from audit.table_at(null::orders, %s)", [empty]) == []
    assert trail.execute("select id from audit.table_at(null::orders, now())") == [(2,)]


def test_a_gap_is_told_and_a_baseline_ends_it(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new', 1), (2, 'new', 2)")
    before = now(trail)
    trail.execute("""
        select audit.record_gap('orders', 'paused', 'import');
        alter table orders disable trigger "00_audit_row";
        update orders set status = 'unseen' where id = 1;
        delete from orders where id = 2;
        insert into orders values (3, 'unseen', 3)
    """)
    assert "has been paused since" in warnings(trail)
    trail.execute("""
        alter table orders enable always trigger "00_audit_row";
        select audit.record_gap('orders', 'resumed', 'import');
    """)
    assert "was off until" in warnings(trail)
    baseline(trail)
    assert warnings(trail) == ""
    rows = trail.execute("select id, status from audit.table_at(null::orders, now()) order by id")
    assert rows == [(1, "unseen"), (3, "unseen")]
    rows = trail.execute(
        "select id, status from audit.table_at(null::orders, %s) order by id", [before]
    )
    assert rows == [(1, "new"), (2, "new")]


def test_a_rule_with_when_does_not_miss_what_it_left_out(trail: Trail) -> None:
    trail.execute(ORDERS + "; insert into orders values (1, 'test', 1)")
    trail.audit("orders", when="new.status <> 'test'")
    trail.execute("insert into orders values (2, 'new', 2)")
    assert trail.execute("select id from audit.table_at(null::orders, now())") == [(2,)]


def test_partitioned_tables_answer_through_each_partition(trail: Trail) -> None:
    trail.execute("""
        create table visits (day date, n int, primary key (day, n)) partition by range (day);
        create table visits_2026 partition of visits for values from ('2026-01-01') to ('2027-01-01')
    """)
    trail.audit("visits")
    trail.execute("insert into visits_2026 values ('2026-05-01', 7)")
    for table in ("visits", "visits_2026"):
        at = f"audit.row_at(null::{table}, '[\"2026-05-01\", 7]', now())"
        assert trail.execute(f"select n from {at}") == [(7,)]
        assert len(trail.execute(f"select * from audit.table_at(null::{table}, now())")) == 1


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("audit.row_at(null::lines, '7', now())", "'7' cannot be a key of public.lines"),
        ("audit.row_at(null::lines, '[1]', now())", "cannot be a key of public.lines"),
        ("audit.row_at(null::lines, '[1, \"x\"]', now())", "invalid input syntax for type integer"),
        ("audit.row_at(null::bare, '1', now())", "public.bare has no primary key"),
        ("audit.row_at(null::int, '1', now())", "integer is not the type of a table's rows"),
        ("audit.history('nothing', '1')", 'relation "nothing" does not exist'),
    ],
)
def test_bad_questions_get_clear_answers(trail: Trail, question: str, answer: str) -> None:
    trail.execute(
        "create table lines (a int, b int, primary key (a, b)); create table bare (a int)"
    )
    with pytest.raises(psycopg.Error, match=re.escape(answer)):
        trail.execute(f"select * from {question}")


def test_keys_are_read_as_their_types(trail: Trail) -> None:
    trail.execute("create table things (id uuid primary key, v int)")
    trail.audit("things")
    trail.execute("insert into things values ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1)")
    found = trail.execute(
        "select v from audit.row_at(null::things, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', now())"
    )
    assert found == [(1,)]


def test_history_gives_versions_with_their_validity(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("select set_config('audit.context', '{\"actor\": \"alice\"}', false)")
    trail.execute(
        "begin; insert into orders values (1, 'new', 1); update orders set total = 2; commit"
    )
    trail.execute("update orders set id = 2")
    trail.execute("insert into orders values (1, 'again', 3)")
    trail.execute("truncate orders")
    query = "select valid_from, valid_to, actor, row_image ->> 'status' from audit.history('orders', '1')"
    first, second = trail.execute(query)
    times = [e["action_tstamp"] for e in trail.events()]
    assert first == (times[1], times[2], "alice", "new")
    assert second == (times[3], times[4], "alice", "again")
    assert (
        trail.execute(
            "select valid_to is null, row_image ->> 'id' from audit.history('orders', '3')"
        )
        == []
    )


def test_a_reader_may_travel(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new', 1)")
    role = f"reader_{secrets.token_hex(4)}"
    trail.execute(f"create role {role}")
    try:
        for statement in render_grants("audit", "postgres", reader=role):
            trail.execute(statement)
        trail.execute(f"set role {role}")
        assert len(trail.execute("select * from audit.table_at(null::orders, now())")) == 1
        assert len(trail.execute("select * from audit.row_at(null::orders, '1', now())")) == 1
        assert len(trail.execute("select * from audit.history('orders', '1')")) == 1
    finally:
        trail.execute(f"reset role; drop owned by {role}; drop role {role}")


@pytest.mark.parametrize("rows", [900, 1500])
def test_many_rows_that_changed_later_are_all_known_or_one_is_named(
    trail: Trail, rows: int
) -> None:
    """Few rows are looked up in the index, many are not: what is found is the same."""
    trail.execute(
        f"{ORDERS}; insert into orders select n, 'old', n from generate_series(1, 10) as n"
    )
    trail.audit("orders")
    trail.execute(f"""
        insert into orders select n, 'new', n from generate_series(11, {rows}) as n;
        update orders set id = -id where id in (20, 21);
        delete from orders where id = 22;
        insert into orders values (22, 'again', 22)
    """)
    early = now(trail)
    trail.execute("update orders set status = 'later' where id > 10 or id < 0")
    scans = "select sum(idx_scan)::int from pg_stat_xact_user_tables where schemaname = 'audit'"
    with trail.connection.transaction():
        (before,) = trail.execute(scans)[0]
        with (
            pytest.raises(psycopg.Error, match="no events of row 1 "),
            trail.connection.transaction(),
        ):
            trail.execute("select * from audit.table_at(null::orders, %s)", [early])
        (after,) = trail.execute(scans)[0]
    assert (after - before > rows) is (rows < 1000)
    trail.execute("update orders set status = 'seen' where id = 7")
    refused(trail, early, "the trail has events of row 7 of public.orders only from")
    trail.execute("delete from orders where id between 1 and 10")
    moment = now(trail)
    trail.execute("update orders set status = 'last'")
    found = trail.execute(
        "select count(*), min(id), min(status) from audit.table_at(null::orders, %s)", [moment]
    )
    assert found == [(rows - 10, -21, "later")]


def refused(trail: Trail, at: datetime, message: str) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=message):
        trail.execute("select * from audit.table_at(null::orders, %s)", [at])


def refused_row(trail: Trail, at: datetime, message: str) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=message):
        trail.execute("select * from audit.row_at(null::orders, '1', %s)", [at])


def warnings(trail: Trail) -> str:
    heard: list[str] = []

    def hear(diagnostic: psycopg.errors.Diagnostic) -> None:
        heard.append(diagnostic.message_primary or "")

    trail.connection.add_notice_handler(hear)
    trail.execute("select * from audit.table_at(null::orders, clock_timestamp())")
    trail.connection.remove_notice_handler(hear)
    return "\n".join(heard)


def baseline(trail: Trail) -> None:
    take_baseline(trail.connection, trail.target("orders"), "audit")


def test_without_statistics_no_pairs_are_compared(trail: Trail) -> None:
    trail.execute("create table orders (id int primary key, status text)")
    trail.audit("orders")
    trail.execute("insert into orders select g, 'new' from generate_series(1, 2000) g")
    trail.execute("update orders set status = 'paid' where id % 2 = 0")
    trail.execute("load 'auto_explain'")
    for setting, value in (
        ("log_min_duration", "0"),
        ("log_nested_statements", "on"),
        ("log_analyze", "on"),
        ("log_format", "json"),
    ):
        trail.execute(f"set auto_explain.{setting} = {value}")
    trail.execute("set client_min_messages = log")
    plans: list[str] = []
    trail.connection.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    assert trail.execute("select count(*) from audit.table_at(null::orders, now())") == [(2000,)]
    removed = [int(n) for n in re.findall(r'"Rows Removed by Join Filter": (\d+)', "".join(plans))]
    assert any("row_images_at" in plan for plan in plans)
    assert sum(removed) < 2000


NEXT = {
    "nothing": ("select 1", []),
    "another": ("insert into queue values (1, 'x')", []),
    "inserted": (
        "alter table queue disable trigger \"00_a\"; insert into queue values (1, 'y')",
        [1],
    ),
}


@pytest.mark.parametrize("kind", NEXT)
def test_a_row_that_a_trigger_deletes_at_once_is_gone(trail: Trail, kind: str) -> None:
    """The trigger comes before ours, and so does its DELETE before the INSERT that fired it."""
    trail.execute("""
        create table queue (id int primary key, v text);
        create function take() returns trigger language plpgsql as
            'begin delete from queue where id = new.id; return null; end';
        create trigger "00_a" after insert on queue for each row execute function take()
    """)
    trail.audit("queue")
    start = now(trail)
    trail.execute("insert into queue values (1, 'x')")
    assert trail.story() == [("D", "1"), ("I", "1")]
    taken = now(trail)
    then, expected = NEXT[kind]
    trail.execute(then)
    question = "select id from audit.table_at(null::queue, %s)"
    assert trail.execute(question, [start]) == trail.execute(question, [taken]) == []
    assert [row for (row,) in trail.execute(question, [now(trail)])] == expected


@pytest.mark.parametrize("then", ["select 1", "update kept set v = 'y'", "delete from kept"])
def test_a_row_that_was_put_back_as_it_was_stays(trail: Trail, then: str) -> None:
    trail.execute(
        "create table kept (id int primary key, v text); insert into kept values (1, 'x')"
    )
    trail.audit("kept")
    start = now(trail)
    trail.execute("begin; delete from kept; insert into kept values (1, 'x'); commit")
    back = now(trail)
    trail.execute(then)
    question = "select v from audit.table_at(null::kept, %s)"
    assert trail.execute(question, [back]) == [("x",)]
    with pytest.raises(psycopg.Error, match="only from"):
        trail.execute(question, [start])
