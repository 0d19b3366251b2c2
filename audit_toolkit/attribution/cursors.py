"""psycopg 3: cursors that send the context with the write, in one batch and so in one round trip.

A batch (libpq's pipeline mode) without a transaction around it is a transaction of its own: so the
context reaches the write in autocommit too, and never anything after it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from audit_toolkit.attribution.connection_context import Link, fits_pipeline, refuse_autocommit
from audit_toolkit.errors import ContextError

if TYPE_CHECKING:
    from psycopg.abc import Params, Query

    AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]
    Base = psycopg.Cursor[Any]
    AsyncBase = psycopg.AsyncCursor[Any]
else:
    Base = AsyncBase = object


def attach_psycopg(connection: AnyConnection, *, sees_all: bool, tells_wal: bool = False) -> None:
    """Give a connection cursors that carry the context. Once is enough; again does nothing.

    Raises `ContextError` where libpq has no pipeline mode (before 14).
    """
    if link_of(connection) is not None:
        return
    if not psycopg.Pipeline.is_supported():
        raise ContextError(
            "this libpq is older than 14 and has no pipeline mode",
            hint="upgrade libpq, or begin transactions with "
            "audit_toolkit.apply_context(connection)",
        )
    mixin = _AsyncCursor if isinstance(connection, psycopg.AsyncConnection) else _Cursor
    base: Any = connection.cursor_factory
    # A class per connection: it is the only thing that psycopg passes on to every cursor.
    connection.cursor_factory = type(
        f"Audited{base.__name__}",
        (mixin, base),
        {"audit_link": Link(sees_all=sees_all, tells_wal=tells_wal)},
    )


def link_of(connection: AnyConnection) -> Link | None:
    """What we know of a connection; None where it carries no context by itself."""
    return getattr(connection.cursor_factory, "audit_link", None)


def plain_cursor(connection: AnyConnection) -> Any:
    """A cursor that says the context itself, whatever parameters and rows the others are made for."""
    if isinstance(connection, psycopg.AsyncConnection):
        return psycopg.AsyncCursor(connection, row_factory=tuple_row)
    return psycopg.Cursor(connection, row_factory=tuple_row)


class _Cursor(Base):
    audit_link: Link

    def execute(self, query: Query, params: Params | None = None, **options: Any) -> Any:
        with self._with_context(query):
            super().execute(query, params, **options)  # type: ignore[arg-type]
        return self

    def executemany(self, query: Query, params_seq: Iterable[Params], **options: Any) -> None:
        with self._with_context(query):
            super().executemany(query, params_seq, **options)

    def stream(self, query: Query, params: Params | None = None, **options: Any) -> Iterator[Any]:
        with self._with_context(query, batch=False):
            yield from super().stream(query, params, **options)

    @contextmanager
    def copy(
        self, statement: Query, params: Params | None = None, **options: Any
    ) -> Iterator[psycopg.Copy]:
        with (
            self._with_context(statement, batch=False),
            super().copy(statement, params, **options) as copy,
        ):
            yield copy

    @contextmanager
    def _with_context(self, query: Query, *, batch: bool = True) -> Iterator[None]:
        due = what_is_due(self.connection, self.audit_link, query, batch=batch)
        with self.connection.pipeline() if due.batched else nullcontext():
            if due.document is not None:
                plain_cursor(self.connection).execute(self.audit_link.statement, (due.document,))
            yield
        if due.document is not None:
            self.audit_link.said(due.document)


class _AsyncCursor(AsyncBase):
    audit_link: Link

    async def execute(self, query: Query, params: Params | None = None, **options: Any) -> Any:
        async with self._with_context(query):
            await super().execute(query, params, **options)  # type: ignore[arg-type]
        return self

    async def executemany(self, query: Query, params_seq: Iterable[Params], **options: Any) -> None:
        async with self._with_context(query):
            await super().executemany(query, params_seq, **options)

    async def stream(
        self, query: Query, params: Params | None = None, **options: Any
    ) -> AsyncIterator[Any]:
        async with self._with_context(query, batch=False):
            async for row in super().stream(query, params, **options):
                yield row

    @asynccontextmanager
    async def copy(
        self, statement: Query, params: Params | None = None, **options: Any
    ) -> AsyncIterator[psycopg.AsyncCopy]:
        async with (
            self._with_context(statement, batch=False),
            super().copy(statement, params, **options) as copy,
        ):
            yield copy

    @asynccontextmanager
    async def _with_context(self, query: Query, *, batch: bool = True) -> AsyncIterator[None]:
        due = what_is_due(self.connection, self.audit_link, query, batch=batch)
        async with self.connection.pipeline() if due.batched else nullcontext():
            if due.document is not None:
                await plain_cursor(self.connection).execute(
                    self.audit_link.statement, (due.document,)
                )
            yield
        if due.document is not None:
            self.audit_link.said(due.document)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What to say before a statement, and whether in one batch with it."""

    document: str | None = None
    batched: bool = False


def what_is_due(connection: AnyConnection, link: Link, query: Query, *, batch: bool) -> Due:
    """Decide for one statement. In a failed transaction nothing is due: its own error shows.

    Raises `ContextError` for a write in autocommit that can only go alone.
    """
    if connection.pgconn.transaction_status == TransactionStatus.INERROR:
        link.forget()
        return Due()
    statement = as_text(query, connection)
    begins = _is_idle(connection)
    document = link.due(statement, new_transaction=begins)
    if document is None:
        return Due()
    autocommit = connection.autocommit and begins
    batched = batch and fits_pipeline(statement, autocommit=autocommit)
    if autocommit and not batched:
        raise refuse_autocommit(statement)
    return Due(document=document, batched=batched)


def prepare_to_apply(connection: AnyConnection) -> None:
    """Raise `ContextError` unless there is, or will be, a transaction to send the context into."""
    if connection.autocommit and _is_idle(connection):
        raise refuse_autocommit("connection")
    if link := link_of(connection):
        link.forget()


def _is_idle(connection: AnyConnection) -> bool:
    # In a pipeline of the user, the server has not reported yet that a transaction began.
    pgconn = connection.pgconn
    return pgconn.transaction_status == TransactionStatus.IDLE and not pgconn.pipeline_status


def as_text(query: Query, connection: AnyConnection) -> str:
    """The words of a query, in whatever form psycopg takes it."""
    match query:
        case str():
            return query
        case bytes():
            return query.decode(errors="replace")
        case sql.Composable():
            return query.as_string(connection)
        case _:  # a template string (Python 3.14)
            return " ".join(query.strings)
