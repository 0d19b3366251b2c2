from __future__ import annotations

import io
from decimal import Decimal

import psycopg
import pytest

from audit_toolkit.config import Capture
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, status text, total numeric)"
BOTH = pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])


@BOTH
def test_insert_update_delete_truncate(trail: Trail, capture: Capture) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    trail.execute("insert into orders values (1, 'new', 10.50)")
    trail.execute("update orders set status = 'paid'")
    trail.execute("delete from orders")
    trail.execute("truncate orders")
    new, paid = (
        {"id": 1, "status": "new", "total": Decimal("10.50")},
        {"id": 1, "status": "paid", "total": Decimal("10.50")},
    )
    assert [(e["action"], e["row_key"], e["old_row"], e["new_row"]) for e in trail.events()] == [
        ("I", "1", None, new),
        ("U", "1", new, paid),
        ("D", "1", paid, None),
        ("T", None, None, None),
    ]


@BOTH
def test_an_aborted_change_leaves_no_event(trail: Trail, capture: Capture) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    trail.execute("begin; insert into orders values (1, 'new', 1); rollback")
    trail.execute(
        "begin; insert into orders values (2, 'new', 1); savepoint a;"
        " update orders set status = 'paid'; rollback to a; commit"
    )
    assert trail.story() == [("I", "2")]


@BOTH
def test_an_update_that_changes_nothing_is_not_logged(trail: Trail, capture: Capture) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    trail.execute("insert into orders values (1, 'new', 1.0), (2, null, null)")
    trail.execute("update orders set status = status, total = total")
    assert trail.story() == [("I", "1"), ("I", "2")]


@BOTH
def test_log_unchanged_logs_it(trail: Trail, capture: Capture) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture, log_unchanged=True)
    trail.execute("insert into orders values (1, 'new', 1.0)")
    trail.execute("update orders set status = status")
    assert trail.story() == [("I", "1"), ("U", "1")]


@BOTH
@pytest.mark.parametrize("rule", [{}, {"exclude": ("status",)}, {"only": ("total",)}])
def test_a_change_of_scale_is_a_change(
    trail: Trail, capture: Capture, rule: dict[str, tuple[str, ...]]
) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture, **rule)
    trail.execute("insert into orders values (1, 'new', 1.0)")
    trail.execute("update orders set total = 1.00")
    [_, update] = trail.events()
    assert (str(update["old_row"]["total"]), str(update["new_row"]["total"])) == ("1.0", "1.00")


@BOTH
def test_types_without_equality(trail: Trail, capture: Capture) -> None:
    trail.execute("create table shapes (id int primary key, j json, p point, x xid)")
    trail.audit("shapes", capture=capture)
    trail.execute("insert into shapes values (1, '{\"a\": 1}', '(1,2)', '7')")
    trail.execute("update shapes set j = j, p = p")
    trail.execute("update shapes set j = '{\"a\": 2}'")
    assert trail.story() == [("I", "1"), ("U", "1")]


@BOTH
def test_key_changes_carry_the_old_key(trail: Trail, capture: Capture) -> None:
    trail.execute("create table lines (shop text, n int, v int, primary key (shop, n))")
    trail.audit("lines", capture=capture)
    trail.execute("insert into lines values ('eu', 1, 0), ('eu', 2, 0), ('us', 3, 0)")
    trail.execute("update lines set n = n + 1 where n >= 2")
    trail.execute("update lines set v = 1 where n = 1")
    keys = [(e["action"], e["row_key"], e["old_row_key"]) for e in trail.events()[3:]]
    assert keys == [
        ("U", '["eu", 3]', '["eu", 2]'),
        ("U", '["us", 4]', '["us", 3]'),
        ("U", '["eu", 1]', None),
    ]


@BOTH
def test_swapped_keys_are_paired_row_by_row(trail: Trail, capture: Capture) -> None:
    trail.execute("create table pairs (id int primary key deferrable initially deferred, v text)")
    trail.audit("pairs", capture=capture)
    trail.execute("insert into pairs values (1, 'one'), (2, 'two')")
    trail.execute("update pairs set id = 3 - id")
    swaps = {(e["old_row"]["v"], e["new_row"]["v"], e["row_key"]) for e in trail.events()[2:]}
    assert swaps == {("one", "one", "2"), ("two", "two", "1")}


