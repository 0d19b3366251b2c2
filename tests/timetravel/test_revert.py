from __future__ import annotations

import json

import pytest

from audit_toolkit import trail as verbs
from audit_toolkit.attribution.console import os_actor
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.trail import ConflictError, OnConflict, Selection
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail
from tests.timetravel.histories import ITEMS, KEYED, happen, rows_of
from tests.timetravel.words import Audit, now, say

SHOP = """
    create table customers (
        id bigint generated always as identity primary key, name text, boss bigint references customers
    );
    create table orders (
        id int primary key,
        customer_id bigint not null references customers on delete cascade,
        total numeric,
        gross numeric generated always as (total * 2) stored
    );
    create table lines (
        order_id int references orders on delete cascade, line int, what text[], primary key (order_id, line)
    );
"""
FILL = """
    insert into customers (name, boss) values ('Ann', null), ('Bob', 1), ('Cid', 2);
    insert into orders values (10, 1, 1.10), (11, 2, 2.00);
    insert into lines values (10, 1, '{a,"b c"}'), (10, 2, null), (11, 1, '{}');
"""


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute(SHOP)
    for table in ("customers", "orders", "lines"):
        trail.audit(table)
    say(trail, actor="alice")
    trail.execute(FILL)
    say(trail, actor="bob")
    return trail


def everything(trail: Trail) -> list[tuple[object, ...]]:
    return trail.execute("""
        select 'customers', to_jsonb(c)::text from customers c
        union all select 'orders', to_jsonb(o)::text from orders o
        union all select 'lines', to_jsonb(l)::text from lines l
        order by 1, 2
    """)


def last_transaction(trail: Trail) -> int:
    return int(trail.events()[-1]["transaction_id"])


def test_a_deleted_row_comes_back_with_its_children(shop: Trail, audit: Audit) -> None:
    before = everything(shop)
    shop.execute("update customers set boss = null; delete from customers where id <> 3")
    assert len(everything(shop)) == 1
    transaction = last_transaction(shop)
    printed = audit("revert", "--transaction", str(transaction))
    assert len(everything(shop)) == 1
    assert "public.lines [10, 1]: inserted again" in printed.stdout
    assert (
        "overriding system value"
        in audit("revert", "--transaction", str(transaction), "--sql").stdout
    )
    done = audit("revert", "--transaction", str(transaction), "--apply", "--reason", "a mistake")
    made = last_transaction(shop)
    assert done.stderr.splitlines() == [
        f"put back 8 rows in transaction {made}",
        f"to undo that: audit revert --transaction {made} --apply",
    ]
    assert everything(shop) == before
    assert shop.events()[-1]["context"] == {
        "actor": os_actor(),
        "reason": "a mistake",
        "reverts": {"transaction": transaction},
    }


def test_what_is_printed_does_what_apply_does(shop: Trail, audit: Audit) -> None:
    before = everything(shop)
    shop.execute(
        "delete from customers where id = 1 and false; update orders set total = 5; delete from lines"
    )
    printed = audit("revert", "--transaction", str(last_transaction(shop)), "--sql")
    shop.execute(printed.stdout)
    assert everything(shop) == before


def test_reverting_a_revert(shop: Trail, audit: Audit) -> None:
    shop.execute("update orders set total = 7 where id = 10; delete from lines where order_id = 11")
    changed = everything(shop)
    audit("revert", "--transaction", str(last_transaction(shop)), "--apply")
    assert everything(shop) != changed
    audit("revert", "--transaction", str(last_transaction(shop)), "--apply")
    assert everything(shop) == changed


def test_truncate_is_undone(shop: Trail, audit: Audit) -> None:
    before = everything(shop)
    shop.execute("truncate customers cascade")
    audit("revert", "--transaction", str(last_transaction(shop)), "--apply")
    assert everything(shop) == before


def test_inserts_are_taken_back_children_first(shop: Trail, audit: Audit) -> None:
    shop.execute("truncate customers, orders, lines restart identity")
    shop.execute("begin;" + FILL + "commit")
    audit("revert", "--transaction", str(last_transaction(shop)), "--apply")
    assert everything(shop) == []


