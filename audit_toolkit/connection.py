"""Connections: which database, how to reach it, and what its refusals mean.

Maintenance and installation speak psycopg 3 only. The address may come in any spelling that libpq,
SQLAlchemy or a hosting provider uses; passwords never reach a message.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from audit_toolkit.errors import (
    AuditError,
    BusyError,
    ConnectError,
    LostError,
    MissingExtraError,
    PermissionDeniedError,
    RedactedError,
    UsageError,
)
from audit_toolkit.server import Server

if TYPE_CHECKING:
    import psycopg

DSN_VARIABLES = ("AUDIT_DATABASE_URL", "DATABASE_URL")

# So that text which the catalogue prints (bounds, definitions) reads the same for every session.
_SESSION_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    # Settings that decide how our statements are parsed, and whether they may finish.
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "default_tablespace": "",
    "default_table_access_method": "heap",
    "check_function_bodies": "on",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # Catalogues and events are many small reads of wild estimates: compiling takes longer than any of them.
    "jit": "off",
}
_SINCE_17 = {"transaction_timeout": "0"}


def normalise_dsn(dsn: str) -> str:
    """A connection string for libpq from any usual spelling.

    `postgres://`, `postgresql+asyncpg://` (the driver is dropped) and `host=… dbname=…` all work.
    Raises `UsageError` for the address of another kind of database.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9.]*)(?:\+[A-Za-z0-9_]+)?://", dsn)
    if not scheme:
        if dsn.strip() and "=" not in dsn:
            raise UsageError(
                "the database address is neither a URL nor a keyword string",
                hint="use postgresql://user@host/database, or host=… dbname=…",
            )
        return dsn
    if scheme[1].lower() not in ("postgres", "postgresql"):
        raise UsageError(
            f"the database address is for {scheme[1]!r}, not for PostgreSQL",
            hint="write postgresql://user@host/database",
        )
    _refuse_unescaped(dsn[scheme.end() :])
    return _without_driver_options("postgresql://" + dsn[scheme.end() :])


_ESCAPE_HINT = (
    "percent-encode special characters in the user and password: @ is %40, : is %3A, / is "
    "%2F, ? is %3F, # is %23, % is %25"
)


def _refuse_unescaped(address: str) -> None:
    """Raise `UsageError` for an address that libpq would cut in the wrong place, or quote in its message.

    Either way a part of the password would be printed.
    """
    authority = re.split(r"[/?#]", address, maxsplit=1)[0]
    user, _, hosts = authority.rpartition("@")
    ports = [re.sub(r"^\[[^\]]*\]|^[^:]*", "", host) for host in hosts.split(",")]
    if re.search(r"%(?![0-9A-Fa-f]{2})", address):
        problem = "a % in it does not begin an escape"
    elif "@" in user:
        problem = "it has one @ too many"
    elif hosts.count("[") != hosts.count("]"):
        problem = "a [ or ] is missing in the host"
    elif any(port and not re.fullmatch(r":\d*", port) for port in ports):
        problem = "a port in it is not a number"
    else:
        return
    raise UsageError(f"the database address is not valid: {problem}", hint=_ESCAPE_HINT)


def _without_driver_options(url: str) -> str:
    # Query parameters that only a Python driver understands make libpq refuse the whole URL.
    address, question, options = url.partition("?")
    if not question:
        return url
    kept = [
        option.replace("ssl=", "sslmode=", 1) if option.startswith("ssl=") else option
        for option in options.split("&")
        if not option.startswith(
            ("async_fallback=", "prepared_statement_cache_size=", "statement_cache_size=")
        )
    ]
    return f"{address}?{'&'.join(kept)}" if kept else address


def choose_dsn(option: str | None, *, project_url: str | None = None) -> str:
    """The first address that is set: the option, the environment, the Alembic project, libpq's own.

    An empty string means libpq's environment (`PGHOST`, `PGSERVICE`, …).
    """
    candidates = [option, *(os.environ.get(name) for name in DSN_VARIABLES), project_url]
    return next((normalise_dsn(dsn) for dsn in candidates if dsn), "")


def application_name(purpose: str) -> str:
    """What a session of ours is called in pg_stat_activity, unless the address has a name."""
    return f"audit-toolkit/{purpose}"


