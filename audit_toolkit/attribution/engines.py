"""SQLAlchemy: by psycopg's cursors where that is the driver, else a statement before the write.

Engine events see the ORM, Core and async engines alike; a `Session` event would miss Core.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, Executable, event, func, select, text

from audit_toolkit.attribution.connection_context import (
    SET_CONTEXT_AND_TELL,
    Link,
    refuse_autocommit,
)
from audit_toolkit.attribution.current import current_document
from audit_toolkit.errors import ContextError


class Strategy(StrEnum):
    """When and how the context reaches the server."""

    PIPELINE = "pipeline"
    """In one batch with the first write: no round trip more. psycopg 3, sync and async."""
    STATEMENT = "statement"
    """As a statement before each transaction's first write: one round trip more. Any driver."""
    EAGER = "eager"
    """As a statement at the begin of each transaction, for SELECTs of functions that write. A
    two-phase transaction, which cannot begin with one, gets it before its first write.
    """


_LINK = "audit_toolkit.link"
_PSYCOPG = ("psycopg", "psycopg_async")


def attach_engine(engine: Engine, strategy: Strategy | None, *, tells_wal: bool = False) -> None:
    """Make every write of an engine carry the context; by the best its driver can, if not told.

    Raises `ContextError` for another database than PostgreSQL, and for `PIPELINE` where the driver
    has none.
    """
    if engine.dialect.name != "postgresql":
        raise ContextError(f"the engine is for {engine.dialect.name}, not for PostgreSQL")
    match strategy or _best(engine):
        case Strategy.PIPELINE:
            _require_psycopg(engine)
            attach = _attach_and_tell if tells_wal else _attach_driver_connection
            _listen(engine, "checkout", attach)
            _listen(engine, "begin_twophase", _forget)
        case Strategy.STATEMENT:
            _listen_statements(engine, tells_wal)
        case Strategy.EAGER:
            _listen_statements(engine, tells_wal)
            _listen(engine, "begin", _say_at_begin)


def say(
    connection: Connection, document: str, *, before: str = "connection", wal: bool = False
) -> None:
    """Set the context of the transaction that the connection is in. One round trip. With `wal`, tell the WAL, too.

    Raises `ContextError` in autocommit.
    """
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        raise refuse_autocommit(before)
    link: Link | None = connection.info.get(_LINK)
    tells_wal = wal or (link is not None and link.tells_wal)
    connection.execute(_set_context(document, tells_wal=tells_wal))


def _best(engine: Engine) -> Strategy:
    if engine.dialect.driver not in _PSYCOPG:
        return Strategy.STATEMENT
    from psycopg import Pipeline

    return Strategy.PIPELINE if Pipeline.is_supported() else Strategy.STATEMENT


def _require_psycopg(engine: Engine) -> None:
    if engine.dialect.driver not in _PSYCOPG:
        raise ContextError(
            f"the driver {engine.dialect.driver} has no pipeline",
            hint='use postgresql+psycopg://, or strategy="statement"',
        )


def _listen(engine: Engine, name: str, listener: Any) -> None:
    if not event.contains(engine, name, listener):
        event.listen(engine, name, listener)


def _attach_driver_connection(_dbapi_connection: Any, record: Any, _proxy: Any) -> None:
    from audit_toolkit.attribution.cursors import attach_psycopg

    # SQLAlchemy's transactions and savepoints begin and end in cursors, but for two-phase ones.
    attach_psycopg(record.driver_connection, sees_all=True)


def _attach_and_tell(_dbapi_connection: Any, record: Any, _proxy: Any) -> None:
    from audit_toolkit.attribution.cursors import attach_psycopg

    attach_psycopg(record.driver_connection, sees_all=True, tells_wal=True)


def _forget(connection: Connection, _xid: object) -> None:
    from audit_toolkit.attribution.cursors import link_of

    driver_connection: Any = connection.connection.driver_connection
    if link := link_of(driver_connection):
        link.forget()


def _listen_statements(engine: Engine, tells_wal: bool) -> None:
    begin = _begin_and_tell if tells_wal else _begin
    _listen(engine, "begin", begin)
    _listen(engine, "begin_twophase", begin)
    _listen(engine, "before_cursor_execute", _say_before_write)


def _begin(connection: Connection, _xid: object = None) -> None:
    connection.info[_LINK] = Link(sees_all=True)


def _begin_and_tell(connection: Connection, _xid: object = None) -> None:
    connection.info[_LINK] = Link(sees_all=True, tells_wal=True)


def _say_at_begin(connection: Connection) -> None:
    if document := current_document():
        say(connection, document)
        connection.info[_LINK].said(document)


def _say_before_write(
    connection: Connection,
    _cursor: object,
    statement: str,
    _parameters: object,
    _context: object,
    _executemany: bool,
) -> None:
    # The dialect's own first statements come without `begin`, and write nothing.
    link: Link | None = connection.info.get(_LINK) if connection.in_transaction() else None
    if link is None:
        return
    document = link.due(statement, new_transaction=False)
    if document is not None:
        say(connection, document, before=statement)
        link.said(document)


def _set_context(document: str, *, tells_wal: bool) -> Executable:
    if tells_wal:
        return text(SET_CONTEXT_AND_TELL.replace("%s", ":document")).bindparams(document=document)
    return select(func.set_config("audit.context", document, True))
