from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from audit_toolkit import trail as verbs
from audit_toolkit.capture import take_baseline
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.trail import time_travel
from tests.plugins.trail import Trail
from tests.timetravel.histories import ITEMS, KEYED, happen
from tests.timetravel.words import Audit, now, say


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute("create table orders (id int primary key, status text, total numeric, doc jsonb)")
    trail.audit("orders")
    say(trail, actor="alice")
    trail.execute("insert into orders values (1, 'new', 1.10, '{\"a\": 1.0}'), (2, '', null, null)")
    return trail


def test_row_at(orders: Trail, audit: Audit) -> None:
    at = now(orders).isoformat()
    orders.execute("update orders set status = 'paid'; delete from orders where id = 2")
    shown = audit("row-at", "orders", "1", "--at", at)
    assert shown.stdout.splitlines() == [
        "id      1",
        "status  new",
        "total   1.10",
        'doc     {"a": 1.0}',
    ]
    assert audit("row-at", "orders", "1", "--at", at, "--format", "json").stdout == (
        '{"row": {"id": 1, "doc": {"a": 1.0}, "total": 1.10, "status": "new"}}\n'
    )
    gone = audit("row-at", "orders", "2", "--at", "now")
    assert gone.stdout == ""
    assert gone.stderr.startswith("note: the row did not exist at ")


def test_row_at_of_a_table_that_was_dropped(orders: Trail) -> None:
    at = now(orders)
    orders.execute("drop table orders")
    row = verbs.row_at(orders.connection, "orders", 1, at)
    assert row is not None
    assert row["status"] == "new"
    with pytest.raises(UsageError, match="no longer exists"):
        next(verbs.table_at(orders.connection, "orders", at))


def test_table_at_as_csv_and_json(orders: Trail, audit: Audit) -> None:
    at = now(orders).isoformat()
    orders.execute("delete from orders")
    shown = audit("table-at", "orders", "--at", at).stdout
    rows = sorted(csv.reader(io.StringIO(shown)))
    assert rows == [
        ["1", "new", "1.10", '{"a": 1.0}'],
        ["2", "", "", ""],
        ["id", "status", "total", "doc"],
    ]
    assert '2,"",,' in shown
    lines = audit("table-at", "orders", "--at", at, "--format", "jsonl").stdout.splitlines()
    whole = audit("table-at", "orders", "--at", at, "--format", "json").stdout
    assert json.loads(whole)["rows"] == [json.loads(line) for line in lines]
    assert '"total": 1.10' in whole
    assert audit("table-at", "orders", "--at", "now", "--format", "json").stdout == '{"rows": []}\n'


def test_what_the_trail_does_not_know_is_an_error(trail: Trail, audit: Audit) -> None:
    trail.execute("create table old (id int primary key); insert into old values (1)")
    trail.audit("old")
    for command in (["table-at", "old"], ["row-at", "old", "1"]):
        refused = audit(*command, "--at", "now", code=1)
        assert refused.stderr.splitlines() == [
            "error: the trail has no events of row 1 of public.old: it has not changed since capture began",
            "hint: audit baseline records rows that existed before capture began",
        ]


@pytest.mark.parametrize("output", ["csv", "json", "jsonl"])
def test_nothing_is_printed_of_what_is_refused(trail: Trail, audit: Audit, output: str) -> None:
    trail.execute("create table old (id int primary key); insert into old values (1)")
    trail.audit("old")
    assert audit("table-at", "old", "--at", "now", "--format", output, code=1).stdout == ""
    trail.execute("truncate old")
    nothing = {"csv": "id\n", "json": '{"rows": []}\n', "jsonl": ""}
    assert audit("table-at", "old", "--at", "now", "--format", output).stdout == nothing[output]


def test_a_table_without_columns_is_there(trail: Trail, audit: Audit) -> None:
    trail.execute("create table bare ()")
    trail.audit("bare")
    for _ in range(3):
        trail.execute("insert into bare default values")
    trail.execute("delete from bare where ctid = (select min(ctid) from bare)")
    assert list(verbs.table_at(trail.connection, "bare", now(trail))) == [{}, {}]
    assert audit("table-at", "bare", "--at", "now").stdout == "\n" * 3
    assert "has no primary key" in audit("row-at", "bare", "1", "--at", "now", code=2).stderr
    trail.execute("drop table bare")
    assert "no longer exists" in audit("table-at", "bare", "--at", "now", code=2).stderr


