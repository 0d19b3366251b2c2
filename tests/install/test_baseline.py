from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from audit_toolkit.capture import (
    Progress,
    plan_pause,
    plan_resume,
    take_baseline,
    take_locked_baseline,
)
from audit_toolkit.config import Mask, MaskMethod, Store
from audit_toolkit.connection import connect
from audit_toolkit.errors import BusyError, RuleError, UsageError
from audit_toolkit.plan import apply
from audit_toolkit.templates import render
from tests.plugins.trail import SCHEMA, Trail

ORDERS = """
    create table orders (id int primary key, status text, total numeric);
    insert into orders select g, 'new', g from generate_series(1, 25) g;
"""


@contextmanager
def session(trail: Trail) -> Iterator[psycopg.Connection[Any]]:
    with connect(trail.database.dsn) as connection:
        yield connection


def baseline(trail: Trail, table: str = "orders", rule: Any = None, **options: Any) -> Progress:
    with session(trail) as connection:
        return take_baseline(connection, trail.target(table, **(rule or {})), SCHEMA, **options)


def snapshots(trail: Trail) -> list[str]:
    return [e["row_key"] for e in trail.events() if e["action"] == "S"]


def test_every_row_older_than_the_trail_gets_one_snapshot(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    seen: list[Progress] = []
    done = baseline(trail, batch_rows=10, on_progress=seen.append)
    assert done == Progress(seen=25, written=25)
    assert [progress.seen for progress in seen] == [10, 20, 25]
    assert snapshots(trail) == [str(n) for n in range(1, 26)]
    first = trail.events()[0]
    assert first["new_row"] == {"id": 1, "status": "new", "total": 1}
    assert first["old_row"] is None
    assert first["context"] == {"baseline": "rows older than the trail"}


def test_a_second_run_writes_nothing(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    baseline(trail)
    assert baseline(trail) == Progress(seen=25, written=0)


@pytest.mark.parametrize("store", Store)
def test_rows_that_the_trail_knows_get_none(trail: Trail, store: Store) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", store=store)
    trail.execute("insert into orders values (100, 'new', 1.50)")
    trail.execute("update orders set total = total + 1 where id in (3, 100)")
    trail.execute("delete from orders where id = 4")
    assert baseline(trail, rule={"store": store}).written == 23
    assert not {"3", "4", "100"} & set(snapshots(trail))


def test_it_goes_on_after_a_kill(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")

    class KilledError(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.seen == 20:
            raise KilledError

    with pytest.raises(KilledError):
        baseline(trail, batch_rows=10, on_progress=kill)
    assert len(snapshots(trail)) == 20
    assert baseline(trail, batch_rows=10).written == 5
    assert sorted(map(int, snapshots(trail))) == list(range(1, 26))


def test_composite_keys_of_any_type(trail: Trail) -> None:
    trail.execute("""
        create table lines (shop text, at timestamptz, "No" smallint, v int, primary key (shop, at, "No"));
        insert into lines select s, '2026-01-01 00:00+00'::timestamptz + d * interval '1 day', n, 0
        from unnest(array['a''b', '["x", 1]', 'é%s']) s, generate_series(1, 3) d, generate_series(1, 3) n;
    """)
    trail.audit("lines")
    assert baseline(trail, "lines", batch_rows=4) == Progress(seen=27, written=27)
    [(different,)] = trail.execute("select count(distinct row_key) from audit.logged_actions")
    assert different == 27
    assert baseline(trail, "lines", batch_rows=4).written == 0


def test_partitioned_tables(trail: Trail) -> None:
    trail.execute("""
        create table parts (id int, region text, primary key (id, region)) partition by list (region);
        create table parts_eu partition of parts for values in ('eu');
        create table parts_us partition of parts for values in ('us');
        insert into parts
        select g, r from generate_series(1, 5) g cross join unnest(array['eu', 'us']) r;
    """)
    trail.audit("parts")
    assert baseline(trail, "parts", batch_rows=3).written == 10
    assert {e["table_name"] for e in trail.events()} == {"parts"}


def test_hidden_columns_stay_hidden(trail: Trail) -> None:
    trail.execute("create table people (id int primary key, name text, secret text, token text)")
    trail.execute("insert into people values (1, 'Ann', 'hunter2', 'tok-1')")
    rule = {
        "exclude": ("secret",),
        "mask": (Mask(column="token", method=MaskMethod.SHA256),),
    }
    trail.audit("people", **rule)
    baseline(trail, "people", rule)
    trail.execute("update people set name = 'Eve'")
    snapshot, update = trail.events()
    assert snapshot["new_row"] == update["old_row"]
    assert "secret" not in snapshot["new_row"]


def test_a_locked_row_is_waited_for_alone(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    writer = trail.database.connect(autocommit=False)
    writer.execute("update orders set status = 'held' where id = 5")
    release = threading.Timer(0.3, writer.commit)
    release.start()
    done = baseline(trail, batch_rows=10, lock_timeout="20s")
    release.join()
    # The row was changed and captured meanwhile, so its snapshot is not needed.
    assert done == Progress(seen=25, written=24)
    assert "5" not in snapshots(trail)


def test_a_row_that_stays_locked_ends_the_run_and_the_next_goes_on(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    writer = trail.database.connect(autocommit=False)
    writer.execute("select from orders where id = 5 for update")
    with pytest.raises(BusyError) as caught:
        baseline(trail, batch_rows=10, lock_timeout="50ms")
    assert caught.value.exit_code == 5
    assert len(snapshots(trail)) == 9
    writer.rollback()
    assert baseline(trail, batch_rows=10).written == 16
    assert len(snapshots(trail)) == len(set(snapshots(trail))) == 25


def test_it_is_correct_while_others_write(trail: Trail) -> None:
    trail.execute("create table accounts (id int primary key, n int)")
    trail.execute("insert into accounts select g, 0 from generate_series(1, 300) g")
    trail.audit("accounts")
    stop = threading.Event()
    failures: list[Exception] = []

    def write(worker: int) -> None:
        connection = trail.database.connect()
        number = 0
        while not stop.is_set():
            number += 1
            key = (number * 7919 + worker) % 300 + 1
            try:
                connection.execute("update accounts set n = n + 1 where id = %s", [key])
                connection.execute("delete from accounts where id = %s", [key % 50 + 1])
                connection.execute(
                    "insert into accounts values (%s, -1) on conflict do nothing", [key % 50 + 1]
                )
            except Exception as error:
                failures.append(error)
                return

    workers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(3):
            baseline(trail, "accounts", batch_rows=20)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert failures == []
    state: dict[str, Any] = {}
    for event in trail.events():
        key = event["row_key"]
        if event["action"] in "UD" and key in state:
            assert state[key] == event["old_row"], "the trail contradicts itself"
        state[key] = event["new_row"]
    table = {str(key): {"id": key, "n": n} for key, n in trail.execute("table accounts")}
    assert {key: row for key, row in state.items() if row is not None} == table


def test_tables_without_key_need_a_lock(trail: Trail) -> None:
    trail.execute("create table readings (v int); insert into readings values (1), (1), (2)")
    trail.audit("readings")
    with pytest.raises(RuleError, match="no primary key") as caught:
        baseline(trail, "readings")
    assert "--lock" in str(caught.value.hint)
    with session(trail) as connection:
        target = trail.target("readings")
        assert take_locked_baseline(connection, target, SCHEMA).written == 3
        with pytest.raises(RuleError, match="its rows have events already"):
            take_locked_baseline(connection, target, SCHEMA)
    assert [e["new_row"]["v"] for e in trail.events()] == [1, 1, 2]


def test_a_pause_is_an_event_and_a_baseline_closes_the_gap(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    baseline(trail)
    [installed] = installed_on(trail)
    apply(plan_pause(installed, SCHEMA, "bulk import"), trail.connection)
    trail.execute("update orders set status = 'unseen' where id = 1")
    trail.execute("delete from orders where id = 2; insert into orders values (99, 'unseen', 0)")
    with pytest.raises(UsageError, match="already paused"):
        plan_pause(installed_on(trail)[0], SCHEMA, "again")
    apply(plan_resume(installed_on(trail)[0], SCHEMA, "import done"), trail.connection)
    with pytest.raises(UsageError, match="not paused"):
        plan_resume(installed_on(trail)[0], SCHEMA, "again")
    trail.execute("update orders set status = 'seen' where id = 3")
    assert baseline(trail, reason="after a pause").written == 3
    events = trail.events()[25:]
    assert [(e["action"], e["row_key"]) for e in events] == [
        ("G", None),
        ("G", None),
        ("U", "3"),
        ("S", "1"),
        ("S", "99"),
        ("S", "2"),
    ]
    assert events[0]["new_row"] == {"capture": "paused", "reason": "bulk import"}
    assert events[1]["new_row"] == {"capture": "resumed", "reason": "import done"}
    assert events[3]["new_row"]["status"] == "unseen"
    assert (events[5]["old_row"]["id"], events[5]["new_row"]) == (2, None)
    assert baseline(trail) == Progress(seen=25, written=0)


def installed_on(trail: Trail) -> Any:
    from audit_toolkit.catalog import read_installed

    return read_installed(trail.connection, SCHEMA)


def test_a_pause_needs_a_reason(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    with pytest.raises(UsageError, match="reason"):
        plan_pause(installed_on(trail)[0], SCHEMA, "  ")


def test_only_the_owner_of_a_table_can_declare_a_gap(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute("create role gap_guest login")
    try:
        trail.execute("grant usage on schema audit to gap_guest")
        trail.execute("grant execute on function audit.record_gap to gap_guest")
        guest = trail.database.connect(user="gap_guest")
        gap = "select audit.record_gap('orders', 'paused', 'because')"
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only the owner"):
            guest.execute(gap)
        trail.execute("alter table orders owner to gap_guest")
        guest.execute(gap)
        assert trail.events()[-1]["session_user_name"] == "gap_guest"
        for arguments in ("'gone', 'x'", "null, 'x'", "'paused', ' '"):
            with pytest.raises(psycopg.errors.InvalidParameterValue):
                guest.execute(f"select audit.record_gap('orders', {arguments})".encode())
    finally:
        trail.execute("drop owned by gap_guest; drop role gap_guest")


def test_columns_named_like_what_queries_use(trail: Trail) -> None:
    trail.execute("""
        create table present (
            present int, image text, row_now text, locked text, key text,
            primary key (present, image, row_now)
        );
        insert into present values (1, 'a', 'b', 'c', 'd');
    """)
    trail.audit("present")
    assert baseline(trail, "present").written == 1
    [event] = trail.events()
    assert event["new_row"] == {
        "present": 1,
        "image": "a",
        "row_now": "b",
        "locked": "c",
        "key": "d",
    }
    assert baseline(trail, "present").written == 0


def test_a_pause_of_a_table_with_a_hostile_name(trail: Trail) -> None:
    trail.execute('create table "new\nline""; --" (id int primary key)')
    trail.audit('"new\nline""; --"')
    [installed] = installed_on(trail)
    apply(plan_pause(installed, SCHEMA, "import"), trail.connection)
    apply(plan_resume(installed_on(trail)[0], SCHEMA, "done"), trail.connection)
    assert [event["table_name"] for event in trail.events()] == ['new\nline"; --'] * 2


def scans(plan: dict[str, Any], table: str) -> Iterator[int]:
    """How often a plan read a table."""
    if plan.get("Relation Name") == table:
        yield plan["Actual Loops"]
    for part in plan.get("Plans", ()):
        yield from scans(part, table)


def test_rows_that_went_are_found_in_one_look_at_the_table(trail: Trail) -> None:
    """One for each of its rows is what the planner chose for ten million: it took rows of the trail for few."""
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute(
        "truncate orders; insert into orders select g, 'new', g from generate_series(1, 3000) g"
    )
    trail.execute("analyze; set enable_hashjoin = off; set enable_mergejoin = off")
    values = trail.target("orders").values(SCHEMA)
    for found in (None, [str(n) for n in range(1, 301)]):
        gone = render("baseline/gone", reason="x", found=found, **values)
        [(explained,)] = trail.execute(f"explain (analyze, format json) {gone}")
        assert list(scans(explained[0]["Plan"], "orders")) == [1]
