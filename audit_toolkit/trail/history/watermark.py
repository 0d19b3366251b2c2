"""Up to which event the trail is closed: no transaction that still runs can add one before it.

The same certainty as that of `audit history --follow` (see `trail/history/follow.py`), but without waiting for long:
where a transaction stays open, the watermark is what an earlier run noted and what is certain by now.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.names import quote_plainly
from audit_toolkit.templates import query, render
from audit_toolkit.trail.history.follow import Blocker
from audit_toolkit.trail.rows.lookup import trail_table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

PAUSE = 0.05
"""Seconds between two looks at transactions that have to end."""
MOST_MARKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """No event up to that id can appear once all transactions before that number are over."""

    event_id: int
    transaction_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """Up to where events are certain."""

    event_id: int | None
    """The last one; None where none is certain yet."""
    marks: tuple[Mark, ...]
    """Those that are not reached yet, for the next run, as long as it is in the same cluster."""
    held_by: tuple[Blocker, ...] = ()
    """The open transactions that keep it from going further."""


def find_watermark(
    connection: Connection,
    schema: str,
    marks: tuple[Mark, ...] = (),
    *,
    wait: float,
    known: int | None = None,
) -> Watermark:
    """How far the trail is closed, after at most `wait` seconds for running transactions to end.

    `known` is an event that is not seen through the trail, as that of a partition which was detached.
    The connection has to be in autocommit mode and outside a transaction.
    """
    ends = time.monotonic() + wait
    values = {"trail": trail_table(schema), "recent": False}
    (row,) = fetch(connection, render("queries/newest_event", **values), {"after": 0})
    newest = max((n for n in (row["event_id"], known) if n is not None), default=None)
    if newest is None:
        return Watermark(event_id=None, marks=marks)
    held_by = _unnumbered(connection, schema, ends)
    if not held_by:
        # Every transaction that drew an id up to the newest one has a transaction id by now, lower than this.
        number = fetch(connection, query("next_transaction"))[0]["transaction_id"]
        marks = (*marks, Mark(event_id=newest, transaction_id=number))
        held_by = _running(connection, marks[-1], ends)
    settled = [mark.event_id for mark in marks if _state(connection, mark)["settled"]]
    reached = max(settled, default=None)
    if reached is not None:
        _flush(connection)
    left = [mark for mark in marks if reached is None or mark.event_id > reached]
    return Watermark(event_id=reached, marks=_thinned(left), held_by=tuple(held_by))


def _unnumbered(connection: Connection, schema: str, ends: float) -> list[Blocker]:
    """Transactions that drew an id and have no number: mostly none, and for an instant."""
    sequence = f"{quote_plainly(schema)}.logged_actions_event_id_seq"
    statement = render("queries/tail_unnumbered", sequence=sequence)
    rows: list[dict[str, Any]] = []
    for _ in _until(ends):
        rows = fetch(connection, statement)
        if not rows:
            break
    return [Blocker(transaction_id=None, pid=row["pid"]) for row in rows]


def _running(connection: Connection, mark: Mark, ends: float) -> list[Blocker]:
    for _ in _until(ends):
        if _state(connection, mark)["settled"]:
            return []
    parameters = {"transaction_id": str(mark.transaction_id)}
    return list(map(Blocker.from_record, fetch(connection, query("tail_blockers"), parameters)))


def _state(connection: Connection, mark: Mark) -> dict[str, Any]:
    parameters = {"transaction_id": str(mark.transaction_id)}
    (state,) = fetch(connection, query("tail_settled"), parameters)
    return state


def _flush(connection: Connection) -> None:
    """Wait until what others can see survives a crash, as it may not with synchronous_commit = off."""
    state = _state(connection, Mark(event_id=0, transaction_id=0))
    while not fetch(connection, query("tail_flushed"), state)[0]["flushed"]:
        fetch(connection, query("next_transaction"))  # its WAL record wakes the WAL writer
        time.sleep(PAUSE)


def _until(ends: float) -> Iterator[None]:
    yield
    while time.monotonic() < ends:
        time.sleep(PAUSE)
        yield


def _thinned(marks: list[Mark]) -> tuple[Mark, ...]:
    """At most so many: the older ones with larger steps."""
    while len(marks) > MOST_MARKS:
        marks = [mark for number, mark in enumerate(marks) if number % 2 or mark is marks[-1]]
    return tuple(marks)
