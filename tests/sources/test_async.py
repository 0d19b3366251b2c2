"""What only async code can do to a verb: cancel it, run two at once, fail in the middle."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator
from threading import Timer
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import text
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)

import audit_toolkit
from audit_toolkit import trail as verbs
from audit_toolkit.errors import MissingExtraError, UsageError
from audit_toolkit.trail import Selection
from audit_toolkit.trail.sources import dispatch
from audit_toolkit.trail.sources.dispatch import stream_verb
from audit_toolkit.trail.sources.session import pause
from tests.plugins.database import Connection
from tests.plugins.drivers import async_engine, run
from tests.plugins.trail import Trail
from tests.timetravel.words import now

WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


async def until_it_waits(trail: Trail) -> None:
    """Until a session of the database waits for a lock."""
    while trail.execute(WAITING) == [(0,)]:
        await asyncio.sleep(0.005)


def lock_trail(trail: Trail) -> Connection:
    """A connection that keeps everybody from reading the trail, until it is closed."""
    blocker = trail.database.connect(autocommit=False)
    blocker.execute("lock table audit.logged_actions in access exclusive mode")
    return blocker


async def is_sound(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the transaction of before goes on, with its settings and without cursors of ours."""
    cursor = await connection.execute("""
        select current_setting('timezone'), (select count(*) from pg_cursors where name like 'audit%'),
            (select count(*) from mine)
    """)
    return await cursor.fetchone() == ("Asia/Tokyo", 0, 1)


async def begin(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute("create temporary table mine (id int) on commit drop")
    await connection.execute("insert into mine values (1)")
    await connection.execute("set local timezone = 'Asia/Tokyo'")


async def read_table(connection: Any, trail: Trail) -> None:
    async with verbs.table_at(connection, "orders", now(trail)) as rows:
        async for _ in rows:
            pass


async def read_history(connection: Any, _trail: Trail) -> None:
    await verbs.history(connection, "orders", 1)


@pytest.mark.parametrize("read", [read_table, read_history])
@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_verb_that_is_cancelled_leaves_the_transaction_sound(
    orders: Trail, read: Callable[[Any, Trail], Awaitable[None]], how: str
) -> None:
    async def interrupted(connection: psycopg.AsyncConnection[Any]) -> None:
        async with connection.transaction():  # the savepoint that a failed statement goes back to
            if how == "timeout":
                async with asyncio.timeout(0.2):
                    await read(connection, orders)
            task = asyncio.ensure_future(read(connection, orders))
            await until_it_waits(orders)
            task.cancel()
            await task

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(orders.database.dsn) as connection:
            await begin(connection)
            blocker = lock_trail(orders)
            with pytest.raises((asyncio.CancelledError, TimeoutError)):
                await interrupted(connection)
            blocker.close()
            assert await is_sound(connection)
            await read(connection, orders)

    run(main())


def test_cancelled_between_two_rows(orders: Trail) -> None:
    orders.execute("insert into orders select g, 'new', 0 from generate_series(10, 1209) g")
    seen: list[int] = []

    async def read(connection: psycopg.AsyncConnection[Any]) -> None:
        async with verbs.table_at(connection, "orders", now(orders)) as rows:
            async for row in rows:
                seen.append(row["id"])
                if len(seen) == 700:
                    await asyncio.Event().wait()

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(orders.database.dsn) as connection:
            await begin(connection)
            task = asyncio.ensure_future(read(connection))
            while len(seen) < 700:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await is_sound(connection)

    run(main())


def test_an_undo_that_is_cancelled_changes_nothing(orders: Trail) -> None:
    selection = Selection(event_ids=(orders.events()[3]["event_id"],))
    blocker = orders.database.connect(autocommit=False)
    blocker.execute("select from orders where id = 1 for update")

    async def main() -> None:
        async with (
            async_engine(orders.database.dsn, "psycopg") as engine,
            AsyncSession(engine) as session,
        ):
            await session.execute(text("create temporary table mine (id int)"))
            await session.execute(text("insert into mine values (1)"))
            task = asyncio.ensure_future(verbs.apply_revert(session, selection))
            await until_it_waits(orders)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await session.scalars(text("select id from mine"))).all() == [1]
            blocker.close()
            assert (await verbs.apply_revert(session, selection)).rows == 1
            await session.rollback()

    run(main())
    assert orders.execute("select total from orders") == [(5,)]


