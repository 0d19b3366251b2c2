"""How consumers learn that there is something new: one of them looks often, and wakes the others.

Triggers never notify, as a NOTIFY makes commits wait for each other. Of all consumers that wait, the one with
the lock looks twenty times a second, and tells the rest by NOTIFY; they look once a second by themselves, and as often
as it does as long as nobody wakes them: who has the lock may be stuck, or no consumer at all.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, import_psycopg

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

CHANNEL = "audit_stream"
"""A NOTIFY here wakes consumers that wait."""
SHORT_WAIT = 0.05
"""Seconds between two looks of the one that wakes the others."""
ASK_EVERY = 1.0
"""Seconds between two attempts to be the one."""


class Pump:
    """The part that a consumer has in it."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection = connection
        text = f"audit-toolkit stream {schema}".encode()
        self._key = int.from_bytes(hashlib.sha256(text).digest()[:8], signed=True)
        self._asked_at = self._told_at = float("-inf")
        self._was_woken = False
        self.leads = False
        """Whether it is the one that wakes the others."""
        self.is_woken = False
        """Whether another one wakes it, as far as was seen."""
        connection.execute(f"listen {CHANNEL}")

    def wait(self, seconds: float) -> None:
        """Wait for something new, so long at most."""
        if not self.leads and time.monotonic() - self._asked_at > ASK_EVERY:
            self._ask()
        notes = list(self._connection.notifies(timeout=self.pause(seconds), stop_after=1))
        self._was_woken = any(note.pid != self._connection.info.backend_pid for note in notes)
        if self._was_woken:
            self.is_woken = True

    def pause(self, seconds: float) -> float:
        """How long it waits, where there is no hurry before so many seconds."""
        return seconds if self.is_woken and not self.leads else min(seconds, SHORT_WAIT)

    def found(self, event_id: int) -> None:
        """Tell the others up to which event there is something new; who found it without being told looks often."""
        if not self.leads:
            self.is_woken = self._was_woken
        elif time.monotonic() - self._told_at > SHORT_WAIT:
            self._told_at = time.monotonic()
            values = {"channel": CHANNEL, "event_id": str(event_id)}
            fetch(self._connection, "select pg_notify(%(channel)s, %(event_id)s)", values)

    def rest(self) -> None:
        """Let another one do it: this one does not look for a while, or ends."""
        if self.leads and not (self._connection.closed or self._connection.broken):
            self.leads = False
            with suppress(import_psycopg().Error):
                fetch(self._connection, "select pg_advisory_unlock(%(key)s)", {"key": self._key})

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        sql = "select pg_try_advisory_lock(%(key)s) as is_held"
        self.leads = bool(fetch(self._connection, sql, {"key": self._key})[0]["is_held"])