@contextmanager
def connect(dsn: str, *, purpose: str = "cli", **options: Any) -> Iterator[psycopg.Connection[Any]]:
    """An autocommit connection whose session prints catalogue text in one way (UTC, ISO dates).

    Raises `ConnectError` when the server cannot be reached, and `LostError` when the connection ends inside the block;
    turns refusals of what runs there into `PermissionDeniedError` and `BusyError`.
    """
    psycopg = import_psycopg()
    try:
        connection = psycopg.connect(
            dsn,
            autocommit=True,
            fallback_application_name=application_name(purpose),
            connect_timeout=10,
            **options,
        )
    except psycopg.ProgrammingError:
        raise _unreadable() from None
    except psycopg.OperationalError as error:
        if re.search(r"invalid .*(connection option|port number)", str(error)):
            raise _unreadable() from None
        reason = without_password(describe_failure(error), dsn)
        raise ConnectError(f"cannot connect: {reason}", hint=_CONNECT_HINT) from None
    try:
        with connection, translated_errors():
            prepare_session(connection)
            Server(connection.info.server_version).require_supported()
            yield connection
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedFunction,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.UndefinedObject,
        psycopg.errors.InvalidSchemaName,
    ) as error:
        raise AuditError(f"something is missing: {first_line(error)}", hint=_MISSING) from error
    except psycopg.OperationalError as error:
        if error.sqlstate is None or error.sqlstate.startswith(("57P", "25P03", "25P04")):
            raise LostError(
                f"the connection was lost: {first_line(error)}", hint=_LOST_HINT
            ) from error
        raise AuditError(first_line(error)) from error


def _unreadable() -> UsageError:
    """Says nothing of the address: libpq quotes what it could not read, which may be of the password."""
    return UsageError(
        "the database address is not valid",
        hint="use postgresql://user@host/database with special characters percent-encoded, or "
        "host=… dbname=… with quotes around values that contain spaces",
    )


def without_password(text: str, dsn: str) -> str:
    """The text without the password of an address, wherever it stands in it."""
    conninfo = import_psycopg().conninfo
    with suppress(import_psycopg().ProgrammingError):
        password = str(conninfo.conninfo_to_dict(dsn).get("password") or "")
        if password:
            return text.replace(password, "***")
    return text


_MISSING = (
    "a restore may have been interrupted, or an older release created the trail; audit check "
    "lists what is missing: restore again, or run audit upgrade"
)
_CONNECT_HINT = (
    "set --dsn or AUDIT_DATABASE_URL (or DATABASE_URL, sqlalchemy.url of alembic.ini, PGHOST …) "
    "to a running server: postgresql://user@host/database"
)
_LOST_HINT = (
    "the server's log says why; when the server accepts connections again, run the command again"
)


def prepare_session(connection: psycopg.Connection[Any]) -> None:
    """Pin what decides how the server reads our statements and prints values."""
    settings = _pinned_settings(connection)
    calls = ", ".join(["pg_catalog.set_config(%s, %s, false)"] * len(settings))
    values = [part for setting in settings.items() for part in setting]
    connection.execute("select " + calls, values)
    # Under `replica` no foreign key would be checked when something is put back. A superuser alone may set it.
    connection.execute(
        "select pg_catalog.set_config('session_replication_role', 'origin', false)"
        " where pg_catalog.current_setting('session_replication_role') <> 'origin'"
        " and pg_catalog.current_setting('is_superuser') = 'on'"
    )


