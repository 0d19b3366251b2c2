"""SQLAlchemy 2: engines and sessions, sync and async, with every strategy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import audit_toolkit
from audit_toolkit.errors import ContextError
from tests.context.conftest import Shop
from tests.plugins.drivers import async_engine, run

INSERT = text("insert into orders (note) values (:note)")
SEEN = text("select nullif(current_setting('audit.context', true), '')")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str]


@pytest.fixture(params=["pipeline", "statement", "eager"])
def engine(make_engine: Callable[..., Engine], request: pytest.FixtureRequest) -> Engine:
    """An engine that carries the context."""
    engine = make_engine()
    audit_toolkit.attach(engine, strategy=request.param)
    audit_toolkit.attach(engine, strategy=request.param)  # again does nothing
    return engine


def test_the_orm(shop: Shop, engine: Engine) -> None:
    with audit_toolkit.context(actor="a"), Session(engine) as session:
        order = Order(note="one")
        session.add_all([order, Order(note="two"), Order(note="three")])
        session.commit()
        audit_toolkit.set_actor("b")
        order.note = "ONE"
        session.flush()
        session.execute(update(Order).where(Order.note == "two").values(note="TWO"))
        session.commit()
    assert shop.actors() == [("one", "a"), ("two", "a"), ("three", "a"), ("ONE", "b"), ("TWO", "b")]


def test_core_executemany_and_returning(shop: Shop, engine: Engine) -> None:
    with audit_toolkit.context(actor="a"), engine.begin() as connection:
        connection.execute(INSERT, [{"note": "one"}, {"note": "two"}])
        returned = connection.execute(
            insert(Order).returning(Order.id), [{"note": "three"}, {"note": "four"}]
        )
        assert returned.scalars().all() == [3, 4]
        assert connection.execute(update(Order).values(note=Order.note + "!")).rowcount == 4
    assert {actor for _, actor in shop.actors()} == {"a"}
    assert len(shop.actors()) == 8


def test_the_actor_may_come_late_and_change(shop: Shop, engine: Engine) -> None:
    with audit_toolkit.context(), engine.begin() as connection:
        connection.execute(text("select 1"))
        audit_toolkit.set_actor("a")
        connection.execute(INSERT, {"note": "one"})
        with audit_toolkit.context(actor="b"):
            connection.execute(INSERT, {"note": "two"})
        connection.execute(INSERT, {"note": "three"})
    with engine.begin() as connection:
        connection.execute(INSERT, {"note": "four"})
        with audit_toolkit.context(actor="c"):
            connection.execute(INSERT, {"note": "five"})
        connection.execute(INSERT, {"note": "six"})
    actors = ["a", "b", "a", None, "c", None]
    assert [actor for _, actor in shop.actors()] == actors


def test_savepoints_rollbacks_and_errors(shop: Shop, engine: Engine) -> None:
    with audit_toolkit.context(actor="a"), engine.connect() as connection:
        nested = connection.begin_nested()
        connection.execute(INSERT, {"note": "undone"})
        nested.rollback()
        connection.execute(INSERT, {"note": "one"})
        with pytest.raises(IntegrityError) as caught, connection.begin_nested():
            connection.execute(INSERT, {"note": "one"})
        assert "orders_note_key" in str(caught.value.orig)
        connection.execute(INSERT, {"note": "two"})
        connection.commit()
        connection.execute(INSERT, {"note": "undone"})
        connection.rollback()
        connection.execute(text("savepoint s"))
        connection.execute(INSERT, {"note": "undone"})
        connection.execute(text("rollback to savepoint s"))
        connection.execute(INSERT, {"note": "three"})
        connection.commit()
    assert shop.actors() == [("one", "a"), ("two", "a"), ("three", "a")]


def test_a_connection_opened_before_carries_it_too(
    shop: Shop, make_engine: Callable[..., Engine]
) -> None:
    engine = make_engine()
    engine.connect().close()
    audit_toolkit.attach(engine)
    with audit_toolkit.context(actor="a"), engine.begin() as connection:
        connection.execute(INSERT, {"note": "one"})
    assert shop.actors() == [("one", "a")]


def test_only_eager_reaches_functions_that_write(shop: Shop, engine: Engine) -> None:
    with audit_toolkit.context(actor="a"), engine.begin() as connection:
        eager = connection.scalar(SEEN) is not None
        connection.execute(text("select order_by_phone('one')"))
    assert shop.actors() == [("one", "a" if eager else None)]


def test_apply_context(shop: Shop, engine: Engine) -> None:
    with audit_toolkit.context(actor="a"):
        with engine.begin() as connection:
            audit_toolkit.apply_context(connection)
            connection.execute(text("select order_by_phone('one')"))
        with Session(engine) as session:
            session.execute(INSERT, {"note": "two"})
            with audit_toolkit.context(actor="b"):
                audit_toolkit.apply_context(session)
                session.execute(text("select order_by_phone('three')"))
            session.execute(INSERT, {"note": "four"})
            session.commit()
    assert shop.actors() == [("one", "a"), ("two", "a"), ("three", "b"), ("four", "a")]


def test_raw_driver_cursors_need_apply_context(shop: Shop, engine: Engine) -> None:
    with audit_toolkit.context(actor="a"), engine.begin() as connection:
        audit_toolkit.apply_context(connection)
        cursor = connection.connection.cursor()
        cursor.execute("insert into orders (note) values ('one')")
    assert shop.actors() == [("one", "a")]


def test_autocommit(shop: Shop, make_engine: Callable[..., Engine]) -> None:
    pipelined = make_engine(isolation_level="AUTOCOMMIT")
    audit_toolkit.attach(pipelined)
    with audit_toolkit.context(actor="a"), pipelined.connect() as connection:
        connection.execute(INSERT, {"note": "one"})
        with pytest.raises(ContextError, match="in autocommit"):
            audit_toolkit.apply_context(connection)
    assert shop.actors() == [("one", "a")]

    refusing = make_engine(isolation_level="AUTOCOMMIT")
    audit_toolkit.attach(refusing, strategy="statement")
    with (
        audit_toolkit.context(actor="a"),
        refusing.connect() as connection,
        pytest.raises(ContextError, match="in autocommit this insert cannot carry"),
    ):
        connection.execute(INSERT, {"note": "two"})
    with refusing.connect() as connection:
        connection.execute(INSERT, {"note": "three"})
    assert shop.actors() == [("one", "a"), ("three", None)]


def test_engines_that_cannot() -> None:
    with pytest.raises(ContextError, match="for sqlite, not for PostgreSQL"):
        audit_toolkit.attach(create_engine("sqlite://"))
    engine = create_async_engine("postgresql+asyncpg://")
    with pytest.raises(ContextError, match="the driver asyncpg has no pipeline"):
        audit_toolkit.attach(engine, strategy="pipeline")


Work = Callable[[AsyncEngine], Awaitable[None]]


async def with_engine(shop: Shop, driver: str, work: Work, **options: Any) -> None:
    async with async_engine(shop.dsn, driver, **options) as engine:
        audit_toolkit.attach(engine)
        await work(engine)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_async_sessions(shop: Shop, driver: str) -> None:
    async def work(engine: AsyncEngine) -> None:
        with audit_toolkit.context():
            async with AsyncSession(engine) as session:
                await session.execute(text("select 1"))
                audit_toolkit.set_actor("a")
                session.add_all([Order(note="one"), Order(note="two")])
                await session.commit()
                with pytest.raises(IntegrityError):
                    await session.execute(INSERT, {"note": "one"})
                await session.rollback()
                nested = await session.begin_nested()
                await session.execute(INSERT, {"note": "undone"})
                await nested.rollback()
                await session.execute(INSERT, {"note": "three"})
                await session.commit()
                await session.execute(text("select 1"))
                await audit_toolkit.apply_context(session)
                await session.execute(text("select order_by_phone('four')"))
                await session.commit()
        async with engine.begin() as connection:
            await connection.execute(INSERT, {"note": "five"})
            with audit_toolkit.context(actor="b"):
                await audit_toolkit.apply_context(connection)
                await connection.execute(text("select order_by_phone('six')"))

    run(with_engine(shop, driver, work))
    actors = [("one", "a"), ("two", "a"), ("three", "a"), ("four", "a"), ("five", None)]
    assert shop.actors() == [*actors, ("six", "b")]


def test_asyncpg_in_autocommit_is_refused(shop: Shop) -> None:
    async def work(engine: AsyncEngine) -> None:
        with audit_toolkit.context(actor="a"):
            async with engine.connect() as connection:
                with pytest.raises(ContextError, match="in autocommit this insert"):
                    await connection.execute(INSERT, {"note": "one"})

    run(with_engine(shop, "asyncpg", work, isolation_level="AUTOCOMMIT"))


def test_asyncpg_alone(shop: Shop) -> None:
    async def work() -> None:
        import asyncpg  # type: ignore[import-untyped]

        async with asyncpg.create_pool(shop.dsn, min_size=1) as pool, pool.acquire() as connection:
            with audit_toolkit.context(actor="a"):
                async with connection.transaction():
                    await audit_toolkit.apply_context(connection)
                    await connection.execute("insert into orders (note) values ('one')")
                with pytest.raises(ContextError, match="in autocommit"):
                    await audit_toolkit.apply_context(connection)
            await connection.execute("insert into orders (note) values ('two')")

    run(work())
    assert shop.actors() == [("one", "a"), ("two", None)]
