"""Events of the application, written into the trail by the transaction that they belong to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from audit_toolkit.attribution.attach import Applicable, AsyncApplicable
from audit_toolkit.attribution.current import current_document
from audit_toolkit.connection import is_a
from audit_toolkit.errors import ContextError
from audit_toolkit.names import quote_identifier
from audit_toolkit.templates import render

Recordable: TypeAlias = "Applicable | AsyncApplicable"

_ASYNCIO = "sqlalchemy.ext.asyncio"
_NEVER = re.compile("[\0\ud800-\udfff]")
"""What no text of PostgreSQL can have."""
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""In JSON, where a backslash that is text is two."""


def record(
    name: str,
    payload: Any = None,
    *,
    row: object = None,
    table: str | None = None,
    key: object = None,
    on: Recordable | Any = None,
    schema: str = "audit",
) -> Any:
    """Write an event of the application into the trail: with the transaction, or not at all.

        record("order.refunded", {"amount": "4.90"}, row=order)
        record("order.refunded", {"amount": "4.90"}, table="orders", key=42, on=connection)

    The event is about the row that `row` maps (SQLAlchemy, Django) or `table` and `key` name (a tuple
    or list for a key of several columns), about a whole table, or about neither. It carries the
    current context. `on` is a connection or session of SQLAlchemy, or a connection of psycopg or
    Django; a row knows its own. To be awaited where that is an async one. What JSON has no type for
    (dates, UUIDs, decimals) becomes text. One round trip; a session is flushed first.

    Raises `ContextError` where nothing says through what to write, or what about, and for what PostgreSQL cannot
    store: the transaction goes on then. What the database refuses is the error of the driver.
    """
    if row is not None:
        if table is not None or key is not None:
            raise ContextError("row says what the event is about: leave out table and key")
        return _record_row(name, payload, row, on, schema)
    if on is None:
        raise ContextError(
            "nothing says through what to record the event",
            hint="pass on=connection, or row= for a row of SQLAlchemy or Django",
        )
    if key is not None and table is None:
        raise ContextError("a key needs the table that it is of", hint="pass table= as well")
    return _send(on, lambda: (name, payload, table, _key_text(key)), schema)


def _record_row(name: str, payload: Any, row: Any, on: Any, schema: str) -> Any:
    if hasattr(row, "_meta") and hasattr(row, "_state"):  # Django
        own = _django_connection(row._state.db)
        if row.pk is None:
            raise ContextError(
                f"this {type(row).__name__} was not saved yet", hint="save it before the event"
            )
        # Django quotes it, as people name a schema by quotes in it: sales"."orders.
        table = own.ops.quote_name(row._meta.db_table)
        target = on if on is not None else own
        return _send(target, lambda: (name, payload, table, _key_text(row.pk)), schema)
    from sqlalchemy import inspect
    from sqlalchemy.exc import NoInspectionAvailable

    try:
        state = inspect(row)
        mapper = state.mapper
    except (NoInspectionAvailable, AttributeError):
        raise ContextError(
            f"a {type(row).__name__} is not a row of SQLAlchemy or Django",
            hint="pass table= and key= instead",
        ) from None
    target = on if on is not None else state.async_session or state.session
    if target is None:
        raise ContextError(
            f"this {type(row).__name__} is in no session",
            hint="add it to one, or pass on= the connection to write through",
        )
    local = mapper.local_table

    def about() -> tuple[str, Any, str | None, str | None]:
        # Asked when the session was flushed, which gives a new row its key.
        values = [mapper.get_property_by_column(c).class_attribute for c in local.primary_key]
        key = tuple(getattr(row, value.key) for value in values)
        return name, payload, _of(local.name, local.schema), _key_text(key)

    return _send(target, about, schema)


_About: TypeAlias = Callable[[], "tuple[str, Any, str | None, str | None]"]
"""Name, payload, table and key, as soon as they are known."""


