"""The one instance of the witness: who holds the advisory lock of the trail runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.errors import BusyError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_LOCK = "select pg_try_advisory_lock(hashtextextended(%(name)s, 0)) as is_locked"
_UNLOCK = "select pg_advisory_unlock(hashtextextended(%(name)s, 0))"
_HOLDER = """
    select l.pid from pg_catalog.pg_locks as l
    where l.locktype = 'advisory' and l.granted and l.objsubid = 1
      and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
      and (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended(%(name)s, 0)
"""


def become_instance(connection: Connection, schema: str) -> None:
    """Take the lock, for the session. Raises `BusyError` while another instance runs."""
    if not fetch(connection, _LOCK, _lock_name(schema))[0]["is_locked"]:
        pid = running_instance(connection, schema)
        raise BusyError(
            "another instance of the witness is running" + (f" (pid {pid})" if pid else ""),
            hint="one is enough; end it first",
        )


def end_instance(connection: Connection, schema: str) -> None:
    """Let another instance run."""
    fetch(connection, _UNLOCK, _lock_name(schema))


def running_instance(connection: Connection, schema: str) -> int | None:
    """The pid of the server process of the instance that runs; None where none does."""
    holders = fetch(connection, _HOLDER, _lock_name(schema))
    return holders[0]["pid"] if holders else None


def _lock_name(schema: str) -> dict[str, str]:
    return {"name": f"audit-toolkit witness {schema}"}
