"""Every block of docs/time-travel.md and docs/undelete.md, run as it stands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from audit_toolkit.templates import split_statements
from tests.plugins.docs import blocks
from tests.plugins.trail import Trail
from tests.timetravel.words import Audit, say

SHOP = """
    create table customers (id int primary key, name text);
    create table orders (
        id int primary key, customer_id int references customers on delete cascade, total numeric
    )
"""


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute(SHOP)
    trail.audit("customers")
    trail.audit("orders")
    say(trail, actor="alice")
    trail.execute("insert into customers values (7, 'Ann')")
    trail.execute("insert into orders values (42, 7, 1.10), (43, 7, 2)")
    trail.execute("update orders set total = 5 where id = 42")
    return trail


@pytest.fixture
def engine(trail: Trail) -> Iterator[Engine]:
    engine = create_engine(trail.database.dsn.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


def last_transaction(trail: Trail) -> str:
    return str(trail.events()[-1]["transaction_id"])


def test_the_sql_of_time_travel(shop: Trail) -> None:
    shop.execute("select pg_sleep(1.1)")
    (block,) = blocks("time-travel", "sql")
    row, table, history = (shop.execute(statement) for statement in split_statements(block))
    assert row == []
    assert sorted(key for key, *_ in table) == [42, 43]
    assert [image["total"] for *_, image in history] == [1.1, 5]


def test_the_commands_of_time_travel(shop: Trail, audit: Audit) -> None:
    commands = "".join(blocks("time-travel", "console")).replace("1000", last_transaction(shop))
    answers = {line: run(audit, line) for line in commands.splitlines()}
    assert len(answers) == 9
    assert answers["audit show 1"].startswith("public.customers")
    assert "public.orders 42: put back" in answers["audit revert --event 4"]
    assert shop.execute("select total::text from orders where id = 42") == [("1.10",)]


def test_the_python_of_time_travel(shop: Trail, engine: Engine) -> None:
    (block,) = blocks("time-travel", "python")
    assert len(block.strip().splitlines()) <= 10
    exec(compile(block, "docs/time-travel.md", "exec"), {"engine": engine, "Session": Session})  # noqa: S102
    assert shop.execute("select total::text from orders where id = 42") == [("1.10",)]


def test_deleted_rows_are_found_and_put_back(shop: Trail, audit: Audit) -> None:
    before = shop.execute("select * from customers, orders order by orders.id")
    shop.execute("delete from customers")
    (found,) = blocks("undelete", "sql")
    assert [(row[0], row[3]) for row in shop.execute(found)] == [("7", "alice")]
    (_, with_children) = blocks("undelete", "console")
    for line in with_children.replace("1000", last_transaction(shop)).splitlines():
        run(audit, line)
    assert shop.execute("select * from customers, orders order by orders.id") == before


def test_one_row_is_put_back(trail: Trail, audit: Audit) -> None:
    trail.execute(SHOP)
    trail.audit("customers")
    trail.execute("""
        alter table audit.logged_actions disable trigger user;
        insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row, action_tstamp)
        values ('public', 'customers', 'I', '7', '{"id": 7, "name": "Ann"}', now() - interval '2 hours')
    """)
    (line, _) = blocks("undelete", "console")
    run(audit, line.strip())
    assert trail.execute("table customers") == [(7, "Ann")]


def test_undelete_in_the_application(shop: Trail) -> None:
    shop.execute("delete from customers")
    (block,) = blocks("undelete", "python")
    names: dict[str, object] = {"Connection": psycopg.Connection}
    exec(compile(block, "docs/undelete.md", "exec"), names)  # noqa: S102 - our own documentation
    undelete = names["undelete"]
    assert callable(undelete)
    undelete(shop.connection, "customers", 7)
    assert shop.execute("select id from orders order by 1") == [(42,), (43,)]


def run(audit: Audit, line: str) -> str:
    program, *arguments = shlex.split(line)
    assert program == "audit"
    return audit(*arguments).stdout