KEYS = [
    ("text", "'[\"eu\", 1]'", '["eu", 1]'),
    ("text", "''", ""),
    ("text", "'null'", "null"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("timestamptz", "'2026-11-01 01:00+01'", "2026-11-01T00:00:00+00:00"),
    ("date", "'2026-11-01'", "2026-11-01"),
    ("bytea", "'\\xdeadbeef'", "\\xdeadbeef"),
    ("numeric", "'1.50'", "1.50"),
    ("boolean", "'true'", "true"),
    ("mood", "'so so'", "so so"),
    ("score", "'7'", "7"),
]


@pytest.mark.parametrize(("key_type", "value", "expected"), KEYS)
def test_keys_of_any_type(trail: Trail, key_type: str, value: str, expected: str) -> None:
    trail.execute("create type mood as enum ('so so'); create domain score as int")
    trail.execute(f"create table things (id {key_type} primary key)")
    trail.audit("things")
    for setting in ("timezone = 'Asia/Tokyo'", "bytea_output = 'escape'", "datestyle = 'German'"):
        trail.execute(f"set {setting}")
    trail.execute(f"insert into things values ({value})")
    assert [event["row_key"] for event in trail.events()] == [expected]


@BOTH
def test_a_table_without_key(trail: Trail, capture: Capture) -> None:
    trail.execute("create table readings (sensor text, value float8)")
    trail.audit("readings", capture=capture)
    trail.execute("insert into readings values ('a', 1), ('a', 1)")
    trail.execute("update readings set value = 2 where ctid = '(0,1)'")
    trail.execute("delete from readings")
    assert trail.story() == [("I", None), ("I", None), ("U", None), ("D", None), ("D", None)]


@BOTH
def test_upserts_are_what_they_became(trail: Trail, capture: Capture) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    upsert = "insert into orders values (1, %s, 1) on conflict (id) do update set status = excluded.status"
    for status in ("new", "new", "paid"):
        trail.execute(upsert, [status])
    trail.execute("insert into orders values (1, 'x', 1) on conflict do nothing")
    assert trail.story() == [("I", "1"), ("U", "1")]


@BOTH
@pytest.mark.pg(">= 15")
def test_merge(trail: Trail, capture: Capture) -> None:
    trail.execute(ORDERS)
    trail.execute("insert into orders values (1, 'new', 1), (2, 'new', 1), (3, 'new', 1)")
    trail.audit("orders", capture=capture)
    trail.execute("""
        merge into orders using (values (1, 'paid'), (2, 'gone'), (9, 'new')) as s (id, status)
            on orders.id = s.id
        when matched and s.status = 'gone' then delete
        when matched then update set status = s.status
        when not matched then insert values (s.id, s.status, 0)
    """)
    assert sorted(trail.story()) == [("D", "2"), ("I", "9"), ("U", "1")]


@BOTH
def test_copy(trail: Trail, capture: Capture) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    with trail.connection.cursor().copy("copy orders from stdin") as copy:
        copy.write("1\tnew\t1.5\n2\t\\N\t\\N\n")
    assert trail.story() == [("I", "1"), ("I", "2")]


@BOTH
def test_one_statement_with_several_writes(trail: Trail, capture: Capture) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    trail.execute("insert into orders values (1, 'a', 1), (2, 'b', 2)")
    trail.execute("""
        with gone as (delete from orders where id = 1 returning *),
             changed as (update orders set status = 'c' where id = 2 returning *)
        insert into orders select id + 10, status, total from gone
    """)
    assert sorted(trail.story()[2:]) == [("D", "1"), ("I", "11"), ("U", "2")]


@BOTH
def test_cascades(trail: Trail, capture: Capture) -> None:
    trail.execute("""
        create table parents (id int primary key, boss int references parents on delete set null);
        create table children (
            id int primary key,
            parent int references parents on update cascade on delete cascade
        );
        insert into parents values (1, null), (2, 1);
        insert into children values (10, 1), (11, 1), (12, 2);
    """)
    trail.audit("parents", capture=capture)
    trail.audit("children", capture=capture)
    trail.execute("update parents set id = 5 where id = 2")
    trail.execute("delete from parents where id = 1")
    found = sorted((e["table_name"], e["action"], e["row_key"]) for e in trail.events())
    assert found == [
        ("children", "D", "10"),
        ("children", "D", "11"),
        ("children", "U", "12"),
        ("parents", "D", "1"),
        ("parents", "U", "5"),
        ("parents", "U", "5"),
    ]


@BOTH
def test_columns_added_dropped_renamed_and_retyped_later(trail: Trail, capture: Capture) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture)
    trail.execute("alter table orders add note text default 'none', drop status")
    trail.execute("insert into orders (id, total) values (1, 2)")
    trail.execute("alter table orders rename note to remark")
    trail.execute("alter table orders alter total type text")
    trail.execute("update orders set total = '3'")
    rows = [event["new_row"] for event in trail.events() if event["action"] != "M"]
    assert rows == [
        {"id": 1, "total": 2, "note": "none"},
        {"id": 1, "total": "3", "remark": "none"},
    ]