def test_a_conflict_shows_both_sides_and_is_refused(shop: Trail, audit: Audit) -> None:
    shop.execute("update orders set total = 5 where id in (10, 11)")
    transaction = str(last_transaction(shop))
    shop.execute("update orders set total = 6 where id = 10")
    event = shop.events()[-1]["event_id"]
    for more in ([], ["--apply"]):
        refused = audit("revert", "--transaction", transaction, *more, code=1)
        assert refused.stderr.splitlines() == [
            "public.orders 10",
            "  was left as  total 5",
            "  is now       total 6",
            "  would be     total 1.10",
            f"  since then: bob, event {event} (gross, total)",
            (
                "error: 1 row was changed since, for example public.orders 10 (total), by bob in event "
                f"{event}"
            ),
            (
                "hint: --force puts them back anyway, --ours leaves such rows as they are, "
                "--ignore total leaves that column alone"
            ),
        ]
        assert refused.stdout == ""
    assert totals(shop) == ["6", "5"]
    audit("revert", "--transaction", transaction, "--ours", "--apply")
    assert totals(shop) == ["6", "2.00"]
    audit("revert", "--transaction", transaction, "--force", "--apply")
    assert totals(shop) == ["1.10", "2.00"]
    assert (
        "cannot be combined" in audit("revert", "--event", "1", "--ours", "--force", code=2).stderr
    )


def test_what_others_did_to_other_columns_stays(shop: Trail, audit: Audit) -> None:
    shop.execute("update orders set total = 5 where id = 10")
    transaction = str(last_transaction(shop))
    shop.execute("update orders set customer_id = 2 where id = 10")
    audit("revert", "--transaction", transaction, "--apply")
    assert shop.execute("select customer_id, total::text from orders where id = 10") == [
        (2, "1.10")
    ]


def test_rows_that_are_gone_or_back_conflict(shop: Trail) -> None:
    shop.execute("update orders set total = 5 where id = 10")
    updated = Selection(transaction=last_transaction(shop))
    shop.execute("delete from orders where id = 10")
    deleted = Selection(transaction=last_transaction(shop))
    with pytest.raises(ConflictError) as refused:
        verbs.apply_revert(shop.connection, updated)
    assert refused.value.conflicts[0].present is None
    verbs.apply_revert(shop.connection, updated, on_conflict=OnConflict.FORCE)
    assert totals(shop) == ["1.10", "2.00"]
    with pytest.raises(ConflictError):
        verbs.apply_revert(shop.connection, deleted)


def test_by_actor_and_time(shop: Trail, audit: Audit) -> None:
    before = everything(shop)
    begin = now(shop).isoformat()
    say(shop, actor="mallory")
    shop.execute(
        "update orders set total = 0; delete from lines; insert into orders values (12, 3, 3)"
    )
    say(shop, actor="alice")
    shop.execute("update customers set name = 'Anna' where id = 1")
    audit("revert", "--actor", "mallory", "--since", begin, "--apply")
    shop.execute("update customers set name = 'Ann' where id = 1")
    assert everything(shop) == before
    assert "needs --since" in audit("revert", "--actor", "mallory", code=2).stderr


def test_somebody_else_in_between_is_a_conflict(shop: Trail) -> None:
    begin = now(shop)
    for actor, total in (("mallory", 5), ("alice", 6), ("mallory", 7)):
        say(shop, actor=actor)
        shop.execute(f"update orders set total = {total} where id = 10")
    undo = verbs.plan_revert(shop.connection, Selection(actor="mallory", since=begin))
    assert [conflict.key for conflict in undo.conflicts] == ["10"]


def test_json_has_plan_and_conflicts(shop: Trail, audit: Audit) -> None:
    shop.execute("update orders set total = 5 where id = 10")
    answer = audit("revert", "--event", str(shop.events()[-1]["event_id"]), "--format", "json")
    found = json.loads(answer.stdout)
    assert (found["applied"], found["rows"], found["conflicts"]) == (False, 1, [])
    assert "update public.orders" in found["plan"]["steps"][-1]["statements"][0]


def test_restore_a_row(shop: Trail, audit: Audit) -> None:
    begin = now(shop).isoformat()
    shop.execute(
        "update orders set total = 5 where id = 10; update orders set customer_id = 2 where id = 10"
    )
    assert (
        "customer_id = wanted.customer_id"
        in audit("restore", "orders", "10", "--at", begin, "--sql").stdout
    )
    audit("restore", "orders", "10", "--at", begin, "--apply")
    assert shop.execute("select customer_id, total::text from orders where id = 10") == [
        (1, "1.10")
    ]
    nothing = audit("restore", "orders", "10", "--at", begin, "--apply")
    assert nothing.stderr == "note: nothing to put back\n"
    shop.execute("delete from orders where id = 10")
    (gone,) = [e for e in shop.events() if e["action"] == "D" and e["table_name"] == "orders"]
    number = str(gone["event_id"])
    audit("restore", "orders", "10", "--event", number, "--apply", "--reason", "needed")
    assert totals(shop) == ["1.10", "2.00"]
    context = shop.events()[-1]["context"]
    assert (context["restores"]["as_of"], context["reason"]) == (f"event {number}", "needed")


def test_restore_to_before_it_was_there(shop: Trail, audit: Audit) -> None:
    begin = now(shop).isoformat()
    shop.execute("insert into lines values (11, 2, null)")
    audit("restore", "lines", "11", "2", "--at", begin, "--apply")
    assert shop.execute("select line from lines where order_id = 11") == [(1,)]


