"""The six ways in which an application reaches the trail, each behind the same few words."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, closing
from contextvars import copy_context
from itertools import islice
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.plugins.drivers import selector_loop, url
from tests.plugins.trail import Trail

KINDS = ("psycopg", "Session", "Connection", "async psycopg", "AsyncSession", "AsyncConnection")


class Source(ABC):
    """A connection or session, and what a test does with it."""

    source: Any

    @abstractmethod
    def ask(self, verb: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """The answer of a verb."""

    @abstractmethod
    def first(self, number: int | None, verb: Callable[..., Any], *args: Any) -> list[Any]:
        """The first rows of a verb that streams, left there; all of them for None."""

    @abstractmethod
    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run SQL as the application does."""

    @abstractmethod
    def end(self, how: str) -> None:
        """Commit or roll back as the application does."""


class SyncSource(Source):
    def __init__(self, source: Any) -> None:
        self.source = source

    def ask(self, verb: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return verb(self.source, *args, **options)

    def first(self, number: int | None, verb: Callable[..., Any], *args: Any) -> list[Any]:
        with closing(verb(self.source, *args)) as rows:
            return list(islice(rows, number))

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        return rows_of(self.source.execute(as_query(self.source, sql)))

    def end(self, how: str) -> None:
        getattr(self.source, how)()


class AsyncSource(Source):
    def __init__(self, source: Any, runner: asyncio.Runner) -> None:
        self.source = source
        self.runner = runner

    def ask(self, verb: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self._run(verb(self.source, *args, **options))

    def first(self, number: int | None, verb: Callable[..., Any], *args: Any) -> list[Any]:
        found: list[Any] = self._run(take(verb(self.source, *args), number))
        return found

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        async def fetch() -> list[tuple[Any, ...]]:
            result = await self.source.execute(as_query(self.source, sql))
            if isinstance(result, psycopg.AsyncCursor):
                return await result.fetchall() if result.description else []
            return rows_of(result)

        found: list[tuple[Any, ...]] = self._run(fetch())
        return found

    def end(self, how: str) -> None:
        self._run(getattr(self.source, how)())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        # Not in the runner's own context, which began with the fixture.
        return self.runner.run(work, context=copy_context())


async def take(stream: Any, number: int | None) -> list[Any]:
    """The first rows of an async stream, which is left there."""
    found: list[Any] = []
    async with stream as rows:
        async for row in rows:
            found.append(row)
            if len(found) == number:
                break
    return found


def as_query(source: Any, sql: str) -> Any:
    return sql if isinstance(source, psycopg.Connection | psycopg.AsyncConnection) else text(sql)


def rows_of(result: Any) -> list[tuple[Any, ...]]:
    if isinstance(result, psycopg.Cursor):
        return result.fetchall() if result.description else []
    return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture
def orders(trail: Trail) -> Trail:
    """An order that was changed twice, one that was deleted, and a customer."""
    trail.execute("create table orders (id int primary key, status text, total numeric)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'new', 1.10), (2, 'new', 2)")
    trail.execute("update orders set status = 'paid' where id = 1")
    trail.execute("update orders set total = 5 where id = 1")
    trail.execute("delete from orders where id = 2")
    return trail


@pytest.fixture
def engine(orders: Trail) -> Iterator[Engine]:
    """An engine of the shop, on psycopg."""
    engine = create_engine(url(orders.database.dsn))
    yield engine
    engine.dispose()


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, orders: Trail) -> Iterator[Source]:
    """One of the six, open, with no transaction begun."""
    with ExitStack() as stack:
        dsn = orders.database.dsn
        yield (open_async if request.param.lower().startswith("async") else open_sync)(
            request.param, dsn, stack
        )


def open_sync(kind: str, dsn: str, stack: ExitStack) -> Source:
    if kind == "psycopg":
        return SyncSource(stack.enter_context(psycopg.connect(dsn)))
    engine = create_engine(url(dsn))
    stack.callback(engine.dispose)
    opened: Any = Session(engine) if kind == "Session" else engine.connect()
    return SyncSource(stack.enter_context(opened))


def open_async(kind: str, dsn: str, stack: ExitStack) -> Source:
    runner = stack.enter_context(asyncio.Runner(loop_factory=selector_loop))
    closing_async = AsyncExitStack()

    async def open_() -> Any:
        if kind == "async psycopg":
            connection = await psycopg.AsyncConnection.connect(dsn)
            return await closing_async.enter_async_context(connection)
        engine = create_async_engine(url(dsn))
        closing_async.push_async_callback(engine.dispose)
        opened: Any = AsyncSession(engine) if kind == "AsyncSession" else engine.connect()
        return await closing_async.enter_async_context(opened)

    stack.callback(lambda: runner.run(closing_async.aclose()))
    return AsyncSource(runner.run(open_()), runner)
