from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from psycopg import sql

from audit_toolkit.config import Capture
from audit_toolkit.errors import UsageError
from audit_toolkit.trail import Action, Event, Filter, find_subject, history, stream_events
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, status text, total numeric)"


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders")
    return trail


def actions(events: list[Event]) -> str:
    return "".join(event.action for event in events)


def ids(events: list[Event]) -> list[int]:
    return [event.event_id for event in events]


def test_an_event_has_every_column_of_the_trail(orders: Trail) -> None:
    role = f"support_{secrets.token_hex(4)}"
    orders.execute(f"create role {role}; grant insert on orders to {role}")
    try:
        with orders.database.connect(application_name="shop") as connection:
            connection.execute(f"set role {role}".encode())
            connection.execute("""set audit.context = '{"actor": "alice", "amount": 1.00}'""")
            connection.execute("insert into orders values (1, 'new', 1.00)")
    finally:
        orders.execute(f"drop owned by {role}; drop role {role}")
    (event,) = history(orders.connection, "orders")
    (login, now) = orders.execute("select session_user::text, now()")[0]
    assert event == Event(
        event_id=event.event_id,
        action_tstamp=event.action_tstamp,
        transaction_id=event.transaction_id,
        schema_name="public",
        table_name="orders",
        action=Action.INSERT,
        row_key="1",
        old_row_key=None,
        old_row=None,
        new_row={"id": 1, "status": "new", "total": Decimal("1.00")},
        context={"actor": "alice", "amount": Decimal("1.00")},
        session_user_name=login,
        role_name=role,
        application_name="shop",
        client_addr=event.client_addr,
        query=None,
    )
    assert event.action_tstamp.tzinfo is UTC
    assert timedelta() <= now - event.action_tstamp < timedelta(minutes=1)
    stored = orders.execute("select event_id, transaction_id::text::int from audit.logged_actions")
    assert stored == [(event.event_id, event.transaction_id)]


@pytest.mark.parametrize("store", ["rows", "changes"])
@pytest.mark.parametrize("capture", [Capture.ROW, Capture.STATEMENT])
def test_what_changed(trail: Trail, capture: Capture, store: str) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", capture=capture, store=store)
    trail.execute("insert into orders values (1, null, 1.0)")
    trail.execute("update orders set total = 1.00")
    trail.execute("update orders set status = '', total = null")
    trail.execute("delete from orders")
    trail.execute("truncate orders")
    assert [event.changed for event in history(trail.connection, "orders")] == [
        {"id": (None, 1), "total": (None, Decimal("1.0")), "status": (None, None)},
        {"total": (Decimal("1.0"), Decimal("1.00"))},
        {"total": (Decimal("1.00"), None), "status": (None, "")},
        {"id": (1, None), "total": (None, None), "status": ("", None)},
        {},
    ]


def test_an_unchanged_update_changed_nothing(trail: Trail) -> None:
    trail.execute(ORDERS)
    trail.audit("orders", log_unchanged=True)
    trail.execute("insert into orders values (1); update orders set status = null")
    assert history(trail.connection, "orders")[1].changed == {}


def test_a_row_and_its_table(orders: Trail) -> None:
    orders.execute("insert into orders values (1), (2); update orders set status = 'paid'")
    assert actions(history(orders.connection, "orders")) == "IIUU"
    assert actions(history(orders.connection, "orders", 1)) == "IU"
    assert history(orders.connection, "orders", 3) == []


def test_rows_of_tables_with_the_same_name_are_apart(orders: Trail) -> None:
    orders.execute("create schema old; create table old.orders (id int primary key)")
    orders.audit("old.orders")
    orders.execute("insert into old.orders values (1); insert into orders values (1)")
    for name, schema in (("orders", "public"), ("old.orders", "old")):
        assert [e.schema_name for e in history(orders.connection, name, 1)] == [schema]


