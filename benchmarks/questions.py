"""What questions cost that are asked of a long trail: a row, a table of the past, differences, what one actor did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from statistics import fmean
from typing import Any

from audit_toolkit.config import TrailSettings
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from audit_toolkit.trail import blame, diff, history, row_at, table_at
from benchmarks.backend import Backend, Databases
from benchmarks.history import LEAVES, fill_history

ACTOR = "user:42"
"""One of 997, each with as many events."""
ROWS = 10
"""So many rows are asked for, one after the other: the first costs more, as the session knows no partition yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question, asked once, or of several rows: then all figures are those of one."""

    words: str
    found: int
    """Rows of the answer."""
    server: float
    """Seconds on a CPU, in the backend."""
    client: float
    """Seconds on a CPU, in this process."""


def ask(databases: Databases, events: int) -> list[Question]:
    """All questions, of a trail of so many events (a power of ten) in two years of partitions."""
    with Backend(databases.dsn(databases.template())) as backend:
        apply(plan_trail(TrailSettings()), backend.connection)
        fill_history(backend.connection, events)
        first: datetime = backend.value("select min(action_tstamp) from audit.logged_actions")
        last: datetime = backend.value("select max(action_tstamp) from audit.logged_actions")
        middle = first + (last - first) / 2
        asked = [_asked(backend, words, call) for words, call in _questions(backend, middle, last)]
    return [_mean(list(same)) for _, same in groupby(asked, key=lambda question: question.words)]


def as_text(questions: list[Question], events: int) -> str:
    """A table of them."""
    lines = [
        f"{events} events, {events // 10} rows, {LEAVES} partitions; seconds on a CPU",
        "",
        "| question | rows | server | client |",
        "|---|---|---|---|",
    ]
    lines += [f"| {q.words} | {q.found} | {q.server:.3f} | {q.client:.3f} |" for q in questions]
    return "\n".join(lines)


def _questions(
    backend: Backend, middle: datetime, last: datetime
) -> Iterator[tuple[str, Callable[[], Sized]]]:
    connection: Any = backend.connection
    day, month = timedelta(days=1), timedelta(days=30)
    rows: dict[str, Callable[[int], Sized]] = {
        "`history` of a row": lambda key: history(connection, "orders", key),
        "`blame` of a row": lambda key: blame(connection, "orders", key),
        "`row-at` in the middle": lambda key: row_at(connection, "orders", key, middle) or (),
    }
    for words, of_row in rows.items():
        yield f"{words}, the first", lambda of_row=of_row: of_row(1)  # type: ignore[misc]
        for key in range(2, 2 + ROWS):
            yield words, lambda of_row=of_row, key=key: of_row(key)  # type: ignore[misc]
    yield "`history`, the newest 100 of the table", lambda: history(connection, "orders", limit=100)
    yield "`table-at` in the middle", lambda: list(table_at(connection, "orders", middle))
    yield "`table-at` at the end", lambda: list(table_at(connection, "orders", last))
    yield "`diff` of a day", lambda: list(diff(connection, "orders", last - day, last))
    yield "`diff` of three days", lambda: list(diff(connection, "orders", last - 3 * day, last))
    yield "`diff` of a month", lambda: list(diff(connection, "orders", last - month, last))
    yield "`diff` of the second half", lambda: list(diff(connection, "orders", middle, last))
    for words, since in (("a day", last - day), ("30 days", last - month), ("all", None)):
        yield (
            f"`history --actor`, {words}",
            lambda since=since: history(connection, actor=ACTOR, since=since),  # type: ignore[misc]
        )
    yield (
        "`history --actor`, the newest 100",
        lambda: history(connection, actor=ACTOR, limit=100, newest_first=True),
    )


def _mean(asked: list[Question]) -> Question:
    return Question(
        words=asked[0].words,
        found=asked[0].found,
        server=fmean(question.server for question in asked),
        client=fmean(question.client for question in asked),
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
