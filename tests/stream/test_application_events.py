"""Events of the application: in the trail with the transaction that they belong to, and nothing of the table's."""

from __future__ import annotations

import asyncio
import datetime as dt
import selectors
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import audit_toolkit
from audit_toolkit import trail as verbs
from audit_toolkit.errors import ContextError, UsageError
from audit_toolkit.trail import Action, Selection
from tests.plugins.command import Audit
from tests.plugins.trail import Trail

RECORD = "select audit.record_event(%s, %s, %s, %s)"


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[Decimal | None]


class Line(Base):
    __tablename__ = "Order: lines"
    __table_args__ = {"schema": "a%b"}  # noqa: RUF012
    order_id: Mapped[int] = mapped_column("order", primary_key=True)
    day: Mapped[dt.date] = mapped_column(primary_key=True)


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute("create table orders (id int primary key, total numeric)")
    trail.audit("orders")
    return trail


@pytest.fixture
def engine(orders: Trail) -> Iterator[Engine]:
    made = create_engine(orders.database.dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    yield made
    made.dispose()


def told(trail: Trail) -> list[tuple[Any, ...]]:
    """The events of the application: table, key, name, payload."""
    return [
        (e["table_name"], e["row_key"], e["new_row"]["name"], e["new_row"]["payload"])
        for e in trail.events()
        if e["action"] == "E"
    ]


class TestInSql:
    def test_of_a_row_of_a_table_and_of_neither(self, orders: Trail) -> None:
        orders.execute("insert into orders values (1, 5)")
        orders.execute(RECORD, ["order.paid", '{"amount": 5.00}', "orders", "1"])
        orders.execute("select audit.record_event('stock.counted', null, 'orders')")
        orders.execute("select audit.record_event('night.began')")
        assert told(orders) == [
            ("orders", "1", "order.paid", {"amount": Decimal("5.00")}),
            ("orders", None, "stock.counted", None),
            ("logged_actions", None, "night.began", None),
        ]

    def test_nothing_without_commit(self, orders: Trail) -> None:
        with orders.database.connect(autocommit=False) as connection:
            connection.execute(RECORD, ["order.paid", None, "orders", "1"])
            connection.rollback()
            connection.execute("savepoint s")
            connection.execute(RECORD, ["order.lost", None, "orders", "1"])
            connection.execute("rollback to s")
            connection.execute(RECORD, ["order.kept", None, "orders", "1"])
        assert [name for *_, name, _ in told(orders)] == ["order.kept"]

    def test_who_and_context_are_those_of_capture(self, orders: Trail) -> None:
        with orders.database.connect(autocommit=False) as connection:
            connection.execute("select set_config('audit.context', '{\"actor\": \"ann\"}', true)")
            connection.execute("set local role postgres")
            connection.execute("insert into orders values (1)")
            connection.execute(RECORD, ["order.paid", None, "orders", "1"])
            connection.commit()
        insert, event = orders.events()
        assert (insert["action"], event["action"]) == ("I", "E")
        same = ("transaction_id", "context", "session_user_name", "role_name", "transaction_tstamp")
        assert {name: insert[name] for name in same} == {name: event[name] for name in same}
        assert event["context"] == {"actor": "ann"}

    @pytest.mark.parametrize(
        ("table", "typed", "key"),
        [
            ("create table t (id numeric primary key)", " 42 ", "42"),
            ("create table t (id date primary key)", "20260102", "2026-01-02"),
            ("create table t (a text, b int, primary key (a, b))", '["x", "07"]', '["x", 7]'),
            (
                "create table t (id uuid primary key)",
                "A" * 32,
                "aaaaaaaa-" + "aaaa-" * 3 + "a" * 12,
            ),
        ],
    )
    def test_the_key_is_as_capture_writes_it(
        self, trail: Trail, table: str, typed: str, key: str
    ) -> None:
        trail.execute(table)
        trail.execute(RECORD, ["e", None, "t", typed])
        assert told(trail)[0][1] == key

    def test_a_partition_stands_for_its_root_and_a_new_name_for_the_former(
        self, orders: Trail
    ) -> None:
        orders.execute("create table p (id int primary key) partition by range (id)")
        orders.execute("create table p1 partition of p for values from (0) to (9)")
        orders.execute(RECORD, ["e", None, "p1", "1"])
        orders.execute("insert into orders values (1)")
        orders.execute("alter table orders rename to sales")
        orders.execute(RECORD, ["e", None, "sales", "1"])
        assert [table for table, *_ in told(orders)] == ["p", "sales"]
        found = verbs.history(orders.connection, "sales", 1)
        assert [event.action.value for event in found] == ["I", "M", "E"]

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            ("record_event(' ')", "needs a name"),
            ("record_event(null)", "needs a name"),
            ("record_event('e', null, null, '1')", "needs the table"),
            ("record_event('e', null, 'orders', 'x')", "invalid input syntax"),
            ("record_event('e', null, 'nowhere', '1')", "does not exist"),
            ("record_event('e', null, 'keyless', '1')", "no primary key"),
        ],
    )
    def test_refused(self, orders: Trail, call: str, message: str) -> None:
        orders.execute("create table keyless (id int)")
        with pytest.raises(psycopg.Error, match=message):
            orders.execute(f"select audit.{call}")