class TestFilters:
    @pytest.fixture(autouse=True)
    def _five_events(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1, 'a')")
        for status in "bcd":
            orders.execute("update orders set status = %s", [status])
        orders.execute("delete from orders")

    @pytest.mark.parametrize("key", [None, 1])
    def test_limit_keeps_the_newest_and_prints_the_oldest_of_them_first(
        self, orders: Trail, key: int | None
    ) -> None:
        events = history(orders.connection, "orders", key)
        for limit in (1, 3, 5, 6):
            assert history(orders.connection, "orders", key, limit=limit) == events[-limit:]

    @pytest.mark.parametrize("key", [None, 1])
    def test_since_is_the_first_moment_and_until_the_first_too_late(
        self, orders: Trail, key: int | None
    ) -> None:
        events = history(orders.connection, "orders", key)
        found = history(
            orders.connection,
            "orders",
            key,
            since=events[1].action_tstamp,
            until=events[3].action_tstamp,
        )
        assert found == events[1:3]

    def test_actions(self, orders: Trail) -> None:
        found = history(
            orders.connection, "orders", 1, actions=[Action.INSERT, Action.DELETE], limit=9
        )
        assert actions(found) == "ID"

    def test_a_moment_without_zone_is_refused(self, orders: Trail) -> None:
        with pytest.raises(UsageError, match="2026-11-01T00:00:00 has no time zone"):
            history(orders.connection, "orders", since=datetime(2026, 11, 1))  # noqa: DTZ001

    def test_a_period_that_ends_before_it_begins_is_refused(self, orders: Trail) -> None:
        now = datetime.now(UTC)
        with pytest.raises(UsageError, match="since must be earlier than until:"):
            history(orders.connection, "orders", since=now, until=now)

    def test_a_limit_of_nothing_is_refused(self, orders: Trail) -> None:
        with pytest.raises(UsageError, match="limit must be at least 1, not 0"):
            history(orders.connection, "orders", limit=0)


class TestWhatBefellTheTable:
    """TRUNCATE and gaps in capture, which are events without a key."""

    def test_a_row_ends_by_truncate(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1), (2); truncate orders")
        assert actions(history(orders.connection, "orders", 1)) == "IT"

    def test_a_truncate_while_the_row_was_not_there_is_none_of_its_events(
        self, orders: Trail
    ) -> None:
        orders.execute("truncate orders")
        orders.execute("insert into orders values (1), (2); delete from orders where id = 1")
        orders.execute("truncate orders")
        orders.execute("insert into orders values (1)")
        assert actions(history(orders.connection, "orders", 1)) == "IDI"
        assert actions(history(orders.connection, "orders", 2)) == "IT"

    def test_with_a_limit(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1); truncate orders")
        orders.execute("insert into orders values (1)")
        assert actions(history(orders.connection, "orders", 1, limit=2)) == "TI"

    def test_under_several_keys(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1); update orders set id = 2; truncate orders")
        assert actions(history(orders.connection, "orders", 1)) == "IUT"

    def test_a_gap_is_in_the_history_of_every_row_that_was_known(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1), (2); delete from orders where id = 2")
        orders.execute("select audit.record_gap('orders', 'paused', 'bulk load')")
        orders.execute("insert into orders values (3)")
        for key, expected in ((1, "IG"), (2, "IDG"), (3, "I")):
            assert actions(history(orders.connection, "orders", key)) == expected


class TestInvertedIds:
    """An AFTER trigger changes rows of the same statement again, and is captured first."""

    @pytest.fixture
    def inverted(self, trail: Trail) -> Trail:
        trail.execute(
            """
            create table t (id int primary key, v int);
            create function push() returns trigger language plpgsql as $$
            begin
                if new.v = 9 then
                    update t set v = 50 where id = 2;
                end if;
                return null;
            end $$;
            create trigger push after update on t for each row execute function push();
            """
        )
        trail.audit("t")
        trail.execute("insert into t values (1, 1), (2, 1)")
        trail.execute("update t set v = 9")
        return trail

    def test_the_trail_has_them_inverted(self, inverted: Trail) -> None:
        events = [event for event in inverted.events() if event["row_key"] == "2"]
        values = [(event["old_row"]["v"], event["new_row"]["v"]) for event in events[1:]]
        assert values == [(9, 50), (1, 9)]

    @pytest.mark.parametrize("limit", [None, 10])
    @pytest.mark.parametrize("key", [None, 2])
    def test_each_image_follows_from_the_one_before(
        self, inverted: Trail, key: int | None, limit: int | None
    ) -> None:
        state = None
        for event in history(inverted.connection, "t", key, limit=limit):
            if event.row_key == "2":
                assert event.old_row == state
                state = event.row_after
        assert state == {"id": 2, "v": inverted.execute("select v from t where id = 2")[0][0]}


