"""What happens to tables, to capture and to the trail in the course of a life is no bypass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audit_toolkit.config import Capture, Store, Truncate
from audit_toolkit.errors import AuditError
from audit_toolkit.witness.waiting import Waiting
from tests.plugins.command import Audit
from tests.witness.conftest import Watch, unjudged

ORDERS = "create table orders (id int primary key, status text, total numeric, big text)"
OFF, ON = (
    f'alter table orders {verb} trigger "00_audit_row"' for verb in ("disable", "enable always")
)
BYPASS = f"{OFF}; {{0}}; {ON}"


@pytest.fixture
def orders(watch: Watch) -> Watch:
    """An audited table with rows in the trail, and its witness."""
    watch.execute(ORDERS)
    watch.audit("orders")
    watch.execute(
        "insert into orders select n, 'new', n, repeat('x', 10) from generate_series(1, 9) n"
    )
    watch.begin()
    return watch


def test_pauses(orders: Watch, audit: Audit) -> None:
    orders.execute("update orders set status = 'a'")
    audit("pause", "--table", "orders", "--reason", "import", code=0)
    orders.execute(
        "update orders set status = 'b'; delete from orders where id = 9; truncate orders"
    )
    orders.execute("insert into orders values (1, 'c')")
    audit("resume", "--table", "orders", "--reason", "done", code=0)
    orders.execute("update orders set status = 'd'")
    assert unjudged(orders) == {}
    orders.execute(BYPASS.format("delete from orders"))
    assert [one.keys for one in orders.found()] == [("1",)]


def test_a_pause_that_was_there_before_the_witness(watch: Watch, audit: Audit) -> None:
    watch.execute(ORDERS)
    watch.audit("orders")
    watch.execute("insert into orders values (1)")
    audit("pause", "--table", "orders", "--reason", "import", code=0)
    watch.begin()
    watch.execute("update orders set status = 'b'")
    audit("resume", "--table", "orders", "--reason", "done", code=0)
    watch.execute("update orders set status = 'c'")
    assert unjudged(watch) == {}


def test_capture_that_comes_and_goes(orders: Watch) -> None:
    orders.execute("create table later (id int primary key, v text)")
    orders.audit("later")
    orders.execute("insert into later values (1, 'a')")
    assert unjudged(orders).keys() <= {"not watched", "not watched yet"}
    orders.execute("update later set v = 'b'")
    assert unjudged(orders) == {}
    orders.trail.release("orders")
    orders.execute("insert into orders values (20); update later set v = 'c'")
    assert unjudged(orders) == {}
    orders.audit("orders")
    orders.execute("insert into orders values (21)")
    unjudged(orders)
    orders.execute("update orders set status = 'd' where id = 21; drop table later")
    assert unjudged(orders) == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"log_unchanged": True}, {}),
        ({}, {"exclude": ("status",)}),
        ({}, {"when": "total > 100"}),
        ({"when": "total > 100"}, {}),
        ({"only": ("status",)}, {"log_unchanged": True}),
    ],
)
def test_another_rule_from_a_transaction_on(
    watch: Watch, before: dict[str, object], after: dict[str, object]
) -> None:
    watch.execute(ORDERS)
    watch.audit("orders", **before)
    watch.begin()
    for number in (1, 11):
        watch.execute(f"insert into orders values ({number}, 'new', 1), ({number + 1}, 'new', 200)")
        watch.execute("update orders set status = status; update orders set total = total + 1.0")
        watch.execute("update orders set status = status || 'x'")
        watch.execute("delete from orders where id % 10 = 1")
        watch.audit("orders", **after)
    assert unjudged(watch) == {}


def test_a_table_captured_from_the_wal_is_not_for_the_witness(orders: Watch) -> None:
    orders.execute("update orders set total = 5")
    orders.look()
    orders.audit("orders", capture=Capture.WAL)
    orders.execute("update orders set total = 6")
    # As the worker writes it: later, with the number of the transaction that wrote.
    orders.execute(
        "insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row, transaction_id)"
        " values ('public', 'orders', 'D', '1', '{}', '777')"
    )
    assert unjudged(orders).keys() == {"captured from the WAL itself"}
    assert [one.trouble for one in orders.tables()] == ["captured from the WAL itself"]


def test_events_that_hold_what_changed_alone(watch: Watch) -> None:
    watch.execute(ORDERS)
    watch.audit("orders", store=Store.DELTA)
    watch.begin()
    watch.execute("insert into orders select n, 'new', n, 'b' from generate_series(1, 9) n")
    for turn in range(3):
        watch.execute(f"update orders set total = {turn}")
        watch.execute("update orders set status = status")
    watch.execute("update orders set id = id + 100; delete from orders where id > 104")
    assert unjudged(watch) == {}
    watch.execute(BYPASS.format("update orders set total = 77 where id = 101"))
    assert [one.keys for one in watch.found()] == [("101",)]


def test_ddl(orders: Watch) -> None:
    orders.execute("alter table orders add column extra int default 7")
    orders.execute("update orders set status = status; update orders set extra = 8 where id < 3")
    orders.execute("select audit.note_changes()")
    orders.execute("alter table orders alter column total type text using 'n' || total")
    orders.execute(
        "update orders set status = status; insert into orders values (30, 'x', 'y', 'z', 1)"
    )
    orders.execute(
        "begin; alter table orders drop column extra; update orders set status = 'y'; commit"
    )
    orders.execute(
        "alter table orders rename column status to state; update orders set state = 'z'"
    )
    orders.execute(
        "alter table orders rename to sold; update sold set state = 'w'; update sold set state = state"
    )
    orders.execute("create table orders (id int primary key); insert into orders values (1)")
    orders.execute(
        "create schema other; alter table sold set schema other; delete from other.sold where id = 1"
    )
    orders.execute("vacuum full other.sold")
    assert unjudged(orders).keys() <= {"an update after DDL that changed the table"}


def test_two_tables_change_places(orders: Watch) -> None:
    orders.execute("create table old_orders (id int primary key, status text)")
    orders.audit("old_orders")
    orders.execute("insert into old_orders values (1, 'q')")
    orders.look()
    orders.execute(
        "begin; alter table orders rename to t;"
        " alter table old_orders rename to orders; alter table t rename to old_orders;"
        " update orders set status = 'a'; update old_orders set status = 'b'; commit"
    )
    orders.execute("delete from old_orders where id = 2; delete from orders")
    assert unjudged(orders) == {}


def test_values_out_of_line(orders: Watch) -> None:
    orders.execute("alter table orders alter big set storage external")
    orders.execute("update orders set big = repeat('y', 10000)")
    orders.execute("update orders set total = 0; update orders set total = 0")
    orders.execute(
        "begin; update orders set big = repeat('z', 9000) where id = 1; update orders set id = 100 where id = 1; commit"
    )
    assert unjudged(orders) == {}
    orders.execute(BYPASS.format("update orders set big = repeat('q', 9000) where id = 2"))
    assert [one.keys for one in orders.found()] == [("2",)]


PARTS = """
    create table visits (id int, at date, page text, primary key (id, at)) partition by range (at);
    create table visits_1 partition of visits for values from ('2026-01-01') to ('2026-02-01');
    create table visits_2 (page text, gone int, at date not null, id int not null, primary key (id, at));
    alter table visits_2 drop column gone;
    alter table visits attach partition visits_2 for values from ('2026-02-01') to ('2026-03-01');