def test_a_gap_is_a_warning(orders: Trail, audit: Audit) -> None:
    orders.execute("select audit.record_gap('orders', 'paused', 'import')")
    for command in (["table-at", "orders"], ["row-at", "orders", "1"]):
        assert "has been paused since" in audit(*command, "--at", "now").stderr


def test_times_need_a_zone(orders: Trail) -> None:
    with pytest.raises(UsageError, match="no time zone"):
        verbs.row_at(orders.connection, "orders", 1, datetime(2026, 11, 1))  # noqa: DTZ001
    with pytest.raises(UsageError, match="is not before"):
        next(verbs.diff(orders.connection, "orders", now(orders), now(orders) - timedelta(days=1)))


def test_values_that_do_not_fit_the_present_type(orders: Trail) -> None:
    at = now(orders)
    orders.execute("alter table orders alter status type int using 0")
    with pytest.raises(AuditError, match="cannot be read as the present type"):
        verbs.row_at(orders.connection, "orders", 1, at)


REFUSED_SINCE = {
    "regclass": ("create table gone ()", "'gone'", "drop table gone"),
    "regnamespace": ("create schema gone", "'gone'", "drop schema gone"),
    "regproc": ("create function gone() returns int return 1", "'gone'", "drop function gone()"),
    "regconfig": (
        "create text search configuration gone (copy = simple)",
        "'gone'",
        "drop text search configuration gone",
    ),
    "limited": ("create domain limited as int", "9", "alter domain limited add check (value < 5)"),
    "needed": ("create domain needed as int", "null", "alter domain needed set not null"),
    "checked": (
        """
        create function fits(int) returns boolean language plpgsql
            as $$ begin if $1 > 5 then raise exception 'it does not fit'; end if; return true; end $$;
        create domain checked as int
        """,
        "9",
        "alter domain checked add check (fits(value))",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_SINCE)
def test_values_that_the_type_refuses_now(trail: Trail, audit: Audit, kind: str) -> None:
    prepare, value, change = REFUSED_SINCE[kind]
    trail.execute(f"{prepare}; create table items (id int primary key, v {kind})")
    trail.audit("items")
    trail.execute(f"insert into items values (1, {value})")
    at = now(trail).isoformat()
    trail.execute("delete from items")
    trail.execute(change)
    for command in (["table-at", "items"], ["row-at", "items", "1"]):
        found = audit(*command, "--at", at, code=1)
        assert "cannot be read as the present type" in found.stderr


@pytest.fixture(params=["by rows", "by table"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to compare, which are chosen by the number of events."""
    monkeypatch.setattr(time_travel, "_EVENTS_PER_ROW", 0 if request.param == "by rows" else 10**6)


@pytest.mark.usefixtures("each_way")
def test_diff_is_the_net_effect(orders: Trail, audit: Audit) -> None:
    begin = now(orders).isoformat()
    orders.execute("""
        update orders set total = 1.1 where id = 1;
        update orders set status = 'x' where id = 2; update orders set status = '' where id = 2;
        insert into orders values (3, 'new', 3, null), (4, 'brief', 4, null);
        delete from orders where id = 4
    """)
    shown = audit("diff", "orders", "--from", begin).stdout.splitlines()
    assert shown[:4] == ["1 changed", "  total: 1.10 → 1.1", "3 inserted", "  id: 3"]
    rows = json.loads(audit("diff", "orders", "--from", begin, "--format", "json").stdout)["rows"]
    assert [(row["row_key"], row["kind"]) for row in rows] == [("1", "changed"), ("3", "inserted")]
    orders.execute("truncate orders")
    rows = json.loads(audit("diff", "orders", "--from", begin, "--format", "json").stdout)["rows"]
    assert [(row["row_key"], row["kind"]) for row in rows] == [("1", "deleted"), ("2", "deleted")]
    audit("diff", "orders", "--from", "now", "--to", "1h", code=2)


@pytest.mark.usefixtures("each_way")
def test_diff_over_the_end_of_a_table(orders: Trail) -> None:
    begin = now(orders)
    orders.execute("drop table orders; select audit.note_changes()")
    end = now(orders)
    found = list(verbs.diff(orders.connection, "orders", begin, end))
    assert [(d.key, d.before and d.before["id"], d.after) for d in found] == [
        ("1", 1, None),
        ("2", 2, None),
    ]
    assert list(verbs.diff(orders.connection, "orders", end, now(orders))) == []


@pytest.mark.usefixtures("each_way")
def test_diff_needs_no_baseline(trail: Trail) -> None:
    trail.execute(
        "create table old (id int primary key, v int);"
        "insert into old values (1, 1), (2, 2), (3, 3), (4, 4)"
    )
    trail.audit("old")
    begin = now(trail)
    trail.execute("update old set v = 5 where id = 1; delete from old where id = 2")
    trail.execute("update old set v = 6 where id = 3; update old set v = 3 where id = 3")
    trail.execute("update old set id = 9 where id = 4")
    found = list(verbs.diff(trail.connection, "old", begin, now(trail)))
    assert [(d.key, d.before and d.before["v"], d.after and d.after["v"]) for d in found] == [
        ("1", 1, 5),
        ("2", 2, None),
        ("4", 4, None),
        ("9", None, 4),
    ]


@pytest.mark.usefixtures("each_way")
def test_diff_does_not_take_a_baseline_for_inserts(trail: Trail) -> None:
    trail.execute("create table old (id int primary key, v int); insert into old values (1, 1)")
    trail.audit("old")
    begin = now(trail)
    take_baseline(trail.connection, trail.target("old"), "audit")
    assert trail.story() == [("S", "1")]
    assert list(verbs.diff(trail.connection, "old", begin, now(trail))) == []


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("seed", [11, 12])
def test_diff_tells_two_tables_apart(trail: Trail, seed: int) -> None:
    trail.execute(ITEMS.replace("{key}", KEYED))
    trail.audit("items")
    moments = list(happen(trail, seed, 12))
    for one, other in zip(moments[::3], moments[3::3], strict=False):
        before = {r["id"]: r for r in verbs.table_at(trail.connection, "items", one.at)}
        after = {r["id"]: r for r in verbs.table_at(trail.connection, "items", other.at)}
        wanted = {
            str(key): (before.get(key), after.get(key))
            for key in before | after
            if str(before.get(key)) != str(after.get(key))
        }
        found = verbs.diff(trail.connection, "items", one.at, other.at)
        assert {d.key: (d.before, d.after) for d in found} == wanted


def test_blame(orders: Trail, audit: Audit) -> None:
    say(orders, actor="bob")
    orders.execute("update orders set status = 'paid' where id = 1")
    numbers = [event["event_id"] for event in orders.events()]
    origins = {o.column: o.event for o in verbs.blame(orders.connection, "orders", 1)}
    assert {c: e and e.event_id for c, e in origins.items()} == {
        "id": numbers[0],
        "status": numbers[2],
        "total": numbers[0],
        "doc": numbers[0],
    }
    shown = audit("blame", "orders", "1").stdout.splitlines()
    assert shown[1].startswith("status  paid  (bob, ")
    columns = json.loads(audit("blame", "orders", "1", "--format", "json").stdout)["columns"]
    assert [column["actor"] for column in columns] == ["alice", "bob", "alice", "alice"]


def test_blame_of_what_is_older_than_the_trail(trail: Trail, audit: Audit) -> None:
    trail.execute("create table old (id int primary key, v int); insert into old values (1, 1)")
    trail.audit("old")
    assert "no such row in the trail: public.old 1" in audit("blame", "old", "1", code=2).stderr
    trail.execute("update old set v = 2")
    origins = verbs.blame(trail.connection, "old", 1)
    assert [(o.column, o.value, o.event is not None) for o in origins] == [
        ("id", 1, False),
        ("v", 2, True),
    ]
    assert "not known" in audit("blame", "old", "1").stdout


def test_a_session_in_another_zone_reads_the_same(orders: Trail) -> None:
    orders.execute("alter table orders add at timestamptz")
    orders.execute("update orders set at = '2026-11-01 12:00+00'")
    orders.execute("set timezone = 'Asia/Tokyo'")
    row = verbs.row_at(orders.connection, "orders", 1, datetime.now(UTC) + timedelta(hours=1))
    assert row is not None
    assert row["at"] == "2026-11-01T12:00:00+00:00"
    assert orders.execute("show timezone") == [("Asia/Tokyo",)]
