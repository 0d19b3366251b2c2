"""Events that were written by hand are found where they contradict what the server notes; nothing else is."""

from __future__ import annotations

import json
import shlex

import pytest

from tests.plugins.command import Audit
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, status text)"
DOUBTFUL = "select event_id, reason from audit.doubtful_events()"
NEWEST = "(select transaction_id from audit.logged_actions order by 1 desc limit 1)"
FORGED = """
    insert into audit.logged_actions
        (transaction_id, transaction_tstamp, client_addr, schema_name, table_name, action, row_key)
    values ({values}, 'public', 'orders', 'D', '1')
"""


def forge(trail: Trail, transaction: str, tstamp: str = "now()", client: str = "null") -> None:
    trail.execute(FORGED.format(values=f"{transaction}, {tstamp}, {client}"))


@pytest.fixture
def orders(trail: Trail) -> Trail:
    """A trail with an event of each of three transactions, and one that was rolled back."""
    trail.execute(ORDERS)
    trail.audit("orders")
    for number in (1, 2, 3):
        trail.execute("insert into orders values (%s, 'new')", [number])
    with trail.database.connect(autocommit=False) as connection:
        connection.execute("insert into orders values (4, 'new')")
        [row] = connection.execute("select pg_current_xact_id()::text").fetchall()
        trail.execute(f"create table aborted as select '{row[0]}'::xid8 as id")
        connection.rollback()
    return trail


def test_capture_is_never_doubted(orders: Trail) -> None:
    """Savepoints, exceptions, cursors, prepared transactions, several sessions, triggers, DDL."""
    orders.execute("""
        do $$ begin
            for number in 10 .. 20 loop
                begin
                    insert into orders values (number, 'x');
                    if number % 3 = 0 then raise exception 'no'; end if;
                exception when raise_exception then
                    insert into orders values (number + 100, 'y');
                end;
            end loop;
        end $$;
        update orders set status = 'z'; delete from orders where id = 10; truncate orders
    """)
    with orders.database.connect(autocommit=False) as one, orders.database.connect() as two:
        one.execute("insert into orders values (1, 'a')")
        with one.transaction():
            one.execute("savepoint s; insert into orders values (2, 'b'); release s")
        two.execute("insert into orders values (3, 'c')")
        one.execute("savepoint t; insert into orders values (4, 'c'); rollback to t")
        one.execute("insert into orders values (5, 'c')")
        assert two.execute(DOUBTFUL).fetchall() == []
        assert one.execute(DOUBTFUL).fetchall() == []
        one.commit()
    orders.execute("vacuum freeze audit.logged_actions")
    orders.execute("alter table orders add column note text")
    orders.execute("select audit.note_changes()")
    assert orders.execute(DOUBTFUL) == []


@pytest.mark.parametrize(
    ("transaction", "tstamp", "client", "reason"),
    [
        ("'999999999'", "now()", "null", "was written before the transaction began"),
        ("(select id from aborted)", "now()", "null", "did not commit"),
        (NEWEST, "now()", "null", "two beginnings"),
        (
            NEWEST,
            "(select max(transaction_tstamp) from audit.logged_actions)", "'10.9.8.7'", "two clients",
        ),
    ],
)  # fmt: skip
def test_what_names_another_transaction_is_found(
    orders: Trail, audit: Audit, transaction: str, tstamp: str, client: str, reason: str
) -> None:
    assert orders.execute(DOUBTFUL) == []
    forge(orders, transaction, tstamp, client)
    [(forged,)] = orders.execute("select max(event_id) from audit.logged_actions")
    found = dict(orders.execute(DOUBTFUL))
    assert reason in found[forged]
    answer = audit("check")
    assert answer.exit_code == 3
    assert f"error: event {forged}: " in answer.stdout
    assert "event_forged" in answer.stdout


def test_what_is_written_beside_real_changes_is_found(orders: Trail) -> None:
    """It names a transaction without other events, and is written by one that has some."""
    with orders.database.connect(autocommit=False) as connection:
        connection.execute("insert into orders values (9, 'real')")
        connection.execute(FORGED.format(values="'3', now(), null").encode())
        connection.commit()
    [(_, reason)] = orders.execute(DOUBTFUL)
    assert "another transaction than the one that it names wrote it" in reason


def test_of_a_large_trail_the_newest_are_looked_at_or_all(orders: Trail, audit: Audit) -> None:
    forge(orders, "(select id from aborted)")
    orders.execute("insert into orders select n, 'x' from generate_series(100, 10200) as n")
    assert audit("check").exit_code == 0
    assert audit("check", "--all-events").exit_code == 3


def test_what_came_from_elsewhere_is_not_doubted(orders: Trail, audit: Audit) -> None:
    """Its rows were written by the restore; after `audit adopt`, what comes is looked at again."""
    forge(orders, "'999999999'")
    orders.execute("update audit.home set database_oid = 1")
    assert orders.execute(DOUBTFUL) == []
    assert audit("adopt", "--reason", "restored").exit_code == 0
    assert orders.execute(DOUBTFUL) == []
    orders.execute("insert into orders values (77, 'x')")
    forge(orders, "'999999999'")
    assert len(orders.execute(DOUBTFUL)) == 1


def test_a_forged_boundary_hides_nothing(orders: Trail) -> None:
    forge(orders, "'999999999'")
    orders.execute("""
        insert into audit.logged_actions (schema_name, table_name, action, new_row)
        values ('audit', 'logged_actions', 'B', '{}')
    """)
    assert len(orders.execute(DOUBTFUL)) == 1


def test_a_sequence_that_was_set_to_its_end_is_found_and_mended(
    orders: Trail, audit: Audit
) -> None:
    """Members of pg_write_all_data may set it; after its last number every write would fail."""
    [(before,)] = orders.execute("select max(event_id) from audit.logged_actions")
    sequence = "audit.logged_actions_event_id_seq"
    for last in (2**63 - 2, 2**63 - 1):
        orders.execute(f"select setval('{sequence}', {last})")
        answer = audit("check", "--format", "json")
        [finding] = json.loads(answer.stdout)["findings"]
        assert finding["kind"] == "ids_run_out"
        remedy = shlex.split(finding["remedy"])
        assert remedy[:2] == ["psql", "-c"]
        orders.execute(remedy[2])
        assert audit("check").exit_code == 0
    orders.execute("insert into orders values (50, 'x')")
    assert orders.execute("select max(event_id) from audit.logged_actions") == [(before + 1,)]


def test_adopt_gives_no_ids_above_one_that_was_made_up(orders: Trail, audit: Audit) -> None:
    orders.execute("""
        insert into audit.logged_actions (event_id, schema_name, table_name, action)
        values (9223372036854775807, 'public', 'orders', 'D')
    """)
    answer = audit("adopt", "--reason", "x")
    assert answer.exit_code == 1
    assert "was inserted by hand" in answer.output
    orders.execute("insert into orders values (50, 'x')")