@contextmanager
def prepared_session(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """What `prepare_session` pins, for what is read in the block; then the session has its own settings again."""
    with _with_settings(connection, _pinned_settings(connection)):
        yield


@contextmanager
def planned_once(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Have each statement of the block prepared when it is first sent, and planned once for all parameters.

    For what reads few events of all partitions: to plan that takes longer than to do it. Nothing is prepared on a
    connection whose `prepare_threshold` is None, and behind a pooler: there, the next transaction may be on another
    server connection, which does not know the statement or has another one of that name.
    """
    threshold = connection.prepare_threshold
    if threshold in (None, 0):  # never, or in such a block already
        yield
        return
    with _with_settings(connection, {"plan_cache_mode": "force_generic_plan"}) as server_pid:
        # A pooler tells of another process than that of the server, or of none.
        if server_pid == connection.info.backend_pid:
            connection.prepare_threshold = 0
        try:
            yield
        finally:
            connection.prepare_threshold = threshold


def _pinned_settings(connection: psycopg.Connection[Any]) -> dict[str, str]:
    return _SESSION_SETTINGS | (_SINCE_17 if connection.info.server_version >= 170000 else {})


@contextmanager
def _with_settings(
    connection: psycopg.Connection[Any], settings: Mapping[str, str]
) -> Iterator[int]:
    """Set what differs, and put it back: a rollback, which would do that, makes psycopg forget what it has prepared.

    Gives the process of the server.
    """
    from psycopg.rows import tuple_row

    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "select name, pg_catalog.current_setting(name), pg_catalog.pg_backend_pid()"
            " from unnest(%s::text[]) as name",
            [list(settings)],
            prepare=False,
        )
        rows = cursor.fetchall()
        former = {name: value for name, value, _ in rows if value != settings[name]}
        _set_locally(cursor, {name: settings[name] for name in former})
        yield rows[0][2]
        _set_locally(cursor, former)


def _set_locally(cursor: psycopg.Cursor[Any], settings: Mapping[str, str]) -> None:
    if settings:
        calls = ", ".join(["pg_catalog.set_config(%s, %s, true)"] * len(settings))
        values = [part for one in settings.items() for part in one]
        cursor.execute("select " + calls, values, prepare=False)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the server's refusals (no privilege, no lock in time) into errors of this package."""
    errors = import_psycopg().errors
    try:
        yield
    except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
        raise BusyError(
            f"could not obtain a lock within lock_timeout: {first_line(error)}",
            hint="nothing was changed; a long transaction holds the table (see pg_stat_activity): "
            "try again later",
        ) from error
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
        raise PermissionDeniedError(
            f"the server refused: {first_line(error)}",
            hint=error.diag.message_hint or _what_is_missing(error),
        ) from error


_DENIED = re.compile(r"permission denied for (?P<kind>[a-z]+) ")


def _what_is_missing(error: psycopg.Error) -> str:
    """What has to be granted, or where to connect instead."""
    if isinstance(error, import_psycopg().errors.ReadOnlySqlTransaction):
        return "the server is a read-only standby: connect to the primary"
    denied = _DENIED.match(first_line(error))
    match denied and denied["kind"]:
        case "schema":
            lacks = "USAGE on the schema"
        case "function":
            lacks = "EXECUTE on the function"
        case None:
            return "connect as the owner, or as a member of the owning role"
        case _:
            lacks = "a privilege on it"
    return (
        f"the role of this connection lacks {lacks}: connect as the owner, or have it "
        "granted; to see what a role needs for the trail: audit grants --help"
    )


def fetch(
    connection: psycopg.Connection[Any], query: str, parameters: Mapping[str, object] | None = None
) -> list[dict[str, Any]]:
    """All rows of one of our queries, as dicts."""
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what a function of the trail refuses, or may not be called, into `AuditError`, with its hint."""
    errors = import_psycopg().errors
    try:
        yield
    except errors.InsufficientPrivilege as error:
        if not first_line(error).startswith("permission denied for function"):
            raise
        raise PermissionDeniedError(
            f"the server refused: {first_line(error)}",
            hint="audit grants --reader ROLE prints the grants that a reader needs",
        ) from error
    except errors.ObjectNotInPrerequisiteState as error:
        kind = RedactedError if error.diag.constraint_name == "redacted" else AuditError
        raise kind(
            first_line(error).removeprefix("audit: "), hint=error.diag.message_hint
        ) from error


def first_line(error: Exception) -> str:
    """The server's message without its context lines."""
    diag = getattr(error, "diag", None)
    message = diag.message_primary if diag is not None and diag.message_primary else str(error)
    return message.strip().splitlines()[0] if message.strip() else type(error).__name__


def describe_failure(error: Exception) -> str:
    """Why a connection failed: the last reason libpq names, which is the one about the address in use."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [
        line
        for line in lines
        if "failed:" in line or "error" in line.lower() or "could not" in line
    ]
    return (reasons or lines or ["no reason given"])[-1].removeprefix("- ")


def is_a(target: object, module: str, name: str) -> bool:
    """Whether it is an instance of that class, whose module is not imported to find out."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(target, getattr(loaded, name))


def import_psycopg() -> Any:
    """psycopg, or a `MissingExtraError` that says how to get libpq."""
    try:
        import psycopg
        import psycopg.errors
    except ImportError as error:
        raise MissingExtraError(
            "psycopg could not find libpq on this machine",
            hint="pip install 'audit-toolkit[binary]', or install your system's libpq package",
        ) from error
    return psycopg
