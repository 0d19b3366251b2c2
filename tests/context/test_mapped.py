"""The trail as a SQLAlchemy class."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, selectinload

import audit_toolkit
from audit_toolkit import LoggedAction, row_history
from audit_toolkit.trail.event import Action
from tests.context.conftest import Shop
from tests.plugins.drivers import async_engine, run

TABLES = """
    create schema store;
    create table store.parts (region text, number int, name text, primary key (region, number));
    create table store.days (id date primary key, name text);
    create table store.codes (id text primary key, name text);
"""


class Base(DeclarativeBase):
    metadata = MetaData(schema="store")


class Part(Base):
    __tablename__ = "parts"
    region: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    history: Mapped[list[LoggedAction]] = row_history(lambda: Part)


class Day(Base):
    __tablename__ = "days"
    id: Mapped[datetime.date] = mapped_column(primary_key=True)
    name: Mapped[str]
    history: Mapped[list[LoggedAction]] = row_history(lambda: Day)


class Code(Base):
    __tablename__ = "codes"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    history: Mapped[list[LoggedAction]] = row_history(lambda: Code)


@pytest.fixture
def engine(shop: Shop, make_engine: Callable[..., Engine]) -> Engine:
    """An engine of a shop with a store."""
    shop.database.execute(TABLES)
    for table in ("parts", "days", "codes"):
        shop.trail.audit(f"store.{table}")
    engine = make_engine()
    audit_toolkit.attach(engine)
    return engine


ROWS: list[Callable[[], Any]] = [
    lambda: Part(region="eu'\"", number=7, name="a"),
    lambda: Day(id=datetime.date(2026, 2, 3), name="a"),
    lambda: Code(id='q"uo\\te', name="a"),
]


@pytest.mark.parametrize("make_row", ROWS)
def test_a_row_has_its_history_and_no_other(engine: Engine, make_row: Callable[[], Any]) -> None:
    with Session(engine) as session, audit_toolkit.context(actor="a"):
        row = make_row()
        session.add_all([row, Part(region="us", number=7, name="x"), Code(id="7", name="x")])
        session.commit()
        row.name = "b"
        session.commit()
        session.delete(row)
        session.flush()
        events = row.history
        assert [event.action for event in events] == [Action.INSERT, Action.UPDATE, Action.DELETE]
        assert [(event.old_row or {}).get("name") for event in events] == [None, "a", "b"]


def test_histories_load_in_one_query(engine: Engine) -> None:
    with Session(engine) as session:
        session.add_all([Part(region="eu", number=number, name="a") for number in range(5)])
        session.commit()
        parts = session.scalars(select(Part).options(selectinload(Part.history))).all()
        assert [len(part.history) for part in parts] == [1] * 5


def test_every_column_is_typed(shop: Shop, engine: Engine) -> None:
    with Session(engine) as session, audit_toolkit.context(actor=42, reason="r", request_id="q"):
        session.add(Part(region="eu", number=1, name="a"))
        session.commit()
        event = session.scalars(select(LoggedAction)).one()
        assert (event.actor, event.reason, event.request_id) == ("42", "r", "q")
        assert event.new_row == {"region": "eu", "number": 1, "name": "a"}
        assert event.context == {"actor": 42, "reason": "r", "request_id": "q"}
        assert isinstance(event.transaction_id, int)
        assert event.action_tstamp.tzinfo is not None
        same = select(LoggedAction).where(LoggedAction.transaction_id == event.transaction_id)
        assert session.scalars(same).all() == [event]
        by_all = select(LoggedAction.event_id).where(
            LoggedAction.actor == "42",
            LoggedAction.reason == "r",
            LoggedAction.request_id == "q",
            LoggedAction.action == Action.INSERT,
        )
        assert session.scalars(by_all).all() == [event.event_id]
    columns = [column.key for column in inspect(LoggedAction).columns]
    in_table = "select attname from pg_attribute where attrelid = 'audit.logged_actions'::regclass"
    order = f"{in_table} and attnum > 0 order by attnum"
    assert columns == [name for (name,) in shop.database.execute(order)]


def test_it_reads_with_asyncpg_too(shop: Shop, engine: Engine) -> None:
    with Session(engine) as session, audit_toolkit.context(actor="a"):
        session.add(Part(region="eu", number=1, name=str(Decimal("1.50"))))
        session.commit()

    async def main() -> list[Any]:
        columns = LoggedAction.transaction_id, LoggedAction.actor, LoggedAction.client_addr
        async with (
            async_engine(shop.dsn, "asyncpg") as asynchronous,
            asynchronous.connect() as connection,
        ):
            return [tuple(row) for row in await connection.execute(select(*columns))]

    ((transaction, actor, _),) = run(main())
    assert isinstance(transaction, int)
    assert actor == "a"


def test_the_application_never_owns_it() -> None:
    assert "audit.logged_actions" not in Base.metadata.tables
    assert [table.name for table in LoggedAction.metadata.sorted_tables] == ["logged_actions"]
