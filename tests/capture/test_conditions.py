"""--when: judged on one row at a time, kept where the row before or after fulfils it, and read before it decides."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from audit_toolkit.capture import check_condition, check_rule
from audit_toolkit.condition import compares_rows, on_one_row
from audit_toolkit.config import TableRule, Truncate
from audit_toolkit.errors import RuleError
from tests.plugins.command import Audit
from tests.plugins.trail import Trail

ORDERS = """
    create type state as enum ('draft', 'paid');
    create domain amount as numeric;
    create table orders (id int primary key, status text, total numeric, price amount, state state, "Odd name" int);
"""


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    return trail


def check(trail: Trail, when: str) -> None:
    table = trail.table("orders")
    rule = TableRule(when=when)
    check_rule(table, rule)
    check_condition(trail.connection, table, rule, "audit")


@pytest.mark.parametrize(
    "when",
    [
        "status <> 'draft'",
        "new.status <> 'draft'",
        "old.status <> 'draft' or new.status <> 'draft'",
        "status <> 'draft' -- a comment",
    ],
)
def test_a_change_is_kept_where_the_row_before_or_after_fulfils_it(
    orders: Trail, when: str
) -> None:
    check(orders, when)
    orders.audit("orders", when=when)
    orders.execute("""
        insert into orders values (1, 'draft'), (2, 'paid'), (3, null), (4, 'draft');
        update orders set total = 1;
        update orders set status = 'paid' where id = 1;
        update orders set status = 'draft' where id = 2;
        delete from orders
    """)
    assert orders.story() == [("I", "2"), ("U", "2"), ("U", "1"), ("U", "2"), ("D", "1")]


def test_a_condition_sees_columns_and_nothing_else(trail: Trail) -> None:
    trail.execute("create table t (id int primary key, row_after text, new text, tg_op int)")
    trail.audit("t", when="row_after = 'x' and tg_op = 1 and \"new\" = 'y'")
    trail.execute("insert into t values (1, 'x', 'y', 1), (2, 'x', 'y', 2)")
    assert trail.story() == [("I", "1")]


def test_rows_of_a_truncate_are_judged(orders: Trail) -> None:
    orders.audit("orders", when="status <> 'draft'", truncate=Truncate.ROWS)
    orders.execute("insert into orders values (1, 'draft'), (2, 'paid'); truncate orders")
    assert orders.story() == [("I", "2"), ("D", "2"), ("T", None)]


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("new.y > 1", 'column "y" does not exist'),
        ("status >", "syntax error"),
        ("status", "must be type boolean"),
        ("total", "must be type boolean"),
        ("total > 'x'", "invalid input syntax"),
        ("total + status > 1", "operator does not exist"),
        ("nofunction(total)", "function nofunction(numeric) does not exist"),
        ("random() < total", "volatile"),
        ("clock_timestamp() > '2026-01-01'", "volatile"),
        ("total > (select 1)", "subquery"),
        ("exists (table orders)", "subquery"),
        ("max(total) > 1", "aggregate functions are not allowed"),
        ("generate_series(1, 2) = total", "set-returning functions are not allowed"),
        ("row_number() over () = 1", "window functions are not allowed"),
        ("new.status is distinct from old.status", "compares old and new"),
        ("new is not null", "compares old and new"),
        ("tg_op = 'INSERT'", 'column "tg_op" does not exist'),
        ("status <> 'draft') or (true", "not one expression"),
        ("status <> 'draft'; drop table orders", "not one expression"),
        ("status = 'x", "not one expression"),
        ("/* status", "not one expression"),
        ("", "not one expression"),
        ("orders.status = 'x'", "names orders.status"),
        ("total::public.amount > 1", "names public.amount"),
        ("total operator(public.>) 1", "names"),
        ("state > 'draft'", "which is not built into PostgreSQL"),
        ("total > 1 and state between 'a' and 'b'", "which is not built into PostgreSQL"),
        ("public.missing(total)", "which does not exist"),
        ("null", "must be type boolean"),
        ("'yes'", "must be type boolean"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_it_is_installed(
    orders: Trail, when: str, said: str
) -> None:
    with pytest.raises(RuleError) as caught:
        check(orders, when)
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "when",
    [
        "state = 'paid'",
        "state in ('paid') and total > 1",
        "'paid' = state",
        "state::text > 'a'",
        "state is not null",
        '"Odd name" > 1 and price > 0',
        "coalesce(total, 0) > 0 and lower(status) like 'p%'",
        "case when total > 1 then true else status = 'x' end",
        "extract(year from date '2026-01-01') > total",
        "status = $$;'$$ or status = E'\\'' or status ~ '(%s)'",
        "current_date > '2026-01-01'",
    ],
)
def test_what_can_be_judged_is_and_never_makes_a_write_fail(orders: Trail, when: str) -> None:
    check(orders, when)
    orders.audit("orders", when=when)
    orders.execute("insert into orders values (1, 'paid', 2, 3, 'paid', 4); delete from orders")


@pytest.mark.parametrize(
    ("when", "bare"),
    [
        ("new.status <> 'new.x'", "status <> 'new.x'"),
        ('NEW . "Odd name" > 1 -- new.x', ' "Odd name" > 1 -- new.x'),
        ("new.a = 1 or old.b = 2", "a = 1 or b = 2"),
        ("new.a = 1 and old.b = 2", "new.a = 1 and old.b = 2"),
        ("newer.a = 1", "newer.a = 1"),
        ("(new.a = 1) or (new.b = 2 and old.c = 3)", "(new.a = 1) or (new.b = 2 and old.c = 3)"),
    ],
)
def test_new_and_old_mean_the_row_at_hand(when: str, bare: str) -> None:
    assert on_one_row(when) == bare
    assert compares_rows(when) is (bare == when and "newer" not in when)
    assert TableRule(when=when).when == bare


@pytest.fixture
def mallory(orders: Trail) -> Iterator[psycopg.Connection[Any]]:
    orders.execute(
        "create role condition_mallory login; grant create on schema public to condition_mallory"
    )
    try:
        yield orders.database.connect(user="condition_mallory")
    finally:
        orders.execute("drop owned by condition_mallory cascade; drop role condition_mallory")


def test_functions_of_others_never_run_for_the_trail(
    orders: Trail, mallory: psycopg.Connection[Any]
) -> None:
    mallory.execute(
        "create function public.f(text) returns boolean stable language sql as 'select true'"
    )
    with pytest.raises(
        RuleError, match="condition_mallory, and would run with the rights of the trail's owner"
    ):
        check(orders, "public.f(status)")
    orders.execute(
        "create function public.g(text) returns boolean stable language sql as 'select $1 = ''paid'''"
    )
    check(orders, "public.g(status)")
    orders.audit("orders", when="public.g(status)")
    insert = "insert into orders values ((select count(*) from orders), %s)"
    orders.execute(insert, ["draft"])
    assert orders.story() == []
    mallory.execute("""
        create table public.ran (x int); grant all on public.ran to public;
        create function public.g(varchar) returns boolean stable language plpgsql
            as 'begin insert into public.ran values (1); return true; end'
    """)
    orders.execute(insert, ["draft"])
    orders.database.connect().execute(insert, ["draft"])
    assert orders.execute("select * from public.ran") == []
    assert orders.story() == [("I", "1"), ("I", "2")]
    with pytest.raises(RuleError, match="which has several signatures"):
        check(orders, "public.g(status)")
    orders.execute("drop function public.g(text), public.g(varchar)")
    orders.execute(insert, ["draft"])
    assert len(orders.story()) == 3


def test_check_finds_a_condition_that_the_table_does_not_have_any_more(
    orders: Trail, audit: Audit
) -> None:
    orders.audit("orders", when="status <> 'draft'", exclude=("total",))
    orders.execute("alter table orders rename status to condition")
    orders.execute("insert into orders values (1, 'draft')")
    assert orders.story() == [("I", "1")]
    found = audit("check")
    assert found.exit_code == 3
    assert "a column of its condition was renamed to condition" in found.stdout
    remedy = "audit install --table public.orders --exclude total --when 'condition <> '\"'draft'\""
    assert remedy.partition(" --when")[0] in found.stdout
    orders.execute("alter table orders drop condition")
    found = audit("check")
    assert "until the condition is replaced, every change is recorded" in found.stdout
    assert 'column "status" does not exist' in found.stdout
    assert "audit install --table public.orders --exclude total --sql | psql" in found.stdout


def install(trail: Trail, audit: Audit, remedy: str) -> None:
    words = shlex.split(remedy)
    assert words[0] == "audit"
    trail.execute(audit(*words[1:], "--sql").stdout)


def remedies(audit: Audit) -> list[str]:
    return list(dict.fromkeys(re.findall(r"remedy: (.*) --sql \| psql", audit("check").stdout)))


@pytest.mark.parametrize(
    ("change", "now"),
    [
        ("alter table orders rename total to t; alter table orders rename price to total", "t > 5"),
        ('alter table orders rename total to "a b"', '"a b" > 5'),
    ],
)
@pytest.mark.parametrize("command", ["the remedy", "audit install --table orders"])
def test_a_condition_follows_the_columns_that_it_names(
    orders: Trail, audit: Audit, change: str, now: str, command: str
) -> None:
    orders.audit("orders", when="total > 5")
    orders.execute(change)
    assert "condition_column_renamed" in audit("check").stdout
    [remedy] = remedies(audit)
    install(orders, audit, remedy if command == "the remedy" else command)
    installed = orders.installed("orders")
    assert installed is not None
    assert installed.options["when"] == now
    assert "OK: everything installed" in audit("check").stdout


@pytest.mark.parametrize(
    "change",
    [
        "drop column total",
        "drop column total, add column more int",
        "rename total to t, add total int",
    ],
)
def test_one_remedy_for_a_condition_and_the_rest(orders: Trail, audit: Audit, change: str) -> None:
    orders.audit("orders", when="total > 5", exclude=("status",))
    for part in change.split(", "):
        orders.execute(f"alter table orders {part}")
    for remedy in remedies(audit):
        install(orders, audit, remedy)
    assert "OK: everything installed" in audit("check").stdout
    installed = orders.installed("orders")
    assert installed is not None
    assert installed.options["exclude"] == ["status"]