def test_an_error_of_the_reader_ends_the_stream(orders: Trail) -> None:
    async def fail(connection: psycopg.AsyncConnection[Any]) -> None:
        async with verbs.table_at(connection, "orders", now(orders)) as rows:
            async for _ in rows:
                await connection.execute("select 1/0")

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(orders.database.dsn) as connection:
            await begin(connection)
            with pytest.raises(errors.DivisionByZero):
                await fail(connection)
            assert await is_sound(connection)

    run(main())


def test_others_run_while_a_verb_waits(orders: Trail) -> None:
    async def main() -> None:
        dsn = orders.database.dsn
        async with (
            await psycopg.AsyncConnection.connect(dsn) as first,
            await psycopg.AsyncConnection.connect(dsn, autocommit=True) as second,
        ):
            await first.execute("select from orders where id = 1 for update")
            selection = Selection(event_ids=(orders.events()[3]["event_id"],))
            waiting = asyncio.ensure_future(verbs.apply_revert(second, selection))
            await until_it_waits(orders)
            assert len(await verbs.history(first, "orders", 1)) == 3
            assert not waiting.done()
            await first.rollback()
            assert (await waiting).rows == 1

    run(main())
    assert len(orders.events()) == 6


def test_streams_on_two_connections_take_turns(orders: Trail) -> None:
    orders.execute("insert into orders select g, 'new', 0 from generate_series(10, 1209) g")

    async def count(connection: psycopg.AsyncConnection[Any]) -> int:
        async with verbs.table_at(connection, "orders", now(orders)) as rows:
            return sum([1 async for _ in rows])

    async def main() -> tuple[int, int]:
        dsn = orders.database.dsn
        async with (
            await psycopg.AsyncConnection.connect(dsn) as first,
            await psycopg.AsyncConnection.connect(dsn) as second,
        ):
            return await asyncio.gather(count(first), count(second))

    assert tuple(run(main())) == (1201, 1201)


@stream_verb
def watch(connection: psycopg.Connection[Any], sign: list[str]) -> Generator[str, None, None]:
    """A verb that waits for what happens in another task."""
    while not sign:
        pause(connection, 0.001)
    yield sign[0]


def test_a_verb_that_pauses_lets_others_run(orders: Trail) -> None:
    sign: list[str] = []

    async def main() -> None:
        async with (
            await psycopg.AsyncConnection.connect(orders.database.dsn) as connection,
            watch(connection, sign) as signs,
        ):
            asyncio.get_running_loop().call_later(0.01, sign.append, "seen")
            assert [sign async for sign in signs] == ["seen"]

    run(main())
    sign.clear()
    Timer(0.01, sign.append, ["seen"]).start()
    assert list(watch(orders.connection, sign)) == ["seen"]


def test_a_stream_is_no_async_iterator_by_itself(orders: Trail) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(orders.database.dsn) as connection:
            stream: Any = verbs.table_at(connection, "orders", now(orders))
            with pytest.raises(TypeError, match="async for"):
                async for _ in stream:
                    pass

    run(main())


def test_a_scoped_session_and_run_sync(orders: Trail) -> None:
    async def main() -> None:
        async with async_engine(orders.database.dsn, "psycopg") as engine:
            sessions = async_scoped_session(
                async_sessionmaker(engine), scopefunc=asyncio.current_task
            )
            assert len(await verbs.history(sessions, "orders", 1)) == 3
            found = await sessions().run_sync(lambda s: verbs.history(s, "orders", 1))
            assert len(found) == 3
            await sessions.remove()

    run(main())


