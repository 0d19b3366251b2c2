"""A tail beside writers that commit late, roll back, prepare or die: nothing missed, nothing twice.

Beside it reads whoever remembers the highest id that he saw, and is seen to miss events.
"""

from __future__ import annotations

import random
from itertools import takewhile
from typing import Any

import psycopg
import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.trail import Event, follow, history
from audit_toolkit.trail.history import follow as following
from audit_toolkit.trail.history.read import first_events
from audit_toolkit.trail.history.row_events import keys_of
from tests.plugins.seeds import seeds
from tests.plugins.trail import Trail
from tests.timetravel.histories import ITEMS, KEYED, happen
from tests.trail.tails import ORDERS, Naive, Tail, all_ids, ids, writer


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders")
    return trail


def chance_of(number: int, key: int | None) -> bool:
    return random.Random(f"{number} {key}").random() < 0.5


def test_events_that_leave_before_they_are_read(
    orders: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition is dropped between the count of a batch and its reading, and all of the batch was in it."""
    tail = Tail(orders, "orders")
    assert tail.until_idle() == []
    orders.execute("insert into orders select generate_series(1, 9)")
    drops = [
        "alter table audit.logged_actions disable trigger user; delete from audit.logged_actions"
    ]

    def after_a_drop(*given: Any, **named: Any) -> list[Event]:
        while drops:
            with orders.database.connect() as connection:
                connection.execute(drops.pop())
        return first_events(*given, **named)

    monkeypatch.setattr(following, "first_events", after_a_drop)
    assert tail.until_idle() == []
    assert drops == []
    orders.execute("insert into orders values (10)")
    assert [event.row_key for event in tail.until_idle()] == ["10"]


class TestLateCommits:
    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_who_commits_late_is_waited_for(self, orders: Trail, end: str) -> None:
        naive, tail = Naive(orders), Tail(orders, "orders")
        assert tail.until_idle() == []
        late = writer(orders, "insert into orders values (1)")
        orders.execute("insert into orders values (2)")
        naive.look()
        events, batch = tail.until_held()
        assert events == []
        assert [blocker.pid for blocker in batch.held_by] == [late.info.backend_pid]
        assert batch.held_by[0].since is not None
        getattr(late, end)()
        naive.look()
        expected = ["1", "2"] if end == "commit" else ["2"]
        assert [event.row_key for event in tail.until_idle()] == expected
        assert (len(naive.seen) < len(all_ids(orders))) == (end == "commit")

    def test_an_event_before_a_savepoint_that_was_rolled_back(self, orders: Trail) -> None:
        tail = Tail(orders, "orders")
        late = writer(
            *(orders, "insert into orders values (1)", "savepoint s"),
            *("insert into orders values (2)", "rollback to s", "insert into orders values (3)"),
        )
        orders.execute("insert into orders values (4)")
        tail.until_held()
        late.commit()
        assert [event.row_key for event in tail.until_idle()] == ["1", "3", "4"]

    def test_who_writes_elsewhere_only_is_waited_for_too(self, orders: Trail) -> None:
        """Nobody can know that it will stay so."""
        tail = Tail(orders, "orders")
        other = writer(orders, "create table other (id int)")
        orders.execute("insert into orders values (1)")
        events, _ = tail.until_held()
        assert events == []
        other.close()
        assert len(tail.until_idle()) == 1

    def test_who_only_reads_is_not(self, orders: Trail) -> None:
        tail = Tail(orders, "orders")
        writer(orders, "select * from orders", "select * from audit.logged_actions")
        orders.execute("insert into orders values (1)")
        assert len(tail.until_idle()) == 1

    def test_an_id_that_was_drawn_before_its_transaction_had_a_number(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1)")
        tail = Tail(orders, "orders")
        assert len(tail.until_idle()) == 1
        late = orders.database.connect(autocommit=False)
        (drawn,) = late.execute("select nextval('audit.logged_actions_event_id_seq')").fetchall()[0]
        assert late.execute("select pg_current_xact_id_if_assigned()").fetchone() == (None,)
        orders.execute("insert into orders values (2)")
        events, batch = tail.until_held()
        assert (events, batch.held_by[0].pid) == ([], late.info.backend_pid)
        late.execute(
            "insert into audit.logged_actions (event_id, schema_name, table_name, action, row_key)"
            " values (%s, 'public', 'orders', 'D', '9')",
            [drawn],
        )
        late.commit()
        assert [event.row_key for event in tail.until_idle()] == ["9", "2"]

    def test_a_new_trail_whose_sequence_was_never_used(self, orders: Trail) -> None:
        tail = Tail(orders, "orders")
        assert tail.until_idle() == []
        late = writer(orders, "insert into orders values (1)")
        assert tail.until_idle() == []
        late.commit()
        assert ids(tail.until_idle()) == [1]

    def test_stamps_of_long_ago(self, orders: Trail) -> None:
        """Whatever clock they are from, such as that of a trail that was imported."""
        tail = Tail(orders, "orders")
        tail.until_idle()
        orders.execute(
            "insert into audit.logged_actions (schema_name, table_name, action, row_key, action_tstamp)"
            " values ('public', 'orders', 'D', '9', now() - interval '5 days')"
        )
        orders.execute("insert into orders values (1)")
        assert [event.row_key for event in tail.until_idle()] == ["9", "1"]


class TestOrder:
    def test_a_transaction_on_both_sides_of_the_reach(self, orders: Trail) -> None:
        """Its events changed places, and another session's event came between them."""
        insert = (
            "insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row, new_row)"
            """ values ('public', 'orders', 'U', '1', '{{"id": 1, "v": {}}}', '{{"id": 1, "v": {}}}')"""
        )
        tail = Tail(orders, "orders")
        tail.until_idle()
        late = writer(orders, insert.format(50, 9))
        orders.execute("insert into orders values (2)")
        tail.until_held()
        late.execute(insert.format(1, 50).encode())
        late.commit()
        seen = tail.until_idle()
        seen += tail.until_idle()
        assert ids(seen) == ids(history(orders.connection, "orders")) == [3, 2, 1]

    def test_within_the_reach_in_the_order_of_the_images(self, orders: Trail) -> None:
        orders.execute(
            """
            create function push() returns trigger language plpgsql as $$
            begin
                if new.v = 9 then update orders set v = 50 where id = 2; end if;
                return null;
            end $$;
            create trigger push after update on orders for each row execute function push();
            insert into orders values (1, 1), (2, 1);
            """
        )
        tail = Tail(orders, "orders")
        seen = tail.until_idle()
        orders.execute("update orders set v = 9")
        seen += tail.until_idle()
        assert seen == history(orders.connection, "orders")
        assert ids(seen) != sorted(ids(seen))

    def test_more_than_fits_into_a_batch(self, orders: Trail) -> None:
        orders.execute("insert into orders select generate_series(1, 4567)")
        tail = Tail(orders, "orders")
        sizes = [len(b.events) for b in takewhile(lambda batch: batch.events, tail.batches)]
        assert sum(sizes) == 4567
        assert max(sizes) <= 2000

    @pytest.mark.parametrize("seed", seeds(3, quick=1))
    def test_random_histories(self, trail: Trail, seed: int) -> None:
        """Whose triggers invert ids, and whose rows change keys and go round in circles."""
        trail.execute(ITEMS.replace("{key}", KEYED))
        trail.audit("items")
        tails = {key: Tail(trail, "items", key) for key in (None, 1, 3)}
        seen: dict[int | None, list[Event]] = {key: [] for key in tails}
        for number, _ in enumerate(happen(trail, seed, 25)):
            for key, tail in tails.items():
                if number % 4 == 0 or chance_of(number, key):
                    seen[key] += tail.until_idle()
        for key, tail in tails.items():
            seen[key] += tail.until_idle()
        assert ids(seen[None]) == ids(history(trail.connection, "items"))
        # A row that took the key has a past of its own, which the tail does not tell.
        for key in (1, 3):
            whole = ids(history(trail.connection, "items", key))
            assert ids(seen[key]) == [n for n in whole if n in set(ids(seen[key]))]
            named = [event.event_id for event in seen[None] if str(key) in keys_of([event])]
            assert set(named) <= set(ids(seen[key]))


class TestARow:
    def test_it_is_followed_where_its_key_changes(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1, 1), (2, 1)")
        tail = Tail(orders, "orders", 1)
        seen = tail.until_idle()
        for change in (
            "update orders set v = 2",
            "update orders set id = 10 where id = 1",
            "update orders set v = 3",
            "insert into orders values (1, 7)",
            "update orders set id = id + 100",
            "delete from orders where v = 3",
            "update orders set v = 8",
            "truncate orders",
        ):
            orders.execute(change)
            seen += tail.until_idle()
        assert seen == history(orders.connection, "orders", 1)
        assert {event.row_key for event in seen} == {"1", "10", "110", "101", None}

    def test_what_takes_its_key_is_followed_from_then_on(self, orders: Trail) -> None:
        orders.execute("insert into orders values (2, 1)")
        tail = Tail(orders, "orders", 1)
        assert tail.until_idle() == []
        orders.execute("update orders set id = 1")
        orders.execute("update orders set id = 3")
        assert [event.row_key for event in tail.until_idle()] == ["1", "3"]


class TestFilters:
    def test_they_apply(self, orders: Trail) -> None:
        tail = Tail(orders, "orders", changed="v", from_key=2, to_key=3)
        orders.execute("insert into orders values (1), (2), (3), (4)")
        orders.execute("update orders set v = 1")
        found = [(event.action, event.row_key) for event in tail.until_idle()]
        assert found == [("I", "2"), ("I", "3"), ("U", "2"), ("U", "3")]
        orders.execute(
            "update orders set id = 20 where id = 2; update orders set v = 2 where id = 3"
        )
        assert [event.row_key for event in tail.until_idle()] == ["3"]

    def test_other_tables_move_it_on(self, orders: Trail) -> None:
        orders.execute("create table notes (id int primary key)")
        orders.audit("notes")
        orders.execute("insert into notes values (1), (2)")
        tail = Tail(orders, "orders")
        assert tail.until_idle() == []
        assert tail.last is not None
        assert tail.last.position.event_id == 2

    def test_where_it_begins(self, orders: Trail) -> None:
        orders.execute("insert into orders select generate_series(1, 9)")
        assert ids(Tail(orders, "orders", after=6).until_idle()) == [7, 8, 9]
        tail = Tail(orders, "orders", limit=2)
        assert ids(tail.until_idle()) == [8, 9]
        orders.execute("insert into orders values (10), (11), (12)")
        assert ids(tail.until_idle()) == [10, 11, 12]


class TestRights:
    def test_who_may_read_the_trail_may_follow_it(self, orders: Trail) -> None:
        role = f"reader_{orders.database.name[-8:]}"
        orders.execute(f"create role {role}")
        try:
            orders.execute(f"grant usage on schema audit to {role}")
            orders.execute(f"grant select on audit.logged_actions to {role}")
            tail_connection = orders.database.connect()
            tail_connection.execute(
                f"set role {role}; set default_transaction_read_only = on".encode()
            )
            batches = follow(tail_connection, "orders")
            late = writer(orders, "insert into orders values (1)")
            orders.execute("insert into orders values (2)")
            held = next(batch for batch in batches if batch.held_by)
            assert held.held_by[0].pid == late.info.backend_pid
            late.commit()
            assert ids(list(next(b.events for b in batches if b.events))) == [1, 2]
            tail_connection.close()
        finally:
            orders.execute(f"drop owned by {role}; drop role {role}")

    @pytest.mark.parametrize(
        "setting",
        [
            "timezone = 'Asia/Kathmandu'",
            "datestyle = 'German, DMY'",
            "datestyle = 'Postgres'",
            "default_transaction_isolation = serializable",
            "search_path = pg_temp",
        ],
    )
    def test_settings_of_the_session_change_nothing(self, orders: Trail, setting: str) -> None:
        connection = orders.database.connect(row_factory=psycopg.rows.namedtuple_row)
        connection.execute(f"set {setting}".encode())
        batches = follow(connection, "public.orders")
        assert next(batches).events == ()
        late = writer(orders, "insert into orders values (1)")
        orders.execute("insert into orders values (2)")
        assert next(batches).held_by[0].pid == late.info.backend_pid
        late.commit()
        assert ids(list(next(b.events for b in batches if b.events))) == [1, 2]

    def test_a_connection_in_a_transaction_is_refused(self, orders: Trail) -> None:
        with pytest.raises(UsageError, match="cannot run inside a transaction"):
            follow(orders.database.connect(autocommit=False), "orders")
        with orders.connection.transaction(), pytest.raises(UsageError, match="cannot run inside"):
            follow(orders.connection, "orders")


def test_no_transaction_is_open_between_batches(orders: Trail) -> None:
    orders.execute("insert into orders select generate_series(1, 5000)")
    tail = Tail(orders, "orders")
    for batch in tail.batches:
        assert tail.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if not batch.events:
            break
