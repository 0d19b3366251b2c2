"""A server that is restarted, or whose standby is promoted, under a command that goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from audit_toolkit.cli.output import visible
from audit_toolkit.errors import ConnectError, LostError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

PATIENCE = 60.0
"""Seconds that a command goes on without the server: most restarts and failovers take less."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two attempts to connect again: twice as long each time."""


def ride_out(
    connect: Callable[[], AbstractContextManager[Connection]],
    work: Callable[[Connection], None],
    patience: float = PATIENCE,
) -> None:
    """Work on a connection, and where it is lost on another one, as soon as there is one.

    Raises `ConnectError` where the server cannot be reached at first, and once it is gone for longer than `patience`.
    """
    outage: _Outage | None = None
    while True:
        try:
            with connect() as connection:
                outage = None
                work(connection)
                return
        except ConnectError as error:
            if outage is None and not isinstance(error, LostError):
                raise  # it was never there, or it is not the server of the trail
            outage = outage or _Outage(patience, error)
            outage.wait(error)


class _Outage:
    """From the end of one connection to the beginning of the next."""

    def __init__(self, patience: float, error: ConnectError) -> None:
        self._until = time.monotonic() + patience
        self._pause = FIRST_PAUSE
        if patience:
            print(visible(f"warning: {error.message}; connecting again"), file=sys.stderr)

    def wait(self, error: ConnectError) -> None:
        """Wait for the next attempt; raise the error where that would be too late."""
        if time.monotonic() + self._pause > self._until:
            raise error
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
