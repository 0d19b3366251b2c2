"""The two doors: after `attach` every write carries the context, `apply_context` sends it now.

Neither psycopg nor SQLAlchemy is imported before an object of theirs is passed in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeGuard, overload

from audit_toolkit.attribution.connection_context import (
    SET_CONTEXT,
    SET_CONTEXT_AND_TELL,
    refuse_autocommit,
)
from audit_toolkit.attribution.current import current_document
from audit_toolkit.connection import is_a
from audit_toolkit.errors import ContextError

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy
    from sqlalchemy import orm
    from sqlalchemy.ext import asyncio


class AsyncpgConnection(Protocol):
    """A connection of asyncpg, which has no types of its own."""

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    async def execute(self, query: str, /, *args: Any) -> str:
        """Run one statement."""
        ...


Psycopg: TypeAlias = "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]"
Attachable: TypeAlias = "sqlalchemy.Engine | asyncio.AsyncEngine | Psycopg"
Applicable: TypeAlias = "sqlalchemy.Connection | orm.Session | psycopg.Connection[Any]"
AsyncApplicable: TypeAlias = (
    "asyncio.AsyncConnection | asyncio.AsyncSession | psycopg.AsyncConnection[Any]"
    " | AsyncpgConnection"
)


def attach(
    target: Attachable,
    *,
    strategy: Literal["pipeline", "statement", "eager"] | None = None,
    wal: bool = False,
) -> None:
    """Make every write through an engine or a psycopg connection carry the current context.

    The context is sent before the first write of a transaction, local to it; transactions that only
    read send nothing. With psycopg 3 it goes in the same round trip as the write; with other
    drivers of SQLAlchemy (asyncpg, …) it costs one more. `strategy` is for engines: `"pipeline"` or
    `"statement"` say which of the two, `"eager"` sends at the begin of each transaction. Attaching
    again does nothing. `wal` is for tables that are captured from the WAL: the context is written there, too, with
    the login, role, application and address, in the same round trip.

    Raises `ContextError` for anything else, and where the driver cannot do what `strategy` says. A
    write that cannot carry the context because it runs in autocommit raises it as well.
    """
    if engine := _engine(target):
        from audit_toolkit.attribution.engines import Strategy, attach_engine

        attach_engine(engine, None if strategy is None else Strategy(strategy), tells_wal=wal)
    elif _is_psycopg(target) and strategy in (None, "pipeline"):
        from audit_toolkit.attribution.cursors import attach_psycopg

        attach_psycopg(target, sees_all=False, tells_wal=wal)
    else:
        how = f" with strategy {strategy!r}" if strategy else ""
        raise ContextError(
            f"cannot attach to a {type(target).__name__}{how}",
            hint="attach to a SQLAlchemy Engine or AsyncEngine, or to a connection of psycopg 3",
        )


@overload
def apply_context(target: Applicable, *, wal: bool = False) -> None: ...
@overload
def apply_context(target: AsyncApplicable, *, wal: bool = False) -> Awaitable[None]: ...
def apply_context(target: Any, *, wal: bool = False) -> Awaitable[None] | None:
    """Send the current context now, for the rest of the transaction: one round trip.

    For what `attach` cannot see: raw driver cursors, SELECTs of functions that write, asyncpg's own
    pool. Takes connections and sessions of SQLAlchemy, and connections of psycopg and asyncpg; to
    be awaited for the async ones. `wal` is for tables that are captured from the WAL; what is
    attached with it need not be told again. Raises `ContextError` in autocommit, where it would be forgotten
    at once, and for anything else.
    """
    document = current_document()
    if is_a(target, "psycopg", "Connection"):
        _apply_psycopg(target, document, wal)
    elif is_a(target, "psycopg", "AsyncConnection"):
        return _apply_async_psycopg(target, document, wal)
    elif is_a(target, "asyncpg", "Connection") or is_a(
        target, "asyncpg.pool", "PoolConnectionProxy"
    ):
        return _apply_asyncpg(target, document, wal)
    elif run_sync := _run_sync(target):
        return run_sync(_apply_sqlalchemy, document, wal)
    elif is_a(target, "sqlalchemy.orm", "Session") or is_a(target, "sqlalchemy", "Connection"):
        _apply_sqlalchemy(target, document, wal)
    else:
        raise ContextError(
            f"cannot send the context through a {type(target).__name__}",
            hint="pass a connection or session of SQLAlchemy, or a connection of psycopg or "
            "asyncpg",
        )
    return None


def _engine(target: Any) -> sqlalchemy.Engine | None:
    if is_a(target, "sqlalchemy.ext.asyncio", "AsyncEngine"):
        target = target.sync_engine
    return target if is_a(target, "sqlalchemy", "Engine") else None


def _run_sync(target: Any) -> Callable[..., Awaitable[None]] | None:
    for name in ("AsyncConnection", "AsyncSession"):
        if is_a(target, "sqlalchemy.ext.asyncio", name):
            run: Callable[..., Awaitable[None]] = target.run_sync
            return run
    return None


def _is_psycopg(target: Any) -> TypeGuard[Psycopg]:
    return is_a(target, "psycopg", "Connection") or is_a(target, "psycopg", "AsyncConnection")


def _apply_psycopg(connection: psycopg.Connection[Any], document: str, wal: bool) -> None:
    from audit_toolkit.attribution import cursors

    cursors.prepare_to_apply(connection)
    cursors.plain_cursor(connection).execute(_statement(connection, wal), (document,))


def _statement(connection: Psycopg, wal: bool) -> str:
    from audit_toolkit.attribution import cursors

    link = cursors.link_of(connection)
    return SET_CONTEXT_AND_TELL if wal or (link and link.tells_wal) else SET_CONTEXT


async def _apply_async_psycopg(
    connection: psycopg.AsyncConnection[Any], document: str, wal: bool
) -> None:
    from audit_toolkit.attribution import cursors

    cursors.prepare_to_apply(connection)
    await cursors.plain_cursor(connection).execute(_statement(connection, wal), (document,))


async def _apply_asyncpg(connection: AsyncpgConnection, document: str, wal: bool) -> None:
    if not connection.is_in_transaction():
        raise refuse_autocommit("connection")
    statement = SET_CONTEXT_AND_TELL if wal else SET_CONTEXT
    await connection.execute(statement.replace("%s", "$1"), document)


def _apply_sqlalchemy(
    target: sqlalchemy.Connection | orm.Session, document: str, wal: bool
) -> None:
    from sqlalchemy import Connection

    from audit_toolkit.attribution.engines import say

    connection = target if isinstance(target, Connection) else target.connection()
    say(connection, document, wal=wal)
