"""`--store delta`: what it keeps, and that every reader has the same answers as with whole rows."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from audit_toolkit.completeness.reconcile import one_snapshot, reconcile
from audit_toolkit.config import Capture, Mask, MaskMethod, OnOversize, Store, TableRule
from audit_toolkit.errors import AuditError, PermissionDeniedError, RuleError
from audit_toolkit.names import QualifiedName
from audit_toolkit.trail import (
    Erasure,
    Event,
    Selection,
    blame,
    diff,
    history,
    plan_restore,
    plan_revert,
    row_at,
    table_at,
)
from audit_toolkit.trail import redact as run
from tests.moving.words import findings
from tests.plugins.seeds import seeds
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, status text, total numeric, note text)"
DELTA = {"store": Store.DELTA}
MODES = tuple(Store)


def test_the_remedy_of_a_key_that_is_gone_leaves_out_what_needs_one(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", **DELTA)
    trail.execute("alter table orders drop constraint orders_pkey")
    assert [(found["kind"], found["remedy"]) for found in findings(trail)] == [
        ("key_changed", "audit install --table public.orders --store changes --sql | psql")
    ]


def images(trail: Trail) -> list[tuple[str, str | None, str | None]]:
    """What was stored: action, old_row, new_row."""
    return [(e["action"], e["old_text"], e["new_text"]) for e in trail.events()]


def updates(trail: Trail) -> list[bool]:
    """Of each update, whether only what it changed was stored."""
    return [
        e["old_row"].keys() != {"id", "status", "total", "note"}
        for e in trail.events()
        if e["action"] == "U"
    ]


@pytest.fixture
def orders(trail: Trail) -> Trail:
    """A table with deltas, and a row."""
    trail.execute(ORDERS)
    trail.audit("orders", **DELTA)
    trail.execute("insert into orders values (1, 'new', 1.0, 'a')")
    return trail


def test_an_update_stores_only_what_it_changed(orders: Trail) -> None:
    orders.execute("update orders set status = 'paid'")
    orders.execute("update orders set total = 1.00, note = null")
    orders.execute("update orders set id = 2")
    orders.execute("update orders set note = 'b'")
    orders.execute("delete from orders")
    assert images(orders) == [
        ("I", None, '{"id": 1, "note": "a", "total": 1.0, "status": "new"}'),
        ("U", '{"status": "new"}', '{"status": "paid"}'),
        ("U", '{"note": "a", "total": 1.0}', '{"note": null, "total": 1.00}'),
        (
            "U",
            '{"id": 1, "note": null, "total": 1.00, "status": "paid"}',
            '{"id": 2, "note": null, "total": 1.00, "status": "paid"}',
        ),
        ("U", '{"note": null}', '{"note": "b"}'),
        ("D", '{"id": 2, "note": "b", "total": 1.00, "status": "paid"}', None),
    ]


def test_readers_see_whole_rows(orders: Trail) -> None:
    orders.execute("update orders set status = 'paid'")
    orders.execute("update orders set total = 1.00")
    *_, paid, last = history(orders.connection, "orders", 1)
    assert paid.old_row is not None
    assert last.old_row is not None
    assert last.new_row is not None
    assert paid.old_row == {**last.old_row, "status": "new"}
    assert last.new_row == {**last.old_row, "total": last.new_row["total"]}
    assert str(last.old_row["total"]) == "1.0"
    assert str(last.new_row["total"]) == "1.00"
    assert list(last.changed) == ["total"]


@pytest.mark.parametrize(
    "between",
    [
        "update orders set status = status",
        "begin; update orders set note = 'x'; update orders set note = 'y'; commit",
        (
            "alter table orders disable trigger user; update orders set note = 'unseen';"
            ' alter table orders enable always trigger "00_audit_row"'
        ),
        "alter table orders add column more text default 'x'",
        "alter table orders drop column note; alter table orders add column note text default 'z'",
        "alter table orders alter total type int",
    ],
    ids=["unchanged", "twice", "unseen", "added", "made again", "retyped"],
)
def test_after_what_no_single_event_tells_a_row_is_stored_whole(
    orders: Trail, between: str
) -> None:
    orders.execute("update orders set status = 'paid'")
    orders.execute(between)
    orders.execute("update orders set status = 'sent'")
    last = orders.events()[-1]
    present = orders.execute("select to_jsonb(o)::text from orders as o")[0][0]
    assert last["new_text"] == present
    row = row_at(orders.connection, "orders", 1, datetime.now(UTC))
    assert row is not None
    assert str(row["status"]) == "sent"
    # That something happened unseen is said, as with whole rows.
    assert _found(orders, "public") == (["event_out_of_line"] if "unseen" in between else [])


OFF = "alter table orders disable trigger user"
ON = (
    'alter table orders enable always trigger "00_audit_row";'
    ' alter table orders enable always trigger "00_audit_truncate"'
)


@pytest.mark.parametrize(
    "unseen",
    [
        f"{OFF}; update orders set note = 'unseen'; {ON}",
        "alter table orders alter total type numeric using total * 2",
        (
            f"select audit.record_gap('orders', 'paused', 'x'); {OFF}; update orders set note = 'unseen';"
            f" {ON}; select audit.record_gap('orders', 'resumed', 'x')"
        ),
        f"savepoint s; {OFF}; release s; update orders set note = 'unseen'; {ON}",
    ],
    ids=["off", "rewritten", "paused", "off in a savepoint"],
)
def test_what_the_transaction_of_an_event_did_unseen_is_stored_with_the_next(
    orders: Trail, unseen: str
) -> None:
    orders.execute("update orders set status = 'seen'")
    orders.execute(f"begin; update orders set status = 'paid'; {unseen}; commit")
    orders.execute("update orders set status = 'sent'")
    last = orders.events()[-1]
    assert last["new_text"] == orders.execute("select to_jsonb(o)::text from orders as o")[0][0]
    orders.audit("orders", **DELTA)
    orders.execute("update orders set status = 'a'")
    orders.execute("update orders set status = 'b'")
    assert updates(orders)[-2:] == [False, True]


def test_a_partition_that_was_changed_while_it_was_detached_begins_with_whole_rows(
    trail: Trail,
) -> None:
    trail.execute(
        "create table p (id int primary key, a text, b text) partition by range (id);"
        " create table p1 partition of p for values from (0) to (10)"
    )
    trail.audit("p", store=Store.DELTA)
    trail.execute("insert into p values (1, 'a', 'b')")
    trail.execute(
        "begin; update p set a = 'c'; alter table p detach partition p1; update p1 set b = 'unseen';"
        " alter table p attach partition p1 for values from (0) to (10); commit"
    )
    trail.execute("update p set a = 'd'")
    trail.execute("update p set a = 'e'")
    assert [e["new_text"] for e in trail.events()][-2:] == [
        '{"a": "d", "b": "unseen", "id": 1}',
        '{"a": "e"}',
    ]


def test_a_transaction_stores_one_change_of_a_row_as_a_delta(orders: Trail) -> None:
    orders.execute("begin; update orders set status = 'a'; update orders set status = 'b'; commit")
    orders.execute("update orders set status = 'c'")
    orders.execute("update orders set status = 'd'")
    assert updates(orders) == [True, False, False, True]


def test_a_serializable_transaction_does_not_read_the_trail(orders: Trail) -> None:
    orders.execute("begin isolation level serializable; update orders set note = 'x'; commit")
    orders.execute("update orders set note = 'y'")
    assert updates(orders) == [False, True]


def test_a_savepoint_does_not_matter(orders: Trail) -> None:
    for status in "ab":
        orders.execute(
            f"begin; savepoint s; update orders set status = '{status}'; release s; commit"
        )
    assert updates(orders) == [True, True]


def test_a_new_rule_begins_with_whole_rows(orders: Trail) -> None:
    orders.execute("update orders set status = 'paid'")
    orders.audit("orders", store=Store.DELTA, exclude=("note",))
    orders.execute("update orders set status = 'sent'")
    orders.execute("update orders set status = 'back'")
    orders.audit("orders", store=Store.DELTA)
    orders.execute("update orders set status = 'gone'")
    assert [set(e["new_row"]) for e in orders.events()[1:]] == [
        {"status"},
        {"id", "status", "total"},
        {"status"},
        {"id", "status", "total", "note"},
    ]


def test_a_repeatable_read_transaction_knows_of_a_new_rule(orders: Trail) -> None:
    orders.audit("orders", store=Store.DELTA, exclude=("note",))
    orders.execute("update orders set status = 'a'")
    with orders.database.connect() as late:
        late.execute("begin isolation level repeatable read")
        late.execute("select 1 from pg_class limit 1")
        orders.audit("orders", store=Store.DELTA)
        late.execute("update orders set status = 'b'")
        late.execute("commit")
    assert orders.events()[-1]["new_row"].keys() == {"id", "status", "total", "note"}


def test_masks_do_not_make_an_event_look_whole(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", store=Store.DELTA, mask=(Mask(column="note"),))
    trail.execute("insert into orders values (1, 'new', 1.0, 'a')")
    trail.execute("update orders set note = 'b', status = 'paid'")
    trail.execute("update orders set note = 'c'")
    assert [image[1:] for image in images(trail)[1:]] == [
        ('{"status": "new"}', '{"status": "paid"}'),
        ("{}", "{}"),
    ]
    last = history(trail.connection, "orders", 1)[-1]
    assert last.new_row is not None
    assert last.new_row["status"] == "paid"
    assert last.changed == {}


def test_values_that_json_shows_alike_are_no_change(trail: Trail) -> None:
    trail.execute("create table t (id int primary key, j json, a int[])")
    trail.audit("t", store=Store.DELTA)
    trail.execute("""insert into t values (1, '{"a":1}', '{1}')""")
    trail.execute("""update t set j = '{"a": 1}', a = '[3:3]={1}'""")
    assert images(trail)[-1][1:] == ("{}", "{}")
    assert history(trail.connection, "t", 1)[-1].old_row is not None


def test_a_row_that_comes_back_into_the_condition_is_stored_whole(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", store=Store.DELTA, when="status <> 'draft'")
    trail.execute("insert into orders values (1, 'new', 1.0, 'a')")
    trail.execute("update orders set status = 'draft'")
    trail.execute("update orders set note = 'unseen'")
    trail.execute("update orders set status = 'new'")
    trail.execute("update orders set total = 2")
    whole = {"id", "status", "total", "note"}
    assert [set(e["new_row"]) for e in trail.events()] == [whole, {"status"}, whole, {"total"}]


def test_columns_of_the_condition_and_others_may_go(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", store=Store.DELTA, when="status <> 'draft'")
    trail.execute("insert into orders values (1, 'new', 1.0, 'a')")
    trail.execute("update orders set note = 'b'")
    trail.execute("alter table orders rename status to state; alter table orders drop column note")
    trail.execute("update orders set total = 2")
    trail.execute("alter table orders rename to bills")
    trail.execute("update bills set total = 3")
    assert [set(e["new_row"]) for e in trail.events() if e["action"] == "U"] == [
        {"note"},
        {"id", "state", "total"},
        {"id", "state", "total"},
    ]


def test_without_a_key_or_with_statement_triggers_it_is_refused(trail: Trail) -> None:
    trail.execute("create table t (a int)")
    with pytest.raises(RuleError, match="has no primary key"):
        trail.audit("t", store=Store.DELTA)
    with pytest.raises(RuleError, match="--store delta needs --capture row"):
        TableRule(store=Store.DELTA, capture=Capture.STATEMENT)


def test_partitioned_tables_and_what_is_attached_to_them(trail: Trail) -> None:
    trail.execute(
        "create table p (id int primary key, a text, b text) partition by range (id);"
        " create table p1 partition of p for values from (0) to (10)"
    )
    trail.audit("p", store=Store.DELTA)
    trail.execute("insert into p values (1, 'a', 'b')")
    trail.execute("update p set a = 'c'")
    trail.execute(
        "create table p2 (like p including all); insert into p2 values (11, 'x', 'y');"
        " alter table p attach partition p2 for values from (10) to (20)"
    )
    trail.execute("update p set b = 'z'")
    trail.execute("update p set b = 'q'")
    stored = {(e["row_key"], len(e["new_row"])) for e in trail.events()[1:]}
    assert stored == {("1", 1), ("11", 3), ("11", 1)}
    assert row_at(trail.connection, "p", 11, datetime.now(UTC)) == {"id": 11, "a": "x", "b": "q"}


# -- where the whole row is missing ------------------------------------------------------------------


def test_without_the_whole_row_it_is_refused(orders: Trail) -> None:
    orders.execute("update orders set status = 'paid'")
    orders.execute("update orders set status = 'sent'")
    now = datetime.now(UTC)
    orders.execute(
        "alter table audit.logged_actions disable trigger all;"
        " delete from audit.logged_actions where action = 'I'"
    )
    message = r"event \d of row 1 of public.orders holds only what it changed"
    for ask in (
        lambda: row_at(orders.connection, "orders", 1, now),
        lambda: list(table_at(orders.connection, "orders", now)),
        lambda: history(orders.connection, "orders", 1),
        lambda: list(diff(orders.connection, "orders", now - timedelta(hours=1), now)),
    ):
        with pytest.raises(AuditError, match=message):
            ask()
    assert _found(orders, "public") == ["not_reconciled"]


CHANGES = ("status = 'paid'", "note = 'b'", "total = 2", "status = 'sent'")
ALTER = """
    update audit.logged_actions set {image} = (
        select jsonb_object_agg(key, case jsonb_typeof(value) when 'string' then '"forged"' else '99' end::jsonb)
        from jsonb_each({image}))