class TestRights:
    def test_who_was_not_granted_it_cannot(self, orders: Trail, audit: Audit) -> None:
        role = "recorder_" + orders.database.name[-8:]
        orders.execute(f"create role {role}")
        try:
            with orders.database.connect() as connection:
                connection.execute(f"set role {role}")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(RECORD, ["e", None, None, None])
            orders.execute(audit("grants", "--recorder", role).stdout)
            with orders.database.connect() as connection:
                connection.execute(f"set role {role}")
                connection.execute(RECORD, ["e", None, "orders", "1"])
                forged = "(schema_name, table_name, action) values ('public', 'orders', 'D')"
                for refused in (
                    "select * from audit.logged_actions",
                    f"insert into audit.logged_actions {forged}",
                ):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(refused)
            [event] = orders.events()
            assert (event["action"], event["role_name"]) == ("E", role)
        finally:
            orders.execute(f"drop owned by {role}")
            orders.execute(f"drop role {role}")

    def test_a_type_of_the_caller_runs_nothing_as_the_owner(
        self, orders: Trail, audit: Audit
    ) -> None:
        """Whoever may record events may bring a key of a type with functions of his own."""
        role = "recorder_" + orders.database.name[-8:]
        orders.execute(f"create role {role}; grant create on schema public to {role}")
        try:
            orders.execute(audit("grants", "--recorder", role).stdout)
            with orders.database.connect() as connection:
                connection.execute(f"set role {role}")
                connection.execute(
                    "create table seen (who text);"
                    " create function look(v int) returns bool language plpgsql as"
                    " $$begin insert into public.seen values (current_user); return true; end$$;"
                    " create domain looking as int check (public.look(value));"
                    " create table trap (id looking primary key)"
                )
                connection.execute(RECORD, ["e", None, "trap", "1"])
            assert {who for (who,) in orders.execute("select who from seen")} == {role}
        finally:
            orders.execute(f"drop owned by {role}")
            orders.execute(f"drop role {role}")


