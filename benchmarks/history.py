"""A trail of any size in which every row's events follow each other, as those of real changes do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_toolkit.capture import check_rule, plan_capture
from audit_toolkit.catalog import find_relation, read_table
from audit_toolkit.config import TableRule
from audit_toolkit.plan import apply
from benchmarks.backend import read_sql

if TYPE_CHECKING:
    import psycopg

EVENTS_OF_A_ROW = 10
LEAVES = 24
"""Partitions that have events, of a month each; the newest is that of now."""
_STEP = 1_000_000

_TABLE = """
    create table public.orders (id bigint primary key, status text, total numeric, note text);
    insert into public.orders
    select id, 's9', 19.50, 'please ring twice' from generate_series(1, {rows}) as id
"""
_BOUNDS = """
    select min(lower_bound) as begin, now() - interval '1 second' as end from audit.leaves()
"""


def fill_history(connection: psycopg.Connection[Any], events: int) -> None:
    """So many events of the audited table `orders`, ten a row, into the past two years of an empty trail.

    `events` is a power of ten: then the rows of each round are all rows, in another order.
    """
    rows = events // EVENTS_OF_A_ROW
    # An empty trail has the partition of the month before.
    connection.execute(read_sql("past_months").format(months=LEAVES - 2).encode())
    connection.execute(_TABLE.format(rows=rows).encode())
    # The events are older than capture, which takes over where they end.
    [(begin, end)] = connection.execute(_BOUNDS).fetchall()
    sql = read_sql("orders_history")
    for first in range(0, events, _STEP):
        numbers = {"first": first, "last": min(first + _STEP, events) - 1}
        connection.execute(
            sql.encode(), numbers | {"events": events, "rows": rows, "begin": begin, "end": end}
        )
    target = check_rule(read_table(connection, find_relation(connection, "orders")), TableRule())
    apply(plan_capture(target, "audit"), connection)
    connection.execute("vacuum (analyze)")
