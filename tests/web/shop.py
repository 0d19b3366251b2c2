"""A small business with a past: what the tests of the page look at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.plugins.trail import audit, install_trail

TABLES = """
    create table customers (id int primary key, name text not null, email text, notes text);
    create table orders (
        id int primary key,
        customer_id int references customers,
        status text not null default 'new',
        total numeric(10, 2) not null,
        paid boolean not null default false,
        note text,
        cart jsonb
    );
    create table salaries (id int primary key, person text, amount int);
    create table stock (region text, item int, amount int, primary key (region, item));
"""


@contextmanager
def acting(connection: Any, **said: Any) -> Iterator[None]:
    """A transaction whose context says this."""
    with connection.transaction():
        connection.execute("select set_config('audit.context', %s, true)", [json.dumps(said)])
        yield


def fill(dsn: str) -> None:
    """The trail, four tables, and some days in the life of the business."""
    import psycopg

    install_trail(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        for table in ("customers", "orders", "salaries", "stock"):
            audit(connection, table)
        live(connection)


def live(connection: Any) -> None:
    """What happens in the business."""
    run = connection.execute
    with acting(connection, actor="customer:ada", request_id="req-1", endpoint="POST /orders"):
        run("insert into customers values (1, 'Ada Lovelace', 'ada@example.com', null)")
        run(
            "insert into orders values (1, 1, 'new', 19.90, false, 'please ring twice', %s)",
            [
                json.dumps(
                    {"items": [{"sku": "tea", "n": 1}, {"sku": "cup", "n": 2}], "city": "Bern"}
                )
            ],
        )
        run("insert into orders (id, customer_id, total) values (2, 1, 5)")
    with acting(
        connection, actor="customer:ada", request_id="req-2", endpoint="POST /orders/1/pay"
    ):
        run("update orders set status = 'paid', paid = true where id = 1")
    with acting(connection, actor="support:joe", reason="ticket 4711: shipping was charged twice"):
        run("update orders set total = 14.90, note = null where id = 1")
    with acting(connection, actor="support:joe", reason="ticket 4712: wrong address"):
        run("update orders set cart = jsonb_set(cart, '{city}', '\"Basel\"') where id = 1")
        run("update customers set notes = 'prefers to be called in the morning' where id = 1")
    with acting(connection, actor="batch:cleanup", reason="orders that nobody paid"):
        run("delete from orders where id = 2")
    with acting(connection, actor="hr:eva", reason="yearly raise"):
        run("insert into salaries values (1, 'joe', 4000)")
        run("update salaries set amount = 4200")
        run("update customers set email = 'lovelace@example.com' where id = 1")
    run("insert into stock values ('eu', 42, 7)")
    run("update stock set amount = 6")