def test_replica_mode_does_not_silence_capture(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("set session_replication_role = replica")
    trail.execute("insert into orders values (1, 'new', 1); truncate orders")
    assert trail.story() == [("I", "1"), ("T", None)]


@pytest.mark.parametrize("columns", [200])
def test_wide_tables(trail: Trail, columns: int) -> None:
    names = ", ".join(f"c{number} text" for number in range(columns))
    trail.execute(f"create table wide (id int primary key, {names})")
    trail.audit("wide")
    trail.execute("insert into wide (id) values (1); update wide set c199 = 'x'")
    [_, update] = trail.events()
    assert len(update["new_row"]) == columns + 1
    assert update["new_row"]["c199"] == "x"


@BOTH
def test_rows_of_ten_megabytes(trail: Trail, capture: Capture) -> None:
    trail.execute("create table documents (id int primary key, body text, n int)")
    trail.audit("documents", capture=capture)
    trail.execute("insert into documents values (1, repeat('x', 10000000), 0)")
    trail.execute("update documents set n = 1; update documents set n = n")
    [_, update] = trail.events()
    assert len(update["old_row"]["body"]) == len(update["new_row"]["body"]) == 10_000_000


@BOTH
def test_generated_and_identity_columns(trail: Trail, capture: Capture) -> None:
    trail.execute("""
        create table boxes (
            id int generated always as identity primary key,
            w int,
            area int generated always as (w * w) stored
        )
    """)
    trail.audit("boxes", capture=capture)
    trail.execute("insert into boxes (w) values (3); update boxes set w = 4")
    assert [event["new_row"] for event in trail.events()] == [
        {"id": 1, "w": 3, "area": 9},
        {"id": 1, "w": 4, "area": 16},
    ]


@BOTH
def test_triggers_of_the_application_that_change_the_row(trail: Trail, capture: Capture) -> None:
    trail.execute(ORDERS)
    trail.execute("""
        create function stamp() returns trigger language plpgsql as $$
        begin
            if tg_when = 'BEFORE' then new.status := upper(new.status); return new; end if;
            if new.total is null then update orders set total = 0 where id = new.id; end if;
            return null;
        end $$;
        create trigger a_before before insert or update on orders
            for each row execute function stamp();
        create trigger a_after after insert on orders for each row execute function stamp();
    """)
    trail.audit("orders", capture=capture)
    trail.execute("insert into orders values (1, 'new', null)")
    images = {(e["action"], e["new_row"]["status"], e["new_row"]["total"]) for e in trail.events()}
    assert images == {("I", "NEW", None), ("U", "NEW", 0)}


def test_bulk_load_through_text_streams(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=Capture.STATEMENT)
    lines = io.StringIO("".join(f"{n}\tnew\t{n}\n" for n in range(2000)))
    with trail.connection.cursor().copy("copy orders from stdin") as copy:
        copy.write(lines.read())
    trail.execute("update orders set total = total + 1")
    updates = [e for e in trail.events() if e["action"] == "U"]
    assert len(updates) == 2000
    assert all(e["new_row"]["total"] == e["old_row"]["total"] + 1 for e in updates)
    assert [int(e["row_key"]) for e in updates] == list(range(2000))


def test_statement_capture_writes_in_the_order_of_change(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=Capture.STATEMENT)
    trail.execute("insert into orders select g, 'new', g from generate_series(1, 500) g")
    ids = [event["event_id"] for event in trail.events()]
    assert ids == sorted(ids)
    assert [event["row_key"] for event in trail.events()] == [str(n) for n in range(1, 501)]


def test_malformed_context_fails_the_write_and_loses_nothing(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("set audit.context = 'not json'")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        trail.execute("insert into orders values (1, 'new', 1)")
    trail.execute("set audit.context = ''")
    trail.execute("insert into orders values (1, 'new', 1)")
    assert trail.story() == [("I", "1")]
    assert trail.execute("select count(*) from orders") == [(1,)]
