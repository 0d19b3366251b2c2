"""What capture cannot see, as docs/guarantees.md says: a test here fails when a limit is gone and the text is old."""

from __future__ import annotations

import pytest

from audit_toolkit.config import TableRule
from tests.plugins.replay import BrokenTrailError, Replay, read_events, require_equal
from tests.plugins.trail import Trail
from tests.proofs.bench import PLAIN, install


def require_replay(trail: Trail, table: str) -> None:
    """Check that the whole trail of a table gives the table."""
    replay = Replay()
    replay.apply(read_events(trail.connection, "public").get(table, []))
    require_equal(trail.connection, f"public.{table}", replay.rows)


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(PLAIN)
    trail.execute("create table orders (id int primary key, total numeric)")
    install(trail.connection, "orders", TableRule())
    trail.execute("insert into orders values (1, 1.0), (2, 2)")
    require_replay(trail, "orders")
    return trail


@pytest.mark.parametrize(
    "migration",
    [
        "alter table orders alter total type numeric using total * 2",
        "alter table orders add state text default 'new'",
    ],
)
def test_a_migration_that_rewrites_rows_is_no_event(orders: Trail, migration: str) -> None:
    orders.execute(migration)
    with pytest.raises(BrokenTrailError):
        require_replay(orders, "orders")


def test_who_may_alter_the_table_may_silence_it(orders: Trail) -> None:
    orders.execute("alter table orders disable trigger user; delete from orders where id = 1")
    with pytest.raises(BrokenTrailError):
        require_replay(orders, "orders")


@pytest.mark.pg(">= 18")
def test_virtual_columns_are_null_in_triggers(trail: Trail) -> None:
    trail.execute("create table boxes (w int, area int generated always as (w * w) virtual)")
    install(trail.connection, "boxes", TableRule())
    trail.execute("insert into boxes values (3)")
    assert [event["new_row"].get("area") for event in trail.events()] == [None]


@pytest.fixture
def parts(trail: Trail) -> Trail:
    trail.execute(PLAIN)
    trail.execute("""
        create table parts (id int, region text, primary key (id, region)) partition by list (region);
        create table parts_eu partition of parts for values in ('eu');
    """)
    install(trail.connection, "parts", TableRule())
    trail.execute("create table parts_us partition of parts for values in ('us')")
    trail.execute("insert into parts values (1, 'eu'), (2, 'us')")
    require_replay(trail, "parts")
    return trail


def test_truncate_of_a_new_leaf_is_unseen_until_the_next_installation(parts: Trail) -> None:
    parts.execute("begin; truncate parts_us")
    with pytest.raises(BrokenTrailError):
        require_replay(parts, "parts")
    parts.execute("rollback")
    install(parts.connection, "parts", TableRule())
    parts.execute("truncate parts_us")
    require_replay(parts, "parts")


def test_rows_leave_and_come_with_their_leaf_unseen(parts: Trail) -> None:
    parts.execute("begin; alter table parts detach partition parts_us")
    with pytest.raises(BrokenTrailError):
        require_replay(parts, "parts")
    parts.execute("rollback")
    parts.execute("create table parts_asia (id int not null, region text not null)")
    parts.execute("insert into parts_asia values (3, 'asia')")
    parts.execute("alter table parts attach partition parts_asia for values in ('asia')")
    with pytest.raises(BrokenTrailError):
        require_replay(parts, "parts")


def test_settings_are_not_pinned_for_a_column_added_later_until_the_next_installation(
    orders: Trail,
) -> None:
    """Only types that print by settings are concerned: here the digits of a float."""
    orders.execute("alter table orders add weight float8; update orders set weight = 1")
    replay = Replay()
    orders.execute("delete from orders; set extra_float_digits = 0")
    start = max(event["event_id"] for event in orders.events())
    change = "delete from orders; insert into orders values (3, 3, 0.30000000000000004)"
    orders.execute(change)
    replay.apply(read_events(orders.connection, "public", start)["orders"])
    with pytest.raises(BrokenTrailError):
        require_equal(orders.connection, "public.orders", replay.rows)
    install(orders.connection, "orders", TableRule())
    orders.execute(change)
    latest = read_events(orders.connection, "public", start)["orders"][-1]
    again = Replay()
    again.apply([latest])
    require_equal(orders.connection, "public.orders", again.rows)
