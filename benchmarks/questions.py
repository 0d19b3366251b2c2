"""What questions cost that read much of a long trail: a table of the past, differences, what one actor did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audit_toolkit.config import TrailSettings
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from audit_toolkit.trail import diff, history, table_at
from benchmarks.backend import Backend, Databases
from benchmarks.history import LEAVES, fill_history

ACTOR = "user:42"
"""One of 997, each with as many events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question, asked once."""

    words: str
    found: int
    """Rows of the answer."""
    server: float
    """Seconds on a CPU, in the backend."""
    client: float
    """Seconds on a CPU, in this process."""


def ask(databases: Databases, events: int) -> list[Question]:
    """All questions, of a trail of so many events (a power of ten) in a year of partitions."""
    with Backend(databases.dsn(databases.template())) as backend:
        apply(plan_trail(TrailSettings()), backend.connection)
        fill_history(backend.connection, events)
        first: datetime = backend.value("select min(action_tstamp) from audit.logged_actions")
        last: datetime = backend.value("select max(action_tstamp) from audit.logged_actions")
        middle = first + (last - first) / 2
        return [_asked(backend, words, call) for words, call in _questions(backend, middle, last)]


def as_text(questions: list[Question], events: int) -> str:
    """A table of them."""
    lines = [
        f"{events} events, {events // 10} rows, {LEAVES - 1} partitions; seconds on a CPU",
        "",
        "| question | rows | server | client |",
        "|---|---|---|---|",
    ]
    lines += [f"| {q.words} | {q.found} | {q.server:.2f} | {q.client:.2f} |" for q in questions]
    return "\n".join(lines)


def _questions(
    backend: Backend, middle: datetime, last: datetime
) -> Iterator[tuple[str, Callable[[], Sized]]]:
    connection: Any = backend.connection
    day, month = timedelta(days=1), timedelta(days=30)
    yield "`table-at` in the middle", lambda: list(table_at(connection, "orders", middle))
    yield "`table-at` at the end", lambda: list(table_at(connection, "orders", last))
    yield "`diff` of a day", lambda: list(diff(connection, "orders", last - day, last))
    yield "`diff` of three days", lambda: list(diff(connection, "orders", last - 3 * day, last))
    yield "`diff` of a month", lambda: list(diff(connection, "orders", last - month, last))
    yield "`diff` of the second half", lambda: list(diff(connection, "orders", middle, last))
    for words, since in (("a day", last - day), ("30 days", last - month), ("11 months", None)):
        yield (
            f"`history --actor`, {words}",
            lambda since=since: history(connection, actor=ACTOR, since=since),  # type: ignore[misc]
        )
    yield (
        "`history --actor`, the newest 100",
        lambda: history(connection, actor=ACTOR, limit=100, newest_first=True),
    )


def _asked(backend: Backend, words: str, call: Callable[[], Sized]) -> Question:
    server, client = backend.cpu_time(), time.process_time()
    found = len(call())
    return Question(
        words=words,
        found=found,
        server=(backend.cpu_time() - server) / 1e9,
        client=time.process_time() - client,
    )
