"""`audit reconcile`: the trail, replayed, is the live table, and each event begins where the one before ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audit_toolkit.config import Capture, Mask, OnOversize, Store, Truncate
from tests.completeness.conftest import Audit, tamper
from tests.completeness.story import ORDERS, STORY
from tests.plugins.trail import Trail


@pytest.fixture
def orders(trail: Trail) -> Trail:
    """A table that was audited from its first row on, and some changes of it."""
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute(STORY)
    return trail


def findings(audit: Audit, *arguments: str, code: int = 3) -> list[tuple[str, str, str]]:
    """Kind, subject and message of what is found."""
    answer = json.loads(audit("reconcile", "--format", "json", *arguments, code=code).stdout)
    return [
        (finding["kind"], finding["subject"], finding["message"])
        for table in answer["tables"]
        for finding in table["findings"]
    ]


def test_a_table_that_its_trail_tells_whole_is_equal(orders: Trail, audit: Audit) -> None:
    out = audit("reconcile").stdout
    assert "public.orders: equal to its trail (2 rows, 7 events)" in out
    assert "event ids: none is missing" in out


@pytest.mark.parametrize(
    ("sabotage", "kind", "said"),
    [
        ("update orders set total = 99 where id = 1", "row_differs", "total trail 10.00, table 99"),
        ("delete from orders where id = 4", "row_missing", "event 6 is the last of it"),
        ("insert into orders values (2, 'x')", "row_reappeared", "event 7 is the last of it, and deletes it"),
        ("insert into orders values (9, 'x')", "row_unknown", "the trail has no event of it"),
        ("delete from audit.logged_actions where event_id = 4", "event_out_of_line", "event 5 does not find what event 1 left: status"),
        ("delete from audit.logged_actions where event_id = 1", "event_out_of_line", "event 4 finds a row there, and the trail has no event before it"),
        ("delete from audit.logged_actions where event_id = 5", "row_differs", 'total trail 10.0, table 10.00'),
        ("delete from audit.logged_actions where event_id = 7", "row_missing", "event 2 is the last of it"),
        ("delete from audit.logged_actions where event_id in (1, 4, 5)", "row_unknown", "the trail has no event of it"),
        ("delete from audit.logged_actions where event_id = 6", "row_missing", "event 3 is the last of it"),
        ("update audit.logged_actions set old_row = old_row || '{\"note\": \"z\"}' where event_id = 5", "event_out_of_line", "note left \"a\", found \"z\""),
        ("update audit.logged_actions set new_row = new_row || '{\"note\": \"z\"}' where event_id = 4", "event_out_of_line", "note left \"z\", found \"a\""),
        ("update audit.logged_actions set new_row = new_row || '{\"total\": 10.000}' where event_id = 5", "row_differs", "total trail 10.000, table 10.00"),
        ("update audit.logged_actions set action = 'I', old_row = null where event_id = 5", "event_out_of_line", "event 5 brings a row that was there already"),
        ("insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row) values ('public', 'orders', 'D', '2', '{\"id\": 2}')", "event_out_of_line", "event 7 left none"),
        ("update audit.logged_actions set row_key = '1' where event_id = 7", "event_out_of_line", "id left 1, found 2"),
    ],
)  # fmt: skip
def test_what_was_done_behind_the_trail_is_found(
    orders: Trail, audit: Audit, sabotage: str, kind: str, said: str
) -> None:
    tamper(orders, sabotage)
    found = findings(audit)
    assert [one for one in found if one[0] == kind and said in one[2]], found


def test_only_the_first_are_named_and_all_are_counted(orders: Trail, audit: Audit) -> None:
    orders.execute("insert into orders select g, 'new', g, null from generate_series(10, 40) as g")
    tamper(orders, "update orders set note = 'forged' where id >= 10")
    answer = json.loads(audit("reconcile", "--limit", "3", "--format", "json", code=3).stdout)
    [table] = answer["tables"]
    assert table["counts"] == {"row_differs": 31}
    assert [f["subject"] for f in table["findings"]] == [f"public.orders {k}" for k in (10, 11, 12)]
    assert "and 28 more: row_differs" in audit("reconcile", "--limit", "3", code=3).stdout


def test_rows_older_than_the_trail_are_unknown_until_a_baseline(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.execute("insert into orders values (1, 'old', 1, null), (2, 'old', 2, null)")
    trail.audit("orders")
    trail.execute("update orders set status = 'x' where id = 1")
    [(kind, subject, _)] = findings(audit)
    assert (kind, subject) == ("row_unknown", "public.orders 2")
    audit("baseline", "--table", "orders")
    assert findings(audit, code=0) == []
    trail.execute("update orders set status = 'y' where id = 2")
    tamper(trail, "delete from audit.logged_actions where action = 'S'")
    assert findings(audit)[0][0] == "event_out_of_line"


def test_what_changed_in_a_pause_is_said_with_the_gap(orders: Trail, audit: Audit) -> None:
    audit("pause", "--table", "orders", "--reason", "import")
    orders.execute(
        "update orders set status = 'imported' where id = 1; delete from orders where id = 4"
    )
    audit("resume", "--table", "orders", "--reason", "done")
    orders.execute("insert into orders values (4, 'again', 1, null)")
    assert {kind for kind, _, _ in findings(audit)} == {"changed_in_gap"}
    audit("baseline", "--table", "orders")
    assert findings(audit, code=0) == []
    # From the baseline on it is sure again.
    orders.execute("update orders set status = 'later' where id = 1")
    tamper(
        orders,
        "update audit.logged_actions set old_row = old_row || '{\"total\": 5}' where row_key = '1' and event_id = (select max(event_id) from audit.logged_actions)",
    )
    assert [kind for kind, _, _ in findings(audit)] == ["event_out_of_line"]


@pytest.mark.parametrize(
    "rule",
    [{}, {"capture": Capture.STATEMENT}, {"store": Store.CHANGES}, {"exclude": ("note",)}, {"only": ("total",)},
     {"log_unchanged": True}, {"truncate": Truncate.ROWS}, {"on_oversize": OnOversize.MARK}],
    ids=str,
)  # fmt: skip
def test_whatever_the_rule_a_whole_trail_is_equal(
    trail: Trail, audit: Audit, rule: dict[str, Any]
) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", **rule)
    trail.execute(STORY)
    trail.execute("truncate orders; insert into orders values (1, 'new', 1, repeat('x', 100))")
    trail.execute("update orders set total = 2, note = 'n'; update orders set id = id + 1")
    assert findings(audit, code=0) == []
    tamper(trail, "update orders set total = 3")
    assert [kind for kind, _, _ in findings(audit)] == ["row_differs"]


def test_hidden_columns_are_left_out_and_said(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", mask=(Mask.parse("note=sha256"),))
    trail.execute(STORY)
    tamper(trail, "update orders set note = 'secret value'")
    out = audit("reconcile").stdout
    assert "hidden columns are not compared: note" in out
    assert "secret value" not in out


def test_ddl_explains_what_it_changed_and_nothing_else(orders: Trail, audit: Audit) -> None:
    orders.execute("alter table orders add column paid boolean default false")
    orders.execute("alter table orders alter column total type text using 'EUR ' || total")
    assert findings(audit, code=0) == []
    orders.execute("select audit.note_changes()")
    orders.execute("update orders set note = 'later' where id = 1")
    orders.execute("alter table orders drop column note; alter table orders add column note int")
    orders.execute(
        "alter table orders rename to sales; alter table sales rename column status to state"
    )
    assert findings(audit, code=0) == []
    orders.execute("update sales set state = 'b' where id = 1")
    assert findings(audit, code=0) == []
    tamper(orders, "update sales set state = 'forged' where id = 4")
    assert [said for _, _, said in findings(audit)] == [
        'it is not as event 6 left it: state trail "new", table "forged"'
    ]


def test_a_transaction_that_changes_a_row_again_and_again(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.execute("""
        create function settle() returns trigger language plpgsql as $$
        begin
            if new.status = 'new' then update orders set status = 'settled' where id = new.id; end if;
            return null;
        end $$;
        create trigger "00_a" after insert or update on orders for each row execute function settle();
    """)
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new', 1, null)")
    trail.execute("update orders set status = 'new', total = 2")
    trail.execute(
        "begin; delete from orders; insert into orders values (1, 'new', 5, null); commit"
    )
    assert findings(audit, code=0) == []
    tamper(trail, "delete from audit.logged_actions where event_id = 3")
    assert findings(audit)[0][0] == "event_out_of_line"


def test_a_table_without_a_key_is_counted(trail: Trail, audit: Audit) -> None:
    trail.execute("create table visits (page text, at int)")
    trail.audit("visits")
    trail.execute("insert into visits select 'p' || g % 2, 1 from generate_series(1, 6) as g")
    trail.execute(
        "update visits set at = 2 where ctid = '(0,1)'; delete from visits where ctid = '(0,2)'"
    )
    out = audit("reconcile").stdout
    assert "no primary key: rows were counted" in out
    tamper(trail, "delete from visits where at = 2")
    [(kind, _, said)] = findings(audit)
    assert (kind, said) == (
        "row_missing", 'the table has 1 rows fewer than its events say that are {"at": 2, "page": "p1"}'
    )  # fmt: skip


def test_a_condition_is_compared_as_far_as_it_can(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", when="status <> 'draft'")
    trail.execute("insert into orders values (1, 'draft', 1, null), (2, 'new', 2, null)")
    trail.execute(
        "update orders set status = 'new' where id = 1; update orders set status = 'draft' where id = 2"
    )
    trail.execute("update orders set total = 7 where id = 2; delete from orders where id = 2")
    assert "it records some rows only" in audit("reconcile").stdout
    tamper(trail, "update orders set total = 99 where id = 1")
    assert [kind for kind, _, _ in findings(audit)] == ["row_differs"]


def test_partitions_come_and_go(trail: Trail, audit: Audit) -> None:
    trail.execute("""
        create table visits (id int, region text, n int, primary key (id, region)) partition by list (region);
        create table visits_eu partition of visits for values in ('eu');
        create table visits_us partition of visits for values in ('us');
    """)
    trail.audit("visits")
    trail.execute("insert into visits select g, 'eu', g from generate_series(1, 4) as g")
    trail.execute("update visits set region = 'us' where id > 2")
    assert findings(audit, code=0) == []
    trail.execute("alter table visits detach partition visits_us; select audit.note_changes()")
    assert findings(audit, code=0) == []
    trail.execute(
        "update visits_us set n = 9; alter table visits attach partition visits_us for values in ('us')"
    )
    trail.execute("select audit.note_changes()")
    trail.execute("truncate visits_eu")
    tamper(trail, "insert into visits values (1, 'eu', 5)")
    assert {subject for _, subject, _ in findings(audit)} >= {'public.visits [1, "eu"]'}


def test_events_that_left_by_retention_are_no_finding(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute(STORY)
    trail.execute("insert into orders values (7, 'quiet', 1, null)")
    tamper(trail, "delete from audit.logged_actions where event_id <= 4 or row_key = '7'")
    assert len(findings(audit)) >= 2
    trail.execute(
        "insert into audit.partition_lifecycle (leaf, leaf_name, state, upper_bound) values ('audit.logged_actions', 'x', 'dropped', clock_timestamp())"
    )
    assert findings(audit, code=0) == []
    assert "rows have no event: those of before" in audit("reconcile").stdout


def test_missing_ids_are_information(orders: Trail, audit: Audit) -> None:
    orders.execute("begin; insert into orders values (20, 'gone', 1, null); rollback")
    orders.execute("insert into orders values (20, 'here', 1, null)")
    out = audit("reconcile").stdout
    assert "event ids: 1 id is missing in 1 places, the first after event 7" in out
    assert "rolled back" in out
    answer = json.loads(audit("reconcile", "--format", "json").stdout)
    assert answer["missing_ids"]["first"] == [{"after": 7, "before": 9, "missing": 1}]


def test_what_cannot_be_compared_is_said(orders: Trail, audit: Audit) -> None:
    orders.execute("create table plain (id int primary key)")
    assert [kind for kind, _, _ in findings(audit, "--table", "plain")] == ["not_reconciled"]
    orders.execute("alter table orders drop constraint orders_pkey, add primary key (status, id)")
    [(kind, _, said)] = findings(audit, "-t", "orders")
    assert kind == "not_reconciled"
    assert "its primary key has changed" in said


def test_writers_go_on_and_nothing_is_written(orders: Trail, audit: Audit) -> None:
    from audit_toolkit.completeness import reconcile
    from audit_toolkit.completeness.reconcile import one_snapshot

    with orders.database.connect() as connection, one_snapshot(connection):
        connection.execute("select 1 from orders")
        orders.execute("update orders set status = 'meanwhile' where id = 1")
        [one] = reconcile(connection, [], "audit")
    assert (one.outcome, one.events) == ("equal", 7)
