"""The page's way to the database: read-only transactions that neither last nor outlive who asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from audit_toolkit.connection import (
    connect,
    first_line,
    import_psycopg,
    is_a,
    normalise_dsn,
    prepare_session,
    translated_errors,
)
from audit_toolkit.errors import AuditError, BusyError, ConnectError, MissingExtraError, UsageError
from audit_toolkit.trail.rows.lookup import require_readable_trail

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy

    Connection = psycopg.Connection[Any]

Open: TypeAlias = "Callable[[], AbstractContextManager[psycopg.Connection[Any]]]"
Source: TypeAlias = "str | sqlalchemy.Engine | Open"

MOST_CONNECTIONS = 8
WAIT_FOR_CONNECTION = 5.0
_LOST = "the database did not answer"
_LOST_HINT = "try again in a moment; if it stays so, tell who runs the database"


class Asking:
    """One request's claim on the server, which ends when nobody waits for the answer any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._left = False

    @contextmanager
    def on(self, connection: Connection) -> Iterator[None]:
        """While the block lasts, `leave` cancels what the connection runs."""
        with self._lock:
            former, self._connection = self._connection, connection
            left = self._left
        try:
            if left:
                raise BusyError("nobody waits for the answer any more")
            yield
        finally:
            with self._lock:  # never a later statement on the same connection
                self._connection = former

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cancel what runs when the time is over, also where a statement has no timeout of its own."""
        timer = threading.Timer(seconds, self.leave)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def leave(self) -> None:
        """Nobody waits for the answer any more: cancel the statement that runs."""
        with self._lock:
            self._left = True
            if self._connection is not None:
                self._connection.cancel_safe(timeout=5.0)


class Database:
    """Where the trail is. Connections are made when they are first needed."""

    def __init__(self, source: Source, *, statement_timeout: float) -> None:
        self._open = _opener(source)
        self._timeout = f"{statement_timeout * 1000:.0f}ms"
        self._seconds = statement_timeout

    @contextmanager
    def reading(self, asking: Asking) -> Iterator[Connection]:
        """A read-only transaction with one view of the data, in which no statement lasts."""
        with self._transaction(asking, "isolation level repeatable read, read only") as connection:
            yield connection

    @contextmanager
    def writing(self, asking: Asking) -> Iterator[Connection]:
        """A transaction that may write, and commits where the block ends without an error."""
        with self._transaction(asking, "isolation level read committed, read write") as connection:
            yield connection

    @contextmanager
    def _transaction(self, asking: Asking, mode: str) -> Iterator[Connection]:
        psycopg = import_psycopg()
        try:
            with (
                self._open() as connection,
                translated_errors(),
                connection.transaction(),
                asking.on(connection),
                asking.within(3 * self._seconds),
            ):
                connection.execute(f"set transaction {mode}")
                connection.execute(
                    "select pg_catalog.set_config('statement_timeout', %s, true),"
                    " pg_catalog.set_config('lock_timeout', %s, true),"
                    " pg_catalog.set_config('TimeZone', 'UTC', true),"
                    # A page reads little of many partitions, for which compiling takes longer than reading.
                    " pg_catalog.set_config('jit', 'off', true)",
                    (self._timeout, self._timeout),
                )
                yield connection
        except psycopg.errors.QueryCanceled as error:
            raise BusyError(
                f"the question took longer than {self._seconds:g} s",
                hint="ask for less: a table, a shorter time, an exact key",
            ) from error
        except psycopg.OperationalError as error:
            if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
                raise ConnectError(_LOST, hint=_LOST_HINT) from error
            raise AuditError(first_line(error)) from error
        except psycopg.Error as error:
            raise AuditError(first_line(error)) from error


def _opener(source: Source) -> Open:
    if isinstance(source, str):
        return _pooled(normalise_dsn(source))
    if is_a(source, "sqlalchemy", "Engine"):
        return _of_engine(cast("sqlalchemy.Engine", source))
    if callable(source):
        return source
    raise UsageError(
        f"the page cannot read through {type(source).__name__}",
        hint="pass an address, an Engine of SQLAlchemy, or what opens a connection: pool.connection",
    )


def _pooled(dsn: str) -> Open:
    try:
        from psycopg_pool import ConnectionPool
    except ImportError as error:
        raise MissingExtraError(
            "the page needs psycopg_pool", hint="pip install 'audit-toolkit[ui]'"
        ) from error

    pool = ConnectionPool(
        dsn,
        min_size=0,
        max_size=MOST_CONNECTIONS,
        timeout=WAIT_FOR_CONNECTION,
        open=False,
        configure=_prepare,
        check=ConnectionPool.check_connection,
        kwargs={
            "autocommit": True,
            "fallback_application_name": "audit-toolkit/ui",
            "connect_timeout": 5,
        },
        name="audit-page",
    )

    def open_() -> AbstractContextManager[Connection]:
        pool.open()  # nothing where it is open: a mounted application has no start of its own
        return cast("AbstractContextManager[Connection]", pool.connection())

    return open_


def _prepare(connection: Connection) -> None:
    prepare_session(connection)
    connection.execute("set default_transaction_read_only = on")


def _of_engine(engine: sqlalchemy.Engine) -> Open:
    @contextmanager
    def open_() -> Iterator[Connection]:
        raw = engine.raw_connection()
        try:
            driver = raw.driver_connection
            if not isinstance(driver, import_psycopg().Connection):
                raise UsageError(
                    f"the trail is read with psycopg 3, not with {engine.dialect.driver}",
                    hint="give the page an engine for postgresql+psycopg://…",
                )
            yield driver
        finally:
            raw.close()

    return open_


def role_that_may_write(dsn: str, schema: str) -> str | None:
    """The role of an address where it could do more than read: superuser, or owner of the trail.

    Raises what `require_readable_trail` raises.
    """
    with connect(dsn, purpose="ui") as connection:
        require_readable_trail(connection, schema)
        row = connection.execute(
            "select current_user, r.rolsuper or pg_catalog.pg_has_role(r.oid, n.nspowner, 'usage')"
            " from pg_catalog.pg_roles as r"
            " left join pg_catalog.pg_namespace as n on n.nspname = %s"
            " where r.rolname = current_user",
            (schema,),
        ).fetchone()
    return str(row[0]) if row and row[1] else None