"""


def test_reconcile_finds_each_event_that_was_removed_or_altered(orders: Trail) -> None:
    for change in CHANGES:
        orders.execute(f"update orders set {change}")
    assert updates(orders) == [True] * len(CHANGES)
    assert _found(orders, "public") == []
    orders.execute("alter table audit.logged_actions disable trigger all")
    ids = [event["event_id"] for event in orders.events()]
    forgeries = (
        "delete from audit.logged_actions",
        *(ALTER.format(image=f"{w}_row") for w in ("old", "new")),
    )
    for event_id in ids:
        for forgery in forgeries:
            if event_id == ids[0] and "old_row" in forgery:
                continue  # an insert has none
            orders.execute("begin")
            orders.execute(f"{forgery} where event_id = {event_id}")
            [found] = reconcile(orders.connection, [QualifiedName("public", "orders")], "audit")
            assert found.findings, (event_id, forgery)
            orders.execute("rollback")


def test_a_composite_value_whose_type_changed_is_as_it_was_until_capture_is_installed_again(
    trail: Trail,
) -> None:
    trail.execute(
        "create type pair as (x int, y int); create table t (id int primary key, a text, q pair)"
    )
    trail.audit("t", store=Store.DELTA)
    trail.execute("insert into t values (1, 'a', '(1,2)')")
    trail.execute("alter type pair add attribute z int")
    trail.execute("update t set a = 'b'")
    with pytest.raises(AuditError, match="malformed record literal"):
        row_at(trail.connection, "t", 1, datetime.now(UTC))
    trail.audit("t", store=Store.DELTA)
    trail.execute("update t set a = 'c'")
    assert row_at(trail.connection, "t", 1, datetime.now(UTC)) == {"id": 1, "a": "c", "q": "(1,2,)"}


# -- whatever partitions are gone --------------------------------------------------------------------


def test_no_partition_needs_the_ones_before_it(trail: Trail) -> None:
    """Random updates over several partitions, and then the oldest are dropped, one after the other."""
    chance = random.Random(7)
    for store in ("rows", "delta"):
        trail.execute(
            f"create schema {store}; create table {store}.orders (id int primary key, a int, b int, c text)"
        )
        trail.audit(f"{store}.orders", store=Store(store))
    for (leaf,) in trail.execute("select leaf::text from audit.leaves()"):
        trail.execute(f"drop table {leaf}")
    moments, begins = [], "minvalue"
    for number in range(4):
        trail.execute(
            f"create table audit.short_{number} partition of audit.logged_actions"
            f" for values from ({begins}) to ('2100-01-01')"
        )
        for _ in range(3):
            for statement in [_small_change(chance) for _ in range(12)]:
                for store in ("rows", "delta"):
                    trail.execute(f"set search_path = {store}; {statement}")
            moments.append(_now(trail))
        ends = f"'{_now(trail).isoformat()}'"
        trail.execute(
            f"alter table audit.logged_actions detach partition audit.short_{number};"
            f" alter table audit.logged_actions attach partition audit.short_{number}"
            f" for values from ({begins}) to ({ends})"
        )
        begins = ends
    parts, updates = trail.execute(
        "select count(*) filter (where not new_row ? 'id'), count(*) from audit.logged_actions"
        " where schema_name = 'delta' and action = 'U'"
    )[0]
    assert parts > 10, (parts, updates)
    for number in range(4):
        for at in moments[::2]:
            assert _rows(trail, "delta", at) == _rows(trail, "rows", at), (number, at)
        trail.execute(f"drop table audit.short_{number}")


def _small_change(chance: random.Random) -> str:
    key = chance.randint(1, 4)
    return chance.choices(
        [
            f"insert into orders values ({key}, 1, 1, 'x') on conflict do nothing",
            f"update orders set a = a + {chance.randint(0, 1)} where id = {key}",
            f"update orders set b = b + 1, c = '{chance.random()}' where id <= {key}",
            (
                f"update orders set id = id + 4 where id = {key}"
                f" and not exists (select from orders o where o.id = {key} + 4)"
            ),
            f"delete from orders where id in ({key}, {key} + 4)",
        ],
        [3, 6, 4, 1, 1],
    )[0]


def _rows(trail: Trail, schema: str, at: datetime) -> Any:
    answers = []
    for key in range(1, 9):
        try:
            [(image,)] = trail.execute(
                "select audit.row_image_at(%s, 'orders', %s, %s)::text", (schema, str(key), at)
            )
            answers.append(image)
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            # The trail has events of the row only from a later time on, which is another one for each table.
            answers.append(str(error).split(f" of {schema}.orders only from ")[0])
    return answers


# -- the same answers as with whole rows -------------------------------------------------------------

ITEMS = """
    create schema {mode};
    create table {mode}.items (
        id int primary key deferrable initially deferred, name text, amount numeric, tags jsonb, at timestamptz,
        double numeric generated always as (amount * 2) stored
    );
    create function {mode}.settle() returns trigger language plpgsql set search_path = {mode} as $$
    begin
        if new.amount = 13 then
            update items set amount = 14.0, name = 'settled' where name = new.name;
        end if;
        if new.amount = 15 and old.amount is distinct from 15 then
            update items set amount = old.amount where name = new.name;
        end if;
        if new.amount = 17 then delete from items where name = new.name; end if;
        return null;
    end $$;
    create trigger "00_a_settle" after update on {mode}.items for each row execute function {mode}.settle();