def _send(on: Any, about: _About, schema: str) -> Any:
    """Run the call through whatever it is; an awaitable for what is async."""
    if is_a(on, "psycopg", "Connection"):
        from audit_toolkit.attribution.cursors import plain_cursor

        return int(plain_cursor(on).execute(*_call(about, schema)).fetchone()[0])
    if is_a(on, "psycopg", "AsyncConnection"):
        return _send_async(on, about, schema)
    if is_a(on, _ASYNCIO, "AsyncSession") or is_a(on, _ASYNCIO, "AsyncConnection"):
        return on.run_sync(_send_sqlalchemy, about, schema)
    if is_a(on, "sqlalchemy.orm", "scoped_session"):
        on = on()
    if is_a(on, "sqlalchemy.orm", "Session") or is_a(on, "sqlalchemy", "Connection"):
        return _send_sqlalchemy(on, about, schema)
    if hasattr(on, "cursor") and hasattr(on, "vendor"):  # a connection of Django
        with on.cursor() as cursor:
            cursor.execute(*_call(about, schema))
            return int(cursor.fetchone()[0])
    raise ContextError(
        f"cannot record an event through a {type(on).__name__}",
        hint="pass a connection or session of SQLAlchemy, or a connection of psycopg or Django",
    )


async def _send_async(on: Any, about: _About, schema: str) -> int:
    from audit_toolkit.attribution.cursors import plain_cursor

    cursor = await plain_cursor(on).execute(*_call(about, schema))
    return int((await cursor.fetchone())[0])


def _send_sqlalchemy(on: Any, about: _About, schema: str) -> int:
    from sqlalchemy import text

    if is_a(on, "sqlalchemy.orm", "Session"):
        on.flush()
        on = on.connection()
    sql, values = _call(about, schema)
    # asyncpg does not know %(name)s, and text() takes every colon for the beginning of a name.
    named = re.sub(r"%\((\w+)\)s", r":\1", sql.replace(":", "\\:")).replace("%%", "%")
    return int(on.execute(text(named), values).scalar_one())


def _call(about: _About, schema: str) -> tuple[str, dict[str, Any]]:
    name, payload, table, key = about()
    document = current_document()
    sql = render("queries/record_event", schema=schema.replace("%", "%%"), said=bool(document))
    for what, text in (("name", name), ("table", table), ("key", key)):
        if isinstance(text, str) and not _is_storable(text):
            raise ContextError(
                f"the {what} of the event, {text!a}, is not text that PostgreSQL can store"
            )
    values = {"name": name, "payload": _json(name, payload), "table": table, "key": key}
    return sql, values | ({"context": document} if document else {})


def _json(name: str, payload: Any) -> str:
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, default=str)
    except (ValueError, TypeError, RecursionError) as error:
        raise ContextError(
            f"the payload of the event {name!a} cannot be stored as JSON: {error}",
            hint="pass dicts with names, lists, text, finite numbers, true, false and None, not nested too deeply",
        ) from error
    if _ESCAPED_NUL.search(text) or not _is_storable(text):
        raise ContextError(
            f"the payload of the event {name!a} has text that PostgreSQL cannot store",
            hint="remove NUL characters and lone surrogates from it",
        )
    return text


def _is_storable(text: str) -> bool:
    return not _NEVER.search(text)


def _key_text(key: Any) -> str | None:
    """A key as record_event reads it: one value as text, several as a JSON array."""
    if key is None:
        return None
    if not isinstance(key, (tuple, list)):
        return str(key)
    if len(key) == 1:
        return str(key[0])
    return json.dumps([None if part is None else str(part) for part in key], ensure_ascii=False)


def _of(table: str, schema: str | None = None) -> str:
    return ".".join(quote_identifier(part) for part in (schema, table) if part)


def _django_connection(alias: str | None) -> Any:
    from django.db import connections  # type: ignore[import-untyped]

    return connections[alias or "default"]