class TestTheRow:
    """What the application says changes nothing of what capture knows."""

    @pytest.fixture
    def story(self, orders: Trail) -> Trail:
        for statement in (
            RECORD,
            "insert into orders values (1, 5)",
            RECORD,
            "update orders set total = 6",
            RECORD,
        ):
            orders.execute(
                statement, ["e", '{"total": 99}', "orders", "1"] if "%" in statement else ()
            )
        return orders

    def test_time_travel(self, story: Trail) -> None:
        row = verbs.row_at(story.connection, "orders", 1, dt.datetime.now(dt.UTC))
        assert row == {"id": 1, "total": 6}
        rows = verbs.table_at(story.connection, "orders", dt.datetime.now(dt.UTC))
        assert list(rows) == [{"id": 1, "total": 6}]
        versions = story.execute("select row_image ->> 'total' from audit.history('orders', '1')")
        assert versions == [("5",), ("6",)]
        moments = [event["action_tstamp"] for event in story.events()]
        images = [
            story.execute(
                "select audit.row_image_at('public', 'orders', '1', %s) ->> 'total'", [at]
            )
            for at in moments
        ]
        assert images == [[(None,)], [("5",)], [("5",)], [("6",)], [("6",)]]

    def test_blame_names_changes(self, story: Trail) -> None:
        setters = {o.column: o.event for o in verbs.blame(story.connection, "orders", 1)}
        assert setters["total"] is not None
        assert setters["total"].action is Action.UPDATE

    def test_undo_leaves_it_alone(self, story: Trail) -> None:
        ids = tuple(event["event_id"] for event in story.events())
        undo = verbs.plan_revert(story.connection, Selection(event_ids=ids[3:]))
        assert [(change.key, change.after) for change in undo.changes] == [("1", {"total": 5})]
        nothing = verbs.plan_revert(story.connection, Selection(event_ids=ids[4:]))
        assert nothing.rows == 0

    def test_a_restore_to_one_is_one_to_its_moment(self, story: Trail) -> None:
        third = story.events()[2]
        undo = verbs.plan_restore(story.connection, "orders", 1, event=third["event_id"])
        assert [change.after for change in undo.changes] == [{"total": 5}]

    def test_diff(self, story: Trail) -> None:
        first, *_, last = (event["action_tstamp"] for event in story.events())
        found = verbs.diff(story.connection, "orders", first, last)
        assert [(d.before, d.after) for d in found] == [(None, {"id": 1, "total": 6})]

    def test_baseline_of_a_row_with_nothing_else(self, trail: Trail, audit: Audit) -> None:
        trail.execute("create table orders (id int primary key, total numeric)")
        trail.execute("insert into orders values (1, 5)")
        trail.audit("orders")
        trail.execute(RECORD, ["e", '{"id": 1, "total": 5}', "orders", "1"])
        assert audit("baseline", "--table", "orders").exit_code == 0
        assert [action for action, _ in trail.story()][-2:] == ["E", "S"]
        assert audit("baseline", "--table", "orders").exit_code == 0
        assert trail.story()[-1][0] == "S"
        assert len(trail.story()) == 2

    def test_it_goes_with_the_row_where_the_key_changes(self, story: Trail) -> None:
        story.execute("update orders set id = 2")
        story.execute(RECORD, ["e2", None, "orders", "2"])
        found = verbs.history(story.connection, "orders", 2)
        assert [event.action.value for event in found] == list("EIEUEUE")

    @pytest.mark.usefixtures("story")
    def test_the_history_shows_it(self, audit: Audit) -> None:
        shown = audit("history", "orders", "1", "--action", "event").stdout
        assert shown.count("  e by ") == 3
        assert "total  99" in shown


