"""A table and what happens to it."""

from __future__ import annotations

ORDERS = "create table orders (id int primary key, status text, total numeric, note text)"
STORY = """
    insert into orders values (1, 'new', 10.0, 'a'), (2, 'new', 20, null), (3, 'new', 30, null);
    update orders set status = 'paid' where id = 1;
    update orders set total = 10.00 where id = 1;
    update orders set id = 4 where id = 3;
    delete from orders where id = 2;
"""
