"""Whether a connection has a session of its own, which a pooler in transaction mode does not give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import describe_failure, fetch, import_psycopg
from audit_toolkit.errors import ConnectError, UsageError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

ATTEMPTS = 3
"""A pooler hands out the connection that was used last, unless others are quicker."""


def require_own_session(connection: Connection) -> None:
    """Raise `UsageError` where other clients use the session of a connection, too.

    Its lock would stay behind when it ends, and no other instance could go on. Whoever talks to PostgreSQL itself is
    told the number of its session; behind a pooler another connection is opened to see whether it gets the same one.
    """
    if _session_of(connection) == connection.info.backend_pid:
        return
    with _another(connection) as other:
        for _ in range(ATTEMPTS):
            before = _session_of(connection)
            with other.transaction():
                taken = _session_of(other)
                after = _session_of(connection)
            if taken == before or after != before:
                raise UsageError(
                    "a consumer needs a session of its own, and this pooler shares sessions between clients",
                    hint="connect to PostgreSQL itself, or to a pool with pool_mode = session",
                )


def _another(connection: Connection) -> Connection:
    """One more connection to where that one leads."""
    psycopg = import_psycopg()
    try:
        other: Connection = psycopg.connect(
            connection.info.dsn, password=connection.info.password or None, autocommit=True
        )
    except psycopg.OperationalError as error:
        raise ConnectError(
            f"cannot open a second connection to see whether this pooler shares sessions: {describe_failure(error)}",
            hint="connect to PostgreSQL itself, or let the pooler take one more connection",
        ) from None
    return other


def _session_of(connection: Connection) -> int:
    return int(fetch(connection, "select pg_backend_pid() as pid")[0]["pid"])