def test_restore_of_a_row_that_the_trail_never_had(shop: Trail, audit: Audit) -> None:
    shop.execute("alter table orders disable trigger all; insert into orders values (77, 1, 3)")
    shop.execute("alter table orders enable trigger all")
    for key in ("99", "77"):
        refused = audit("restore", "orders", key, "--at", "1h", "--apply", code=2)
        assert f"error: no such row in the trail: public.orders {key}" in refused.stderr
        assert "hint: if the row exists, it has not changed since capture began" in refused.stderr
    assert "77" in [row[0] for row in shop.execute("select id::text from orders")]


def test_restore_of_an_event_of_another_row(shop: Trail, audit: Audit) -> None:
    number = str(shop.events()[0]["event_id"])
    refused = audit("restore", "orders", "10", "--event", number, code=2)
    assert (
        f"event {number} is about public.customers 1, not about public.orders 10" in refused.stderr
    )
    assert "give either a time or an event" in audit("restore", "orders", "10", code=2).stderr


def test_foreign_keys_that_are_gone(shop: Trail, audit: Audit) -> None:
    shop.execute("delete from lines where order_id = 11")
    shop.execute("delete from orders where id = 11")
    shop.execute("delete from customers where id = 3; delete from customers where id = 2")
    number = [e["event_id"] for e in shop.events() if e["action"] == "D"][1]
    refused = audit("restore", "orders", "11", "--event", str(number), "--apply", code=1)
    assert "could not apply the restore" in refused.stderr
    assert 'is not present in table "customers"' in refused.stderr


@pytest.mark.parametrize("hide", [{"mask": ("secret",)}, {"exclude": ("secret",)}])
def test_hidden_columns_are_named(trail: Trail, hide: dict[str, tuple[str, ...]]) -> None:
    from audit_toolkit.config import Mask

    if "mask" in hide:
        rule: dict[str, object] = {"mask": (Mask(column="secret"),)}
    else:
        rule = dict(hide)
    trail.execute("create table people (id int primary key, name text, secret text)")
    trail.audit("people", **rule)
    trail.execute("insert into people values (1, 'Ann', 'x')")
    before = now(trail)
    trail.execute("update people set name = 'Anna'")
    verbs.apply_revert(trail.connection, Selection(transaction=last_transaction(trail)))
    trail.execute("update people set name = 'Anna'")
    verbs.apply_restore(trail.connection, "people", 1, at=before)
    assert trail.execute("table people") == [(1, "Ann", "x")]
    trail.execute("delete from people")
    with pytest.raises(UsageError, match="the trail has no values of secret"):
        verbs.plan_revert(trail.connection, Selection(transaction=last_transaction(trail)))


def test_tables_that_are_gone_or_have_no_key(trail: Trail) -> None:
    trail.execute("create table bare (v int); create table gone (id int primary key)")
    trail.audit("bare")
    trail.audit("gone")
    trail.execute("insert into bare values (1)")
    with pytest.raises(UsageError, match=r"public.bare has no primary key"):
        verbs.plan_revert(trail.connection, Selection(transaction=last_transaction(trail)))
    trail.execute("insert into gone values (1)")
    trail.execute("drop table gone")
    with pytest.raises(AuditError, match=r"public.gone no longer exists"):
        verbs.plan_revert(trail.connection, Selection(transaction=last_transaction(trail)))


@pytest.mark.parametrize("store", ["rows", "changes"])
@pytest.mark.parametrize("seed", some_quick(range(20, 28), [20]))
def test_the_last_transactions_taken_back_give_the_table_as_it_was(
    trail: Trail, seed: int, store: str
) -> None:
    trail.execute(ITEMS.replace("{key}", KEYED))
    trail.audit("items", store=store)
    moments = list(happen(trail, seed, 12))
    trail.execute('drop trigger "00_a_settle" on items')
    transactions = list(dict.fromkeys(int(e["transaction_id"]) for e in trail.events()))
    states = {tuple(sorted(m.rows.elements())): m for m in moments}
    for transaction in reversed(transactions[-6:]):
        verbs.apply_revert(trail.connection, Selection(transaction=transaction))
        assert tuple(sorted(rows_of(trail, "items").elements())) in states
    ids = sorted(
        int(e["event_id"]) for e in trail.events() if int(e["transaction_id"]) in transactions[-6:]
    )
    begin = min(e["action_tstamp"] for e in trail.events() if e["event_id"] == ids[0])
    last_before = [m for m in moments if m.at < begin][-1]
    assert rows_of(trail, "items") == last_before.rows


def totals(trail: Trail) -> list[str]:
    return [total for (total,) in trail.execute("select total::text from orders order by id")]
