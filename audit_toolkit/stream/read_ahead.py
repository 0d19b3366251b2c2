"""The next batch is read while a sink has the one before: the server, the disk and the receiver work at the same time.

A thread reads, on the consumer's own connection, and only while nobody else needs it: whoever wants the connection
waits until that batch is read. What is read ahead is delivered after what was read before, and moves no place.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import import_psycopg

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.trail import Batch

    Connection = psycopg.Connection[Any]


SWITCH_AFTER = 0.0002
"""Seconds after which a thread lets another one go on. Python's 5 ms, at each answer of the server, are the time in
which a hundred events are read."""


@contextmanager
def quick_switches() -> Iterator[None]:
    """Let threads take turns sooner, all of this process: for one that does nothing but deliver."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_AFTER)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Ahead:
    """Batches, each read when it is asked for, or before."""

    def __init__(self, connection: Connection, batches: Generator[Batch, None, None]) -> None:
        self._connection = connection
        self._batches = batches
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="audit-stream-reader")
        self._coming: Future[Batch] | None = None

    def take(self) -> Batch:
        """The next batch."""
        coming, self._coming = self._coming, None
        return next(self._batches) if coming is None else coming.result()

    def begin(self) -> None:
        """Begin to read the next one."""
        self._coming = self._reader.submit(next, self._batches)

    def settle(self) -> None:
        """Wait until it is read: then the connection is free."""
        if self._coming is not None:
            wait([self._coming])

    def close(self) -> None:
        """End the reading, whatever it waits for."""
        if self._coming is not None and not self._coming.done():
            with suppress(import_psycopg().Error):
                self._connection.cancel_safe(timeout=5)
        self._reader.shutdown(wait=True)
        self._batches.close()
