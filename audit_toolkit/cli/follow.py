"""`audit history --follow`: the trail printed as it grows."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit.cli import times
from audit_toolkit.cli.event_formats import EventFormat, Shown, print_as
from audit_toolkit.cli.notes import note, nothing_found
from audit_toolkit.cli.output import visible
from audit_toolkit.connection import first_line
from audit_toolkit.errors import ConnectError
from audit_toolkit.trail import Position, follow_subject

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.trail import Batch, Blocker, Event, Filter
    from audit_toolkit.trail.rows.lookup import Scope

    Connection = psycopg.Connection[Any]

HELD_SECONDS = 3.0
"""So long nobody is told what a tail is waiting for."""


class Tail:
    """Prints batches; each is flushed before the cursor's file says that it was printed."""

    def __init__(
        self, connection: Connection, subject: Scope, wanted: Filter, cursor: Path | None
    ) -> None:
        self._connection = connection
        self._subject = subject
        self._wanted = wanted
        self._cursor = cursor
        self._position: Position | None = None
        self._last: int | None = None
        self._waits: dict[object, float] = {}

    def print(self, output: EventFormat, shown: Shown) -> None:
        """Print until Ctrl-C, or until nobody reads any more. Raises what `follow` raises."""
        import psycopg

        with closing(self._batches()) as batches:
            try:
                print_as(output, self._subject, self._events(batches), shown)
            except (KeyboardInterrupt, _ReaderLeftError):
                pass
            except BrokenPipeError:
                # What is left in the buffer would raise again when Python ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            except psycopg.OperationalError as error:
                if self._connection.broken:
                    raise self._lost(error) from error
                # Ctrl-C can leave a query behind, and what then ends its transaction fails.
                if not _was_interrupted(error):
                    raise
            finally:
                self._connection.close()

    def _batches(self) -> Any:
        after: Position | int | None = self._wanted.after
        if self._cursor is not None and self._cursor.exists():
            after = Position.load(self._cursor)
        wanted = replace(self._wanted, after=None)
        return follow_subject(self._connection, self._subject, wanted, after)

    def _events(self, batches: Iterator[Batch]) -> Iterator[Event]:
        for batch in batches:
            yield from batch.events
            sys.stdout.flush()
            # Not the position, which may be an event of another table.
            self._last = max((event.event_id for event in batch.events), default=self._last)
            self._keep(batch.position)
            self._explain(batch)
            if not batch.events and _reader_left():
                raise _ReaderLeftError

    def _keep(self, position: Position) -> None:
        if position == self._position:
            return
        if self._cursor and not self._position and position.system_identifier is None:
            note(
                "this role may not read the server's identity: a cursor from another server "
                "would go unnoticed"
            )
        self._position = position
        if self._cursor is not None:
            position.save(self._cursor)

    def _explain(self, batch: Batch) -> None:
        now = time.monotonic()
        if not batch.held_by and self._last is None and "idle" not in self._waits:
            self._waits["idle"] = now
            note(nothing_found(self._connection, self._subject) + "; waiting for new ones")
        known = self._waits
        for blocker in batch.held_by:
            began = known.setdefault(blocker, now)
            if began <= now - HELD_SECONDS:
                known[blocker] = float("inf")
                note(describe_blocker(blocker))

    def _lost(self, error: Exception) -> ConnectError:
        option = f" with --after {self._last}" if self._last and not self._cursor else ""
        go_on = f"run the same command{option} to continue after the last printed event"
        return ConnectError(f"the connection was lost: {first_line(error)}", hint=go_on)


class _ReaderLeftError(Exception):
    """The reader of our output is gone."""


def _was_interrupted(error: BaseException | None) -> bool:
    return error is not None and (
        isinstance(error, KeyboardInterrupt) or _was_interrupted(error.__context__)
    )


def _reader_left() -> bool:
    if not hasattr(select, "poll"):
        return False
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # no file at all
        return False
    poll = select.poll()
    poll.register(number, 0)
    return any(what & select.POLLERR for _, what in poll.poll(0))


def describe_blocker(blocker: Blocker) -> str:
    """Whom the tail waits for, and how that ends."""
    since = f" since {times.show_moment(blocker.since)}" if blocker.since else ""
    if blocker.prepared_name is not None:
        remedy = "COMMIT PREPARED or ROLLBACK PREPARED ends it"
    else:
        remedy = "it may still add events that come before others"
    return visible(f"waiting for {blocker.who}, open{since}: {remedy}")