"""


@pytest.mark.parametrize("seed", seeds(12, quick=1))
def test_all_modes_give_the_same_answers(trail: Trail, seed: int) -> None:
    chance = random.Random(seed)
    for mode in MODES:
        trail.execute(ITEMS.replace("{mode}", mode))
        trail.audit(f"{mode}.items", store=mode)
    moments = [_now(trail)]
    for number in range(30):
        statements = [_change(chance) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
        ending = chance.choice(["commit", "commit", "commit", "rollback"])
        for mode in MODES:
            trail.execute(f"set search_path = {mode}")
            trail.execute(f"begin; set constraints all deferred; {'; '.join(statements)}; {ending}")
        if number == 15:
            for mode in MODES:
                trail.execute(f"alter table {mode}.items rename name to title")
            trail.execute("select audit.note_changes()")
            for mode in MODES:
                trail.execute(f"alter table {mode}.items rename title to name")
            trail.execute("select audit.note_changes()")
        moments.append(_now(trail))
    trail.execute("reset search_path")
    stored = trail.execute(
        "select count(*) from audit.logged_actions where schema_name = 'delta' and action = 'U' and not new_row ? 'id'"
    )[0][0]
    assert stored > 3, seed
    answers = {mode: list(_answers(trail, mode, moments, random.Random(seed))) for mode in MODES}
    for asked, *given in zip(*answers.values(), strict=True):
        for other in given:
            assert other == asked, (seed, asked[0])


RULES: tuple[dict[str, Any], ...] = (
    {},
    {"mask": (Mask(column="name", method=MaskMethod.LENGTH), Mask(column="tags"))},
    {"exclude": ("amount",), "mask": (Mask(column="name", method=MaskMethod.SHA256_PLAIN),)},
    {"only": ("name",)},
    {"when": "name <> 'n3'"},
    {"log_unchanged": True},
    {"on_oversize": OnOversize.MARK},
)
CAPTURE_ON = '''alter table items enable always trigger "00_audit_row";
    alter table items enable always trigger "00_audit_truncate"; alter table items enable trigger "00_a_settle"'''
DDL = (
    "alter table items add column if not exists extra int default 7",
    "alter table items drop column if exists extra",
    "alter table items rename name to x; alter table items rename x to name",
    "alter table items alter at type timestamptz using at + interval '1 day'",
    f"alter table items disable trigger user; update items set at = at + interval '1 hour'; {CAPTURE_ON}",
    "alter table items add column if not exists s1 text; alter table items add column if not exists s2 text",
    (
        "alter table items rename amount to x; alter table items rename double to amount;"
        " alter table items rename amount to double; alter table items rename x to amount"
    ),
    "select audit.note_changes()",
)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(14))
def test_with_any_rule_ddl_and_switches_the_answers_are_those_of_whole_rows(
    trail: Trail, seed: int
) -> None:
    chance = random.Random(seed)
    rule = RULES[seed % len(RULES)]
    modes = ("rows", "delta")
    for mode in modes:
        trail.execute(ITEMS.replace("{mode}", mode))
        trail.audit(f"{mode}.items", store=Store(mode), **rule)
        trail.execute(
            f"insert into {mode}.items select g, 'n', g, '1', '2026-11-01' from generate_series(1, 5) as g"
        )
        trail.execute(f"update {mode}.items set name = 'new'")
    moments = [_now(trail)]
    for _ in range(40):
        statements = [_any_change(chance) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
        if chance.random() < 0.15:
            statements.insert(chance.choice([0, len(statements)]), chance.choice(DDL))
        ending = chance.choice(["commit", "commit", "commit", "rollback"])
        for mode in modes:
            trail.execute(f"set search_path = {mode}")
            try:
                trail.execute(
                    f"begin; set constraints all deferred; {'; '.join(statements)}; {ending}"
                )
            except psycopg.Error:  # such as DDL behind changes whose checks are deferred
                trail.execute("rollback")
        if chance.random() < 0.15:
            trail.execute("reset search_path")
            trail.audit("rows.items", store=Store.ROWS, **rule)
            trail.audit("delta.items", store=chance.choice([*MODES, Store.DELTA]), **rule)
        moments.append(_now(trail))
    trail.execute("reset search_path")
    assert any(
        event["action"] == "U" and "id" not in event["old_row"] for event in trail.events()
    ), seed
    whole, put_together = (
        list(_all_answers(trail, mode, moments, random.Random(seed))) for mode in modes
    )
    for expected, answer in zip(whole, put_together, strict=True):
        assert answer == expected, seed


def _any_change(chance: random.Random) -> str:
    some = f"id % {chance.randint(1, 3)} = {chance.randint(0, 1)}"
    return chance.choices(
        [
            _change(chance),
            f"update items set at = at where {some}",
            f"update items set name = 'n{chance.randint(1, 4)}' where {some}",
            f"savepoint s; update items set amount = {chance.randint(1, 5)} where {some}; rollback to s",
            f"savepoint s; update items set amount = {chance.randint(1, 5)} where {some}; release s",
            f"update items set tags = 'null' where {some}",
            (
                "insert into items (id, name, amount) select g, 'c', 3 from generate_series(1, 4) g"
                " where not exists (select from items where id = g)"
            ),
        ],
        [2, 1, 9, 2, 3, 3, 3],
    )[0]


def _all_answers(
    trail: Trail, mode: str, moments: list[datetime], chance: random.Random
) -> Iterator[tuple[Any, ...]]:
    """What the readers say or refuse to say of a table, without numbers and times of events."""
    table, connection = f"{mode}.items", trail.connection
    keys = range(1, 7)
    for at in sorted(chance.sample(moments, 5)):
        yield (
            "table-at",
            _tried(mode, lambda at: sorted(map(str, table_at(connection, table, at))), at),
        )
        for key in keys:
            yield "row-at", key, _tried(mode, row_at, connection, table, key, at)
            undo = partial(plan_restore, connection, table, str(key), at=at)
            yield "restore", key, _tried(mode, _planned, undo, mode)
    events = history(connection, table)
    yield "history", [_whole(event) for event in events]
    for key in keys:
        yield (
            "history",
            key,
            _tried(mode, lambda k: [*map(_whole, history(connection, table, k))], key),
        )
        yield (
            "blame",
            key,
            _tried(
                mode, lambda k: [(o.column, str(o.value)) for o in blame(connection, table, k)], key
            ),
        )
    for place in chance.sample(range(len(events)), min(6, len(events))):
        selection = Selection(event_ids=(events[place].event_id,))
        yield "revert", place, _planned(partial(plan_revert, connection, selection), mode)
    yield "reconcile", sorted(_found(trail, mode, "items"))


def _whole(event: Event) -> tuple[str, ...]:
    if event.action not in ("I", "U", "D"):
        return (event.action,)
    return (
        event.action,
        str(event.row_key),
        str(event.old_row),
        str(event.row_after),
        str(event.changed),
    )


def _tried(mode: str, ask: Callable[..., Any], *arguments: Any) -> str:
    try:
        said = str(ask(*arguments))
    except AuditError as error:
        said = str(error).replace(mode, "")
    return re.sub(r" only from \d{4}-\d\d-\d\d [0-9:.+]+", "", said)


def _now(trail: Trail) -> datetime:
    moment = trail.execute("select clock_timestamp()")[0][0]
    assert isinstance(moment, datetime)
    return moment


def _change(chance: random.Random) -> str:
    some = f"id % {chance.randint(1, 4)} = {chance.randint(0, 1)}"
    value = chance.choice(["1", "1.0", "1.00", "13", "15", "17", "null", "123456789012345678901.5"])
    return chance.choices(
        [
            (
                "insert into items (id, name, amount, tags, at)"
                f" select g, 'n' || g, {value}, '{{\"a\": 1.50}}', '2026-11-01 10:00+02'"
                f" from generate_series({chance.randint(1, 6)}, {chance.randint(1, 9)}) g"
                " where not exists (select from items where id = g)"
            ),
            f"update items set amount = {value} where {some}",
            f"update items set name = 'n' || {chance.randint(1, 9)}, tags = null where {some}",
            f"update items set at = at + interval '{chance.randint(0, 3)} days' where {some}",
            "update items set id = id + 1",
            f"delete from items where {some}",
            "truncate items",
        ],
        [6, 6, 4, 8, 0.5, 1, 0.2],
    )[0]


def _answers(
    trail: Trail, mode: str, moments: list[datetime], chance: random.Random
) -> Iterator[tuple[Any, ...]]:
    """What the readers say of a table, without what is its own: numbers, times, its name."""
    table, connection = f"{mode}.items", trail.connection
    asked = chance.sample(moments, 3)
    for at in asked:
        yield "table-at", sorted(map(str, table_at(connection, table, at)))
        for key in chance.sample(range(1, 8), 3):
            yield "row-at", key, str(row_at(connection, table, key, at))
    asked.sort()
    for since, until in pairwise(asked):
        yield "diff", [str(d.as_dict()) for d in diff(connection, table, since, until)]
    events = history(connection, table)
    places = {event.event_id: place for place, event in enumerate(events)}
    yield "history", [_told(event, mode) for event in events]
    for key in chance.sample(range(1, 8), 3):
        with suppress(AuditError):
            yield "history", key, [_told(e, mode) for e in history(connection, table, key)]
        with suppress(AuditError):
            yield (
                "blame",
                key,
                [
                    (
                        origin.column,
                        str(origin.value),
                        origin.event and places[origin.event.event_id],
                    )
                    for origin in blame(connection, table, key)
                ],
            )
    yield (
        "history()",
        trail.execute(
            "select key, image::text from audit.row_images_at(%s, 'items', 'infinity') order by key",
            (mode,),
        ),
    )
    for place in chance.sample(range(len(events)), min(3, len(events))):
        event = events[place]
        for selection in (
            Selection(event_ids=(event.event_id,)),
            Selection(transaction=event.transaction_id),
        ):
            yield "revert", place, _planned(lambda s=selection: plan_revert(connection, s), mode)
        at = asked[place % len(asked)]
        yield (
            "restore",
            place,
            _planned(
                lambda k=event.row_key, at=at: plan_restore(connection, table, k, at=at), mode
            ),
        )
    yield "reconcile", _found(trail, mode, "items")


def _told(event: Event, mode: str) -> tuple[Any, ...]:
    new = event.new_row if mode != Store.CHANGES or event.action != "U" else event.row_after
    return (
        event.action,
        event.row_key,
        event.old_row_key,
        str(event.old_row),
        str(new),
        str(event.changed),
    )


def _planned(plan: Any, mode: str) -> Any:
    try:
        undo = plan()
    except AuditError as error:
        return str(error).replace(mode, "")
    return (
        [(c.key, c.columns) for c in undo.conflicts],
        [
            s.replace(mode, "")
            for step in undo.plan.steps
            for s in step.statements
            if "set_config" not in s
        ],
    )


def _found(trail: Trail, schema: str, table: str = "orders") -> list[str]:
    with one_snapshot(trail.connection):
        [found] = reconcile(trail.connection, [QualifiedName(schema, table)], "audit")
    return [str(one.kind) for one in found.findings]


def test_what_is_redacted_is_so_in_whole_rows(trail: Trail) -> None:
    told = []
    for mode in ("rows", "delta"):
        trail.execute(
            f"create schema {mode}; create table {mode}.people (id int primary key, email text, age int)"
        )
        trail.audit(f"{mode}.people", store=Store(mode))
        trail.execute(f"insert into {mode}.people values (1, 'zoe@example.com', 30)")
        for change in (
            "age = 31",
            "email = 'zoe@example.org'",
            "age = 32",
            "email = null",
            "age = 33",
        ):
            trail.execute(f"update {mode}.people set {change}")
        erasure = Erasure(table=f"{mode}.people", rows=("1",), columns=["email"], reason="asked to")
        with trail.database.connect() as connection:
            run(connection, erasure, apply=True)
        trail.execute(f"update {mode}.people set age = 34")
        events = history(trail.connection, f"{mode}.people", 1)
        erased = max(e["event_id"] for e in trail.events() if e["action"] == "R")
        told.append([str(_told(event, mode)).replace(str(erased), "N") for event in events])
        assert len(events) == 7
    assert told[0] == told[1]
    assert "zoe" not in str(trail.execute("select old_row, new_row from audit.logged_actions"))
    with pytest.raises(AuditError, match="was redacted"):
        row_at(trail.connection, "delta.people", 1, events[2].action_tstamp)


@pytest.mark.parametrize("rows", [("1",), ()], ids=["one row", "all rows"])
def test_what_is_redacted_does_not_hide_later_values(trail: Trail, rows: tuple[str, ...]) -> None:
    trail.execute("create table people (id int primary key, email text, age int)")
    trail.audit("people", **DELTA)
    trail.execute("insert into people values (1, 'zoe@example.com', 30)")
    trail.execute("update people set age = 31")
    with trail.database.connect() as connection:
        run(
            connection,
            Erasure(table="people", rows=rows, columns=["email"], reason="asked to"),
            apply=True,
        )
    trail.execute("update people set age = 32")
    trail.execute("update people set age = 33")
    assert [image[2] for image in images(trail)[-2:]] == [
        '{"id": 1, "age": 32, "email": "zoe@example.com"}',
        '{"age": 33}',
    ]
    [last] = trail.execute("select to_jsonb(p) from people as p")[0]
    assert row_at(trail.connection, "people", 1, datetime.now(UTC)) == last


def test_a_reader_needs_the_grants_only_for_events_that_hold_changes(orders: Trail) -> None:
    role = f"reader_{orders.database.name}"
    orders.execute(f"create role {role}; grant usage on schema audit to {role}")
    orders.execute(f"grant select on audit.logged_actions to {role}")
    try:
        with orders.database.connect() as reader:
            reader.execute(f"set role {role}")
            assert len(history(reader, "orders", 1)) == 1
            orders.execute("update orders set status = 'paid'")
            with pytest.raises(PermissionDeniedError, match="row_before") as refused:
                history(reader, "orders", 1)
        assert (
            refused.value.hint == "audit grants --reader ROLE prints the grants that a reader needs"
        )
    finally:
        orders.execute(f"drop owned by {role}; drop role {role}")


@pytest.mark.parametrize(
    "rule",
    [{"store": Store.DELTA}, {"on_oversize": OnOversize.MARK}, {}],
    ids=["delta", "mark", "foreign type"],
)
def test_columns_whose_names_have_line_breaks(trail: Trail, rule: dict[str, Any]) -> None:
    trail.execute("create type mood as enum ('sad', 'glad')")
    trail.execute('create table people (id int primary key, "a\nb" mood, "c\r\n" text)')
    trail.audit("people", **rule)
    trail.execute("insert into people values (1, 'sad', 'x')")
    trail.execute("update people set \"a\nb\" = 'glad', \"c\r\n\" = 'y'")
    last = history(trail.connection, "people", 1)[-1]
    assert last.changed == {"a\nb": ("sad", "glad"), "c\r\n": ("x", "y")}
