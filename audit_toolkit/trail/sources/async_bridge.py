"""psycopg's async connection in the shape of its sync one, so that the verbs exist once.

psycopg makes its sync classes from its async ones by leaving out every `await`. Here each is put
back: code that cannot await runs in a greenlet (`greenlet_spawn`), and whatever it would have to
await is handed to the event loop, which goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.util import await_only

if TYPE_CHECKING:
    import psycopg

_END = object()


def in_sync_shape(connection: psycopg.AsyncConnection[Any]) -> psycopg.Connection[Any]:
    """The connection for code that knows no `await`; to be used inside of `greenlet_spawn` only.

    It is the same connection, with its cursors, its transaction and its errors. A statement that is
    cancelled with its task is cancelled on the server, and raises `CancelledError` from where it
    was called, so that transactions around it end as they do after any error.
    """
    return cast("psycopg.Connection[Any]", _Awaited(connection))


def sleep(seconds: float) -> None:
    """Wait while the event loop goes on; inside of `greenlet_spawn` only."""
    await_only(asyncio.sleep(seconds))


class _Awaited:
    """An object of psycopg's async side: a connection, a cursor, a transaction, a COPY."""

    __slots__ = ("_target",)

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "_target", target)

    def __getattr__(self, name: str) -> Any:
        if name == "close" and inspect.isasyncgen(self._target):
            name = "aclose"
        value = getattr(self._target, name)
        return partial(_call, value) if inspect.ismethod(value) else value

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._target, name, value)

    def __enter__(self) -> Any:
        return _call(self._target.__aenter__)

    def __exit__(self, *raised: object) -> Any:
        return _call(self._target.__aexit__, *raised)

    def __iter__(self) -> Iterator[Any]:
        if hasattr(self._target, "itersize"):  # a cursor on the server: one wait for a page
            while rows := await_only(self._target.fetchmany(self._target.itersize)):
                yield from rows
            return
        items = aiter(self._target)
        while (item := await_only(anext(items, _END))) is not _END:
            yield item


def _call(method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    result = method(*arguments, **options)
    if inspect.isawaitable(result):
        result = await_only(result)
    is_async = hasattr(result, "__aenter__") or hasattr(result, "__aiter__")
    return _Awaited(result) if is_async else result
