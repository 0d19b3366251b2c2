"""From what an application has to the psycopg connection that the verbs of this package use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from audit_toolkit.connection import import_psycopg, is_a
from audit_toolkit.errors import UsageError

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy
    from sqlalchemy import orm
    from sqlalchemy.ext import asyncio

Source: TypeAlias = (
    "psycopg.Connection[Any] | sqlalchemy.Connection | orm.Session | orm.scoped_session[Any]"
)
AsyncSource: TypeAlias = (
    "psycopg.AsyncConnection[Any] | asyncio.AsyncConnection | asyncio.AsyncSession"
    " | asyncio.async_scoped_session[Any]"
)

_ASYNCIO = "sqlalchemy.ext.asyncio"
_ASYNC = (
    ("psycopg", "AsyncConnection"),
    (_ASYNCIO, "AsyncConnection"),
    (_ASYNCIO, "AsyncSession"),
    (_ASYNCIO, "async_scoped_session"),
)


def is_async(source: object) -> bool:
    """Whether it is one of `AsyncSource`."""
    return any(is_a(source, module, name) for module, name in _ASYNC)


def psycopg_connection(source: Source) -> psycopg.Connection[Any]:
    """The psycopg connection of a session or connection of SQLAlchemy; one of psycopg as it is.

    What the verbs change through it is part of SQLAlchemy's transaction, which is begun if it has
    not been: commit the session. A session is flushed first, as by its own queries, unless it has
    `autoflush=False`; what it holds is not expired.
    Raises `UsageError` for another driver than psycopg 3, and for anything else.
    """
    if isinstance(source, import_psycopg().Connection):
        return cast("psycopg.Connection[Any]", source)
    if is_a(source, "psycopg", "AsyncConnection"):
        return _in_sync_shape(source)
    connection = _sqlalchemy_connection(source)
    if not connection.in_transaction():
        connection.begin()  # SQLAlchemy commits only what it has begun
    return _begun(_driver_connection(connection))


def pause(connection: psycopg.Connection[Any], seconds: float) -> None:
    """Wait between two looks at the server. A verb that did so by itself would stop an event loop."""
    if isinstance(connection, import_psycopg().Connection):
        time.sleep(seconds)
    else:
        from audit_toolkit.trail.sources.async_bridge import sleep

        sleep(seconds)


def _sqlalchemy_connection(source: Any) -> sqlalchemy.Connection:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, scoped_session

    given = type(source).__name__
    if isinstance(source, scoped_session) or is_a(source, _ASYNCIO, "async_scoped_session"):
        source = source()
    if is_a(source, _ASYNCIO, "AsyncSession"):
        source = source.sync_session
    if is_a(source, _ASYNCIO, "AsyncConnection"):
        source = source.sync_connection
    if isinstance(source, Session):
        if source.autoflush:
            source.flush()
        source = source.connection()
    if not isinstance(source, Connection):
        raise UsageError(
            f"cannot read the trail through {given}",
            hint="pass an open connection of psycopg 3, or a session or connection of SQLAlchemy",
        )
    return source


def _driver_connection(connection: sqlalchemy.Connection) -> psycopg.Connection[Any]:
    driver: Any = connection.connection.driver_connection
    if is_a(driver, "psycopg", "AsyncConnection"):
        return _in_sync_shape(driver)
    if not isinstance(driver, import_psycopg().Connection):
        raise UsageError(
            f"the trail is read with psycopg 3, not with {connection.dialect.driver}",
            hint="use an engine for postgresql+psycopg://…, if need be for the trail only",
        )
    return cast("psycopg.Connection[Any]", driver)


def _begun(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    # Where no transaction is open yet, psycopg commits at the end of connection.transaction().
    idle = import_psycopg().pq.TransactionStatus.IDLE
    if connection.info.transaction_status == idle and not connection.autocommit:
        connection.execute("select 1")
    return connection


def _in_sync_shape(connection: Any) -> psycopg.Connection[Any]:
    from audit_toolkit.trail.sources.async_bridge import in_sync_shape

    return in_sync_shape(connection)
