"""One worker at a time: the advisory lock that it holds, and how another one takes over once it stands still.

What a worker that stands still has not committed is rolled back, and read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

from audit_toolkit.connection import first_line
from audit_toolkit.errors import BusyError
from audit_toolkit.wal.statements import Statements

LEASE_SECONDS = 60.0
"""After how long without a sign a worker stands still, so that the one that waits takes over."""
SIGN_SECONDS = 10.0
"""How often a worker gives one that has nothing to do."""


def be_the_one(sql: Statements, key: int, say: Callable[[str], None], *, wait: bool) -> None:
    """Take the lock with this key; wait for another worker, but not for one that stands still.

    Raises `BusyError` for another worker, unless it is to `wait`.
    """
    if _has_locked(sql, key):
        return
    if not wait:
        raise BusyError(
            "another worker is running",
            hint="it reads what there is; stop it first to do it here, or where it stands still start "
            "audit capture run, which takes over from it after a minute",
        )
    say("another worker is running; waiting until it ends")
    _await(sql, key, say)


def rest(connection: psycopg.Connection[Any], seconds: float) -> None:
    """Do nothing for so long, but show that the worker of this session is there."""
    while seconds > 0:
        time.sleep(min(seconds, SIGN_SECONDS))
        seconds -= SIGN_SECONDS
        connection.execute("select")


def _await(sql: Statements, key: int, say: Callable[[str], None]) -> None:
    """Time is that of this process: a clock that is set does not make a worker stand still."""
    seen: list[dict[str, Any]] = []
    said = set[str]()
    since, pause = time.monotonic(), 0.05
    while not _has_locked(sql, key):
        signs = sql.fetch("signs", key=key)
        if signs != seen:
            seen, since = signs, time.monotonic()
        elif all(sign["is_silent"] for sign in signs) and time.monotonic() - since >= LEASE_SECONDS:
            came = _end_sessions(sql, signs)
            if came not in said:
                say(f"the other worker stands still{came}")
            said.add(came)
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _has_locked(sql: Statements, key: int) -> bool:
    (tried,) = sql.fetch("try_lock", key=key)
    return bool(tried["held"])


def _end_sessions(sql: Statements, signs: list[dict[str, Any]]) -> str:
    """What came of it, in words."""
    try:
        sql.fetch("end_sessions", pids=[sign["pid"] for sign in signs])
    except psycopg.errors.InsufficientPrivilege as error:
        return f": {first_line(error)}"
    return "; ended its sessions, to go on in its place"
