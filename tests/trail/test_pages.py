"""Pages of a history, in both directions: joined they are the whole, also where ids are inverted."""

from __future__ import annotations

import random

import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.trail import Event, Filter, cut_page, find_subject, history
from tests.plugins.seeds import seeds
from tests.plugins.trail import Trail
from tests.timetravel.histories import ITEMS, KEYED, happen


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute("create table orders (id int primary key, status text)")
    trail.audit("orders")
    trail.execute("insert into orders select generate_series(1, 10)")
    return trail


def ids(events: list[Event]) -> list[int]:
    return [event.event_id for event in events]


def backward(trail: Trail, table: str, key: object, sizes: random.Random) -> list[Event]:
    joined: list[Event] = []
    before: int | None = None
    while page := history(trail.connection, table, key, before=before, limit=sizes.randint(1, 7)):
        before = min(ids(page))
        joined = page + joined
    return joined


def forward(trail: Trail, table: str, key: object, sizes: random.Random) -> list[Event]:
    joined: list[Event] = []
    while page := history(
        trail.connection,
        table,
        key,
        after=max(ids(joined), default=0),
        limit=sizes.randint(1, 7),
    ):
        joined += page
    return joined


@pytest.mark.parametrize("seed", seeds(12, quick=1))
def test_pages_joined_are_the_whole_history(trail: Trail, seed: int) -> None:
    """Triggers of the random histories invert ids, and rows go round in circles and change keys."""
    trail.execute(ITEMS.replace("{key}", KEYED))
    trail.audit("items")
    for _ in happen(trail, seed, 25):
        pass
    whole = history(trail.connection, "items")
    for key in (None, 1, 3, 21):
        expected = whole if key is None else history(trail.connection, "items", key)
        sizes = random.Random(seed)
        assert ids(backward(trail, "items", key, sizes)) == ids(expected)
        assert ids(forward(trail, "items", key, sizes)) == ids(expected)
    backwards = history(trail.connection, "items", newest_first=True)
    assert ids(backwards) == ids(whole)[::-1]


def test_random_histories_do_invert_ids(trail: Trail) -> None:
    """Or the test above would prove nothing."""
    trail.execute(ITEMS.replace("{key}", KEYED))
    trail.audit("items")
    for _ in happen(trail, 3, 60):
        pass
    order = ids(history(trail.connection, "items"))
    assert order != sorted(order)


def test_a_page_is_as_long_as_was_asked_for(orders: Trail) -> None:
    whole = ids(history(orders.connection, "orders"))
    page = history(orders.connection, "orders", before=whole[6], limit=3)
    assert ids(page) == whole[3:6]
    page = history(orders.connection, "orders", after=whole[6], limit=2)
    assert ids(page) == whole[7:9]
    page = history(orders.connection, "orders", after=whole[6], limit=2, newest_first=True)
    assert ids(page) == whole[7:9][::-1]
    page = history(orders.connection, "orders", after=whole[2], before=whole[6], limit=2)
    assert ids(page) == whole[4:6]
    assert ids(history(orders.connection, "orders", before=whole[2])) == whole[:2]
    assert ids(history(orders.connection, "orders", after=whole[7])) == whole[8:]


def test_a_page_does_not_end_between_events_that_changed_places(orders: Trail) -> None:
    insert = """
        insert into audit.logged_actions
            (schema_name, table_name, action, row_key, old_row, new_row, transaction_id)
        values ('public', 'orders', 'U', '1', %s, %s, '9999')
        returning event_id
    """
    (late,) = orders.execute(insert, ['{"id": 1, "status": 50}', '{"id": 1, "status": 9}'])[0]
    (early,) = orders.execute(insert, ['{"id": 1, "status": 1}', '{"id": 1, "status": 50}'])[0]
    assert ids(history(orders.connection, "orders", limit=1)) == [early, late]
    assert ids(history(orders.connection, "orders", after=late - 1, limit=1)) == [early, late]


def test_where_the_next_page_begins(orders: Trail) -> None:
    subject = find_subject(orders.connection, "orders")
    whole = ids(history(orders.connection, "orders"))

    def border(wanted: Filter) -> int | None:
        return cut_page(orders.connection, subject, wanted).border

    assert border(Filter(limit=4)) == whole[6]
    assert border(Filter(limit=10)) is None
    assert border(Filter(limit=4, before=whole[4])) is None
    assert border(Filter(limit=4, after=whole[2])) == whole[6]
    assert border(Filter(limit=7, after=whole[2])) is None
    assert border(Filter()) is None


def test_filters_apply_to_pages(orders: Trail) -> None:
    orders.execute("update orders set status = 'x' where id % 2 = 0")
    page = history(orders.connection, "orders", changed="status", limit=3)
    assert [event.row_key for event in page] == ["6", "8", "10"]
    first = min(ids(page))
    page = history(orders.connection, "orders", changed="status", limit=3, before=first)
    assert [event.row_key for event in page] == ["10", "2", "4"]


@pytest.mark.parametrize("bound", ["before", "after"])
def test_an_event_of_another_table(orders: Trail, bound: str) -> None:
    orders.execute("create table notes (id int primary key)")
    orders.audit("notes")
    orders.execute("insert into notes values (1)")
    last = orders.events()[-1]["event_id"]
    with pytest.raises(UsageError, match=rf"event {last} is of public.notes, not of public.orders"):
        page(orders, bound, last)
    # A number that no event has is a place like any other: its event may be archived.
    assert len(page(orders, bound, last + 100)) == (10 if bound == "before" else 0)


def page(orders: Trail, bound: str, event_id: int) -> list[Event]:
    if bound == "before":
        return history(orders.connection, "orders", before=event_id)
    return history(orders.connection, "orders", after=event_id)


def test_a_page_between_nothing(orders: Trail) -> None:
    with pytest.raises(UsageError, match="after must be less than before: 5 is not below 5"):
        history(orders.connection, "orders", after=5, before=5)