@pytest.mark.parametrize("attached", ["pipeline", "statement", "eager", None])
def test_an_undo_carries_the_context_whatever_attach_does(orders: Trail, attached: Any) -> None:
    deleted, updated = (orders.events()[place]["event_id"] for place in (4, 3))

    async def main() -> None:
        async with async_engine(orders.database.dsn, "psycopg") as engine:
            if attached:
                audit_toolkit.attach(engine, strategy=attached)
            async with AsyncSession(engine) as session:
                with audit_toolkit.context(actor="user:42"):
                    for event in (deleted, updated):
                        await verbs.apply_revert(session, Selection(event_ids=(event,)))
                with audit_toolkit.context(actor="user:43"):
                    await session.execute(text("update orders set status = 'sent'"))
                    await session.commit()

    run(main())
    back, changed, *sent = (event["context"] for event in orders.events()[5:])
    assert back == {"actor": "user:42", "reverts": {"events": [deleted]}}
    assert changed == {"actor": "user:42", "reverts": {"events": [updated]}}
    if attached:
        assert sent == [{"actor": "user:43"}] * 2


def test_in_a_pipeline_verbs_do_what_they_do_in_a_sync_one(orders: Trail) -> None:
    dsn, moment = orders.database.dsn, now(orders)
    with psycopg.connect(dsn) as sync, sync.pipeline():
        expected = verbs.row_at(sync, "orders", 1, moment)
        with pytest.raises(psycopg.NotSupportedError) as refused:
            next(verbs.table_at(sync, "orders", moment))

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as connection, connection.pipeline():
            assert await verbs.row_at(connection, "orders", 1, moment) == expected
            with pytest.raises(psycopg.NotSupportedError) as as_well:
                await read_table(connection, orders)
            assert str(as_well.value) == str(refused.value)

    run(main())


@pytest.mark.parametrize("through", ["session", "connection"])
def test_asyncpg_is_refused_with_what_to_do(orders: Trail, through: str) -> None:
    async def main() -> None:
        async with async_engine(orders.database.dsn, "asyncpg") as engine:
            source = AsyncSession(engine) if through == "session" else engine.connect()
            async with source as opened:
                with pytest.raises(UsageError, match="psycopg 3, not with asyncpg") as refused:
                    await verbs.history(opened, "orders", 1)
        assert "postgresql+psycopg://" in (refused.value.hint or "")

    run(main())


def test_what_is_no_source(orders: Trail) -> None:
    async def main() -> None:
        async with async_engine(orders.database.dsn, "psycopg") as engine:
            unopened: AsyncConnection = engine.connect()
            with pytest.raises(UsageError, match="through AsyncConnection") as refused:
                await verbs.history(unopened, "orders", 1)
            assert "open" in (refused.value.hint or "")
            nothing: Any = engine
            with pytest.raises(UsageError, match="through AsyncEngine"):
                verbs.history(nothing, "orders", 1)

    run(main())


def test_without_greenlet_the_error_names_the_extra(
    orders: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(orders.database.dsn) as connection:
            monkeypatch.setitem(sys.modules, "greenlet", None)
            dispatch.greenlet_spawn.cache_clear()
            with pytest.raises(MissingExtraError) as missing:
                await verbs.history(connection, "orders", 1)
            assert missing.value.hint == "pip install 'audit-toolkit[asyncio]'"

    run(main())
    dispatch.greenlet_spawn.cache_clear()


def test_a_tail_leaves_the_event_loop_to_others(orders: Trail) -> None:
    async def main() -> None:
        address = orders.database.dsn
        async with (
            await psycopg.AsyncConnection.connect(address, autocommit=True) as connection,
            await psycopg.AsyncConnection.connect(address, autocommit=True) as writer,
            verbs.follow(connection, "orders", limit=1) as batches,
        ):
            written: asyncio.Task[Any] | None = None
            async for batch in batches:
                if any(event.row_key == "77" for event in batch.events):
                    break
                if not batch.events and written is None:  # it waits, and the loop goes on
                    insert = writer.execute("insert into orders values (77, 'new', 0)")
                    written = asyncio.ensure_future(insert)
            assert written is not None
            await written

    run(main())


def test_a_tail_through_a_session_would_never_see_anything(orders: Trail) -> None:
    async def main() -> None:
        async with (
            async_engine(orders.database.dsn, "psycopg") as engine,
            AsyncSession(engine) as session,
            verbs.follow(session, "orders") as batches,
        ):
            await anext(batches)

    with pytest.raises(UsageError, match="cannot run inside a transaction"):
        run(main())
