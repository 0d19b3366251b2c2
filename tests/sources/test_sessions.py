"""Sessions of SQLAlchemy: what they hold, and transactions of every shape."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from audit_toolkit import trail as verbs
from audit_toolkit.trail import Selection
from tests.plugins.drivers import async_engine, run
from tests.plugins.trail import Trail


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    total: Mapped[Decimal]


FIRST = select(Order).where(Order.id == 1)


@pytest.fixture
def deleted(orders: Trail) -> Selection:
    """The event that deleted order 2."""
    return Selection(event_ids=(orders.events()[4]["event_id"],))


def ids(trail: Trail) -> list[int]:
    return [number for (number,) in trail.execute("select id from orders order by id")]


def test_what_was_not_flushed_is_seen(engine: Engine) -> None:
    with Session(engine) as session:
        order = session.scalars(FIRST).one()
        order.status = "sent"
        *_, event = verbs.history(session, "orders", 1)
        assert event.changed == {"status": ("paid", "sent")}
        order.status = "back"
        with session.no_autoflush:
            assert len(verbs.history(session, "orders", 1)) == 4
        assert len(verbs.history(session, "orders", 1)) == 5


def test_what_was_not_flushed_is_seen_by_async_code(orders: Trail) -> None:
    async def main() -> None:
        async with (
            async_engine(orders.database.dsn, "psycopg") as engine,
            AsyncSession(engine, expire_on_commit=False) as session,
        ):
            order = (await session.scalars(FIRST)).one()
            order.status = "sent"
            *_, event = await verbs.history(session, "orders", 1)
            assert event.changed == {"status": ("paid", "sent")}
            await verbs.apply_revert(session, Selection(event_ids=(event.event_id,)))
            await session.commit()
            assert order.status == "sent"
            await session.refresh(order)
            assert order.status == "paid"

    run(main())


def test_a_scoped_session(orders: Trail, engine: Engine, deleted: Selection) -> None:
    sessions = scoped_session(sessionmaker(engine))
    verbs.apply_revert(sessions, deleted)
    sessions.commit()
    sessions.remove()
    assert ids(orders) == [1, 2]


def test_a_savepoint_takes_it_back(orders: Trail, engine: Engine, deleted: Selection) -> None:
    with Session(engine) as session:
        session.execute(text("update orders set total = 9"))
        with session.begin_nested() as savepoint:
            verbs.apply_revert(session, deleted)
            savepoint.rollback()
        session.commit()
    assert orders.execute("select id, total from orders") == [(1, 9)]


def test_engine_begin_commits_it(orders: Trail, engine: Engine, deleted: Selection) -> None:
    with engine.begin() as connection:
        verbs.apply_revert(connection, deleted)
        assert ids(orders) == [1]
    assert ids(orders) == [1, 2]


def test_in_autocommit_it_is_a_transaction_of_its_own(
    orders: Trail, engine: Engine, deleted: Selection
) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        verbs.apply_revert(connection, deleted)
        assert ids(orders) == [1, 2]
    assert orders.events()[-1]["context"] == {"reverts": {"events": list(deleted.event_ids)}}


def test_reading_leaves_a_connection_that_the_pool_takes_back(engine: Engine) -> None:
    for _ in range(3):
        with engine.connect() as connection:
            assert len(verbs.history(connection, "orders", 1)) == 3
    assert engine.pool.status().count("Connections in pool: 1") == 1