class TestFromPython:
    def test_psycopg(self, orders: Trail) -> None:
        with orders.database.connect(autocommit=False) as connection:
            audit_toolkit.attach(connection)
            with audit_toolkit.context(actor="ann"):
                connection.execute("insert into orders values (1)")
                event = audit_toolkit.record(
                    "order.paid", {"at": dt.date(2026, 1, 2)}, table="orders", key=1, on=connection
                )
            connection.execute("insert into orders values (2)")
            connection.commit()
        assert told(orders) == [("orders", "1", "order.paid", {"at": "2026-01-02"})]
        found = orders.events()
        assert found[1]["event_id"] == event
        assert [e["context"] for e in found] == [{"actor": "ann"}, {"actor": "ann"}, None]

    def test_a_new_row_of_a_session(self, orders: Trail, engine: Engine) -> None:
        audit_toolkit.attach(engine)
        with Session(engine) as session, audit_toolkit.context(actor="ann"):
            order = Order(id=7)
            session.add(order)
            audit_toolkit.record("order.placed", row=order)
            session.commit()
        assert [(e["action"], e["row_key"]) for e in orders.events()] == [("I", "7"), ("E", "7")]
        assert [e["context"] for e in orders.events()] == [{"actor": "ann"}] * 2

    def test_a_key_of_several_columns_in_a_table_with_any_name(
        self, orders: Trail, engine: Engine
    ) -> None:
        orders.execute('create schema "a%b"')
        Base.metadata.tables["a%b.Order: lines"].create(engine)
        with Session(engine) as session:
            line = Line(order_id=1, day=dt.date(2026, 1, 2))
            session.add(line)
            audit_toolkit.record("line.added", row=line)
            session.commit()
        assert told(orders) == [("Order: lines", '[1, "2026-01-02"]', "line.added", None)]

    @pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
    def test_async_sessions(self, orders: Trail, driver: str) -> None:
        async def main() -> None:
            engine = create_async_engine(
                orders.database.dsn.replace("postgresql://", f"postgresql+{driver}://", 1)
            )
            async with AsyncSession(engine) as session:
                order = Order(id=7)
                session.add(order)
                await audit_toolkit.record("order.placed", row=order)
                await audit_toolkit.record("night.began", on=session)
                await session.commit()
            await engine.dispose()

        with asyncio.Runner(
            loop_factory=lambda: asyncio.SelectorEventLoop(selectors.DefaultSelector())
        ) as runner:
            runner.run(main())
        assert [key for _, key, *_ in told(orders)] == ["7", None]

    def test_an_async_connection(self, orders: Trail) -> None:
        async def main() -> None:
            connection = await psycopg.AsyncConnection.connect(orders.database.dsn)
            async with connection:
                await audit_toolkit.record("e", table="orders", key=1, on=connection)

        with asyncio.Runner() as runner:
            runner.run(main())
        assert told(orders) == [("orders", "1", "e", None)]

    def test_nothing_of_a_session_that_rolls_back(self, orders: Trail, engine: Engine) -> None:
        with Session(engine) as session:
            session.execute(text("insert into orders values (1)"))
            audit_toolkit.record("e", on=session)
            session.rollback()
        assert orders.events() == []

    def test_what_cannot_be_recorded(self, orders: Trail) -> None:
        for arguments in (
            {},
            {"on": object()},
            {"row": object()},
            {"row": Order(id=1)},
            {"on": orders.connection, "key": 1},
            {"row": Order(id=1), "table": "orders"},
        ):
            with pytest.raises(ContextError):
                audit_toolkit.record("e", **arguments)
        with pytest.raises(UsageError):
            verbs.history(orders.connection, "orders", "x")

    def test_what_postgresql_cannot_store_leaves_the_transaction_as_it_is(
        self, orders: Trail
    ) -> None:
        circle: list[Any] = []
        circle.append(circle)
        deep: list[Any] = []
        for _ in range(5000):
            deep = [deep]
        payloads = (float("nan"), {"a": "\0"}, {"\0": 1}, "\ud800", {(1, 2): 1}, circle, deep)
        with orders.database.connect() as connection, connection.transaction():
            audit_toolkit.record("e", {"a": "\\u0000"}, on=connection)
            for payload in payloads:
                with pytest.raises(ContextError, match="payload of the event 'e'"):
                    audit_toolkit.record("e", payload, on=connection)
            for name, key in (("e\0", None), ("\ud800", None), ("e", "x\0")):
                with pytest.raises(ContextError, match="not text that PostgreSQL can store"):
                    audit_toolkit.record(name, table="orders", key=key, on=connection)
        assert [e["new_row"]["payload"] for e in orders.events()] == [{"a": "\\u0000"}]
