"""How a verb is called: through any connection or session, sync or async, and written once.

With a sync source a verb returns what its function does. With an async one its result is to be
awaited, and what is read row by row becomes a context manager: the transaction that a stream holds
has to end where the reader leaves. An `async for` that is left early would be closed by the event
loop, some time later, and take with it what the application has written in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, wraps
from importlib import import_module
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from audit_toolkit.errors import MissingExtraError
from audit_toolkit.tracing import span, traced
from audit_toolkit.trail.sources.session import AsyncSource, Source, is_async, psycopg_connection

if TYPE_CHECKING:
    import psycopg

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_END: Any = object()


class Verb(Protocol[P, T_co]):
    """A question or an act: its result, to be awaited where the source is async."""

    @overload
    def __call__(self, source: Source, /, *args: P.args, **kwargs: P.kwargs) -> T_co: ...
    @overload
    def __call__(
        self, source: AsyncSource, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T_co]: ...


class StreamVerb(Protocol[P, T_co]):
    """What is read row by row: a generator, or a context manager where the source is async."""

    @overload
    def __call__(
        self, source: Source, /, *args: P.args, **kwargs: P.kwargs
    ) -> Generator[T_co, None, None]: ...
    @overload
    def __call__(
        self, source: AsyncSource, /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractAsyncContextManager[AsyncIterator[T_co]]: ...


def verb(function: Callable[Concatenate[psycopg.Connection[Any], P], T]) -> Verb[P, T]:
    """Let a function of a psycopg connection take any source."""

    @wraps(function)
    def call(connection: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        def act() -> T:
            with span(f"trail.{function.__name__}"):
                return function(psycopg_connection(connection), *args, **kwargs)

        return greenlet_spawn()(act) if is_async(connection) else act()

    return cast("Verb[P, T]", call)


def stream_verb(
    function: Callable[Concatenate[psycopg.Connection[Any], P], Generator[T, None, None]],
) -> StreamVerb[P, T]:
    """Let a generator function of a psycopg connection take any source."""

    @wraps(function)
    def call(connection: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        def begin() -> Generator[T, None, None]:
            items = function(psycopg_connection(connection), *args, **kwargs)
            return traced(f"trail.{function.__name__}", items)

        return _opened(begin) if is_async(connection) else begin()

    return cast("StreamVerb[P, T]", call)


@asynccontextmanager
async def _opened(begin: Callable[[], Generator[T, None, None]]) -> AsyncIterator[AsyncIterator[T]]:
    items = await greenlet_spawn()(begin)
    try:
        yield _Items(items)
    finally:
        await greenlet_spawn()(items.close)


class _Items(AsyncIterator[T], Generic[T]):
    def __init__(self, items: Generator[T, None, None]) -> None:
        self._items = items

    async def __anext__(self) -> T:
        item: T = await greenlet_spawn()(lambda: next(self._items, _END))
        if item is _END:
            raise StopAsyncIteration
        return item


@cache
def greenlet_spawn() -> Callable[..., Coroutine[Any, Any, Any]]:
    """SQLAlchemy's `greenlet_spawn`, or a `MissingExtraError`."""
    try:
        import_module("greenlet")  # an extra of SQLAlchemy's
    except ImportError as error:
        raise MissingExtraError(
            "async connections need the package greenlet",
            hint="pip install 'audit-toolkit[asyncio]'",
        ) from error
    from sqlalchemy import util

    return util.greenlet_spawn
