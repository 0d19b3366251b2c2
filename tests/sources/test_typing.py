"""What a type checker knows of the verbs: mypy reads this file, and it is run as well.

An `ignore` that mypy has no error for is itself an error, so each says what must not pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, closing
from typing import Any, assert_type

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from audit_toolkit import trail as verbs
from audit_toolkit.trail import Difference, Event, Origin, Selection, Subject, Undo
from audit_toolkit.trail.event import Row
from tests.plugins.drivers import async_engine, run
from tests.plugins.trail import Trail
from tests.timetravel.words import now


def test_sync(orders: Trail, engine: Engine) -> None:
    moment = now(orders)
    with Session(engine) as session, engine.connect() as connection:
        assert_type(verbs.history(session, "orders", 1, limit=20), list[Event])
        assert_type(verbs.history(connection, "orders"), list[Event])
        assert_type(verbs.history(orders.connection, "orders"), list[Event])
        assert_type(verbs.row_at(session, "orders", 1, moment), Row | None)
        assert_type(verbs.blame(session, "orders", 1), list[Origin])
        assert_type(verbs.find_subject(session, "orders"), Subject)
        assert_type(verbs.plan_restore(session, "orders", 1, at=moment), Undo)
        with closing(verbs.table_at(session, "orders", moment)) as rows:
            assert_type(rows, Generator[Row, None, None])
            assert_type(next(rows), Row)


def test_async(orders: Trail) -> None:
    moment, event_ids = now(orders), (orders.events()[4]["event_id"],)

    async def main() -> None:
        dsn = orders.database.dsn
        async with (
            async_engine(dsn, "psycopg") as engine,
            AsyncSession(engine) as session,
            engine.connect() as connection,
            await psycopg.AsyncConnection.connect(dsn) as plain,
        ):
            asked = verbs.history(session, "orders", 1)
            asked = assert_type(asked, Coroutine[Any, Any, list[Event]])
            assert_type(await asked, list[Event])
            assert_type(await verbs.history(connection, "orders"), list[Event])
            assert_type(await verbs.history(plain, "orders"), list[Event])
            assert_type(await verbs.row_at(plain, "orders", 1, moment), Row | None)
            assert_type(await verbs.apply_revert(session, Selection(event_ids=event_ids)), Undo)
            await session.rollback()
            table = verbs.table_at(session, "orders", moment)
            assert_type(table, AbstractAsyncContextManager[AsyncIterator[Row]])
            async with table as rows:
                assert_type([row async for row in rows], list[Row])
            async with verbs.diff(
                plain, "orders", orders.events()[0]["action_tstamp"], moment
            ) as d:
                assert_type([difference async for difference in d], list[Difference])

    run(main())


def test_what_must_not_pass(orders: Trail) -> None:
    moment = now(orders)
    with pytest.raises(TypeError, match="unexpected keyword argument 'limt'"):
        verbs.history(orders.connection, "orders", limt=20)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'at'"):
        verbs.row_at(orders.connection, "orders", 1)  # type: ignore[call-overload]

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(orders.database.dsn) as connection:
            with pytest.warns(RuntimeWarning, match="never awaited"):
                verbs.row_at(connection, "orders", 1, moment)  # type: ignore[unused-coroutine]
            with pytest.raises(TypeError, match="async for"):
                async for _ in verbs.table_at(connection, "orders", moment):  # type: ignore[attr-defined]
                    pass

    run(main())