"""


@pytest.mark.parametrize("truncate", [Truncate.EVENT, Truncate.FORBID])
def test_partitions(watch: Watch, truncate: Truncate) -> None:
    watch.execute(PARTS)
    watch.audit("visits", truncate=truncate)
    watch.begin()
    watch.execute("insert into visits values (1, '2026-01-05', 'a'), (2, '2026-02-05', 'b')")
    watch.execute(
        "update visits set at = '2026-02-06' where id = 1; update visits_2 set page = 'c'"
    )
    watch.execute(
        "create table visits_3 partition of visits for values from ('2026-03-01') to ('2026-04-01')"
    )
    watch.execute("insert into visits values (3, '2026-03-05', 'd')")
    watch.execute(
        "begin; insert into visits_3 values (4, '2026-03-06', 'e'); update visits set page = page; commit"
    )
    assert unjudged(watch) == {}
    if truncate is Truncate.EVENT:
        watch.execute("truncate visits_3; truncate visits")
        watch.execute("insert into visits values (1, '2026-01-05', 'a')")
    watch.execute(
        "alter table visits detach partition visits_1; insert into visits_1 values (9, '2026-01-07', 'x')"
    )
    watch.execute("drop table visits_1")
    assert unjudged(watch).keys() <= {"TRUNCATE of a partition without an event"}
    watch.execute(
        "alter table visits_2 disable trigger all; insert into visits values (5, '2026-02-09', 'z')"
    )
    assert [(one.subject, one.keys) for one in watch.found()] == [
        ("public.visits", ('[5, "2026-02-09"]',))
    ]


def test_inheritance(watch: Watch) -> None:
    watch.execute(
        "create table base (id int primary key, v text); create table heir (w text, primary key (id)) inherits (base)"
    )
    watch.audit("base")
    watch.begin()
    watch.execute("insert into base values (1, 'a'); insert into heir values (2, 'b', 'c')")
    watch.execute("update base set v = 'x'; delete from base; truncate base")
    assert unjudged(watch) == {}


def test_tables_that_cannot_be_watched(watch: Watch) -> None:
    watch.execute("create unlogged table scratch (id int primary key)")
    watch.audit("scratch")
    watch.begin()
    watch.execute("insert into scratch values (1); update scratch set id = 2")
    assert unjudged(watch).keys() == {"not watched yet"}


def test_an_application_writes_on_although_its_table_has_no_identity(watch: Watch) -> None:
    watch.execute("create table loose (v text); create table tied (id int primary key)")
    watch.audit("loose")
    watch.audit("tied")
    watch.begin()
    watch.execute(
        "insert into loose values ('a'), ('a'), (null); update loose set v = 'b'; delete from loose"
    )
    assert unjudged(watch).keys() == {"no replica identity"}
    watch.execute("alter table tied drop constraint tied_pkey; insert into tied values (1)")
    watch.look()  # it notices, and publishes no more of it than it may
    watch.execute("update tied set id = 2")
    watch.execute(
        "alter table loose disable trigger \"00_audit_row\"; insert into loose values ('q')"
    )
    assert [(one.subject, one.operation, one.keys) for one in watch.found()] == [
        ("public.loose", "insert", ())
    ]


def test_the_life_of_a_trail(orders: Watch, audit: Audit) -> None:
    orders.execute("update orders set status = 'x'; delete from orders where id = 3")
    audit("baseline", "--table", "orders", code=0)
    audit("mark", "here", code=0)
    orders.execute("select audit.record_event('order.sent', '{}', 'orders', '1')")
    audit("redact", "orders", "1", "--column", "status", "--reason", "asked", "--apply", "--yes")
    audit("restore", "orders", "3", "--at", "1 second ago", "--apply")
    audit("partitions", "run")
    audit("maintain")
    audit("guard", "on")
    orders.execute("update orders set total = total + 1; select audit.note_coverage()")
    orders.execute("update orders set status = status")
    audit("guard", "off", "--reason", "x")
    assert unjudged(orders) == {}


def test_a_baseline_is_what_makes_old_rows_known(watch: Watch, audit: Audit) -> None:
    watch.execute(f"{ORDERS}; insert into orders values (1, 'a'), (2, 'b')")
    watch.audit("orders")
    watch.begin()
    watch.execute("update orders set status = status")
    assert unjudged(watch) == {
        "a row that the trail does not know: take a baseline (audit baseline)": 2
    }
    audit("baseline", "--table", "orders", code=0)
    watch.execute("update orders set status = status")
    assert unjudged(watch) == {}
    watch.execute(BYPASS.format("update orders set status = 'z'"))
    assert [one.keys for one in watch.found()] == [("1", "2")]


def test_many_writers_at_once(orders: Watch) -> None:
    def write(number: int) -> None:
        with orders.trail.database.connect() as connection:
            for turn in range(15):
                # One row that others write in each transaction, so that none waits in a circle.
                connection.execute(f"update orders set total = total + 1 where id = {turn % 9 + 1}")
                connection.execute(
                    f"update orders set status = status where id = {number + 1};"
                    f" insert into orders values ({1000 * number + turn + 100}, 'i')"
                )

    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(write, number) for number in range(4)]
        while not all(look.done() for look in looks):
            assert unjudged(orders) == {}
        for look in looks:
            look.result()
    assert unjudged(orders) == {}
    witness = orders.begin()
    assert witness.state.counts.changes >= 4 * 15 * 2


def test_it_is_not_dropped_while_it_runs(orders: Watch, audit: Audit) -> None:
    assert "the witness is running (pid" in audit("witness", "drop", code=5).stderr
    orders.end()
    audit("witness", "drop", code=0)
    assert orders.execute("select from pg_publication") == []


def test_savepoints_and_transactions_that_are_prepared(orders: Watch) -> None:
    orders.execute(
        "begin; insert into orders values (21); savepoint a; insert into orders values (22, 'a'); rollback to a;"
        " insert into orders values (22, 'b'); savepoint b; update orders set id = 23 where id = 22;"
        " release b; commit"
    )
    assert orders.found() == []
    orders.execute("begin; insert into orders values (24); prepare transaction 'one'")
    orders.execute("insert into orders values (25)")
    assert orders.found() == []
    orders.execute("commit prepared 'one'")
    assert orders.found() == []


def test_no_room_for_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit_toolkit.witness.waiting.HELD", 1)
    with Path("/dev/full").open("r+b", 0) as full:
        monkeypatch.setattr("audit_toolkit.witness.waiting.TemporaryFile", lambda: full)
        waiting = Waiting[int](lambda one, other: one == other, lambda one: one, int)
        waiting.meet(1, 1)
        with pytest.raises(AuditError, match="temporary files"):
            waiting.meet(2, 2)
