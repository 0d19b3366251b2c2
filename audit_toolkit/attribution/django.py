"""Django: psycopg 3 through its connections, any other driver through an execute wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from audit_toolkit.attribution.attach import attach
from audit_toolkit.attribution.connection_context import SET_CONTEXT, SET_CONTEXT_AND_TELL
from audit_toolkit.attribution.current import current_document
from audit_toolkit.attribution.statements import Kind, kind_of

Execute = Callable[[Any, Any, bool, dict[str, Any]], Any]


def carry_context(*, wal: bool = False) -> None:
    """Make every write of Django's PostgreSQL connections carry the context, at no round trip more.

    For psycopg 3, in autocommit (Django's default) too. Call it once, in an `AppConfig.ready()`; with `wal` if
    tables are captured from the WAL.
    """
    from django.db.backends.signals import connection_created  # type: ignore[import-untyped]

    connection_created.connect(
        _attach_and_tell if wal else _attach, weak=False, dispatch_uid="audit_toolkit"
    )


def execute_wrapper(
    execute: Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """For `connection.execute_wrapper(…)`: send the context before each write, with any driver.

    One round trip more for a write in `atomic()`; three in autocommit, where the write gets a
    transaction.
    """
    return _execute(execute, sql, params, many, context, say=SET_CONTEXT)


def wal_execute_wrapper(
    execute: Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """`execute_wrapper` where tables are captured from the WAL, which is told, too."""
    return _execute(execute, sql, params, many, context, say=SET_CONTEXT_AND_TELL)


def _execute(
    execute: Execute, sql: Any, params: Any, many: bool, context: dict[str, Any], *, say: str
) -> Any:
    document, connection = current_document(), context["connection"]
    statement = sql if isinstance(sql, str) else sql.as_string(None)
    writes = kind_of(statement) not in (Kind.READ, Kind.OTHER)
    if not writes or not (document or connection.in_atomic_block):
        return execute(sql, params, many, context)
    from django.db import transaction  # type: ignore[import-untyped]

    with transaction.atomic(using=connection.alias, savepoint=False):
        context["cursor"].cursor.execute(say, [document])
        return execute(sql, params, many, context)


def _attach(connection: Any, **_: Any) -> None:
    if connection.vendor == "postgresql":
        attach(connection.connection)


def _attach_and_tell(connection: Any, **_: Any) -> None:
    if connection.vendor == "postgresql":
        attach(connection.connection, wal=True)
