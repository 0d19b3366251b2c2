"""How tests reach a database by SQLAlchemy, and in an event loop."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

Result = TypeVar("Result")


def url(dsn: str, driver: str = "psycopg") -> str:
    """The address for SQLAlchemy with that driver."""
    return dsn.replace("postgresql://", f"postgresql+{driver}://", 1)


@asynccontextmanager
async def async_engine(dsn: str, driver: str, **options: Any) -> AsyncIterator[AsyncEngine]:
    """An async engine, disposed of at the end."""
    engine = create_async_engine(url(dsn, driver), **options)
    try:
        yield engine
    finally:
        await engine.dispose()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in an event loop of its own, one that psycopg takes on every system."""
    with asyncio.Runner(loop_factory=selector_loop) as runner:
        return runner.run(work)


def selector_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.DefaultSelector())