class TestConnections:
    def test_settings_of_the_session_change_nothing(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1, 'x', 0.10)")
        expected = history(orders.connection, "orders")
        for setting in (
            "timezone = 'Asia/Kathmandu'",
            "datestyle = 'German, DMY'",
            "datestyle = 'Postgres'",
            "extra_float_digits = -15",
            "search_path = pg_temp",
            "standard_conforming_strings = off",
        ):
            with orders.database.connect() as connection:
                connection.execute(f"set {setting}".encode())
                assert history(connection, "public.orders") == expected

    def test_settings_and_transaction_of_the_caller_are_left_alone(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1)")
        connection = orders.database.connect(autocommit=False)
        connection.execute("set timezone = 'Asia/Kathmandu'")
        connection.execute("insert into orders values (2)")
        assert actions(history(connection, "orders", 2)) == "I"
        assert connection.execute("show timezone").fetchone() == ("Asia/Kathmandu",)
        connection.rollback()
        assert actions(history(connection, "orders")) == "I"

    def test_a_stream_can_be_left_early(self, orders: Trail) -> None:
        orders.execute("insert into orders select generate_series(1, 5000)")
        subject = find_subject(orders.connection, "orders")
        stream = stream_events(
            orders.connection, subject, Filter(since=datetime(2026, 1, 1, tzinfo=UTC))
        )
        assert next(stream).row_key == "1"
        del stream
        assert orders.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert len(list(stream_events(orders.connection, subject))) == 5000

    def test_row_factories_of_the_caller_do_not_matter(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1)")
        connection = orders.database.connect(row_factory=psycopg.rows.namedtuple_row)
        assert actions(history(connection, "orders", "1")) == "I"


def test_another_schema_for_the_trail(trail: Trail) -> None:
    from audit_toolkit.capture import plan_capture
    from audit_toolkit.config import TrailSettings
    from audit_toolkit.plan import apply
    from audit_toolkit.schema import plan_trail

    name = 'a"b%s{{ %% }}'
    trail.execute(ORDERS)
    apply(plan_trail(TrailSettings(schema=name)), trail.connection)
    apply(plan_capture(trail.target("orders"), name), trail.connection)
    trail.execute("insert into orders values (1); update orders set id = 2")
    assert actions(history(trail.connection, "orders", "2", schema=name)) == "IU"
    assert actions(history(trail.connection, "orders", schema=name)) == "IU"


def test_an_action_of_a_later_version(orders: Trail) -> None:
    from audit_toolkit.errors import AuditError

    orders.execute(
        "insert into audit.logged_actions (schema_name, table_name, action) values ('public', 'orders', 'X')"
    )
    with pytest.raises(AuditError, match="events of kind 'X'"):
        history(orders.connection, "orders")


@pytest.mark.parametrize(
    "name",
    ['Weird "Table"', "a.b", "50%", "%s %(key)s", "{{ x }}", "$$", "x\ny", "select", "ordër 👩‍💻"],
)
def test_hostile_names(trail: Trail, name: str) -> None:
    table = sql.Identifier(name)
    trail.connection.execute(sql.SQL("create table {0} ({0} text primary key)").format(table))
    quoted = '"' + name.replace('"', '""') + '"'
    trail.audit(quoted)
    trail.connection.execute(sql.SQL("insert into {} values ({})").format(table, sql.Literal(name)))
    (event,) = history(trail.connection, quoted, name)
    assert (event.table_name, event.row_key, event.new_row) == (name, name, {name: name})
