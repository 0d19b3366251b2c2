"""Snapshots of rows that are older than the trail, as S events, while the application goes on writing.

A baseline writes one event for each row whose last known image differs from the row that is there: all rows
the first time, none when everything is known, what changed unseen after a pause. So it can be killed and run
again at any time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.capture.condition import check_condition
from audit_toolkit.capture.render import Target
from audit_toolkit.catalog import Column
from audit_toolkit.config import Capture
from audit_toolkit.connection import fetch, import_psycopg, refusals, translated_errors
from audit_toolkit.errors import RuleError
from audit_toolkit.plan import DEFAULT_LOCK_TIMEOUT
from audit_toolkit.schema.captured_tables import note_changes
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

BATCH_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a baseline has come: rows looked at, and events written for them."""

    seen: int = 0
    written: int = 0

    def __add__(self, other: Progress) -> Progress:
        return Progress(seen=self.seen + other.seen, written=self.written + other.written)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    progress: Progress
    last_key: tuple[str, ...]
    missed: tuple[tuple[str, ...], ...]
    """Keys of rows that others held a lock on."""


def take_baseline(
    connection: Connection,
    target: Target,
    schema: str,
    *,
    reason: str = "rows older than the trail",
    batch_rows: int = BATCH_ROWS,
    lock_timeout: str = DEFAULT_LOCK_TIMEOUT,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Snapshot the rows of a table that has a key, batch by batch; how many rows and events that made.

    Each batch is a transaction of its own that holds FOR SHARE locks on its rows for some milliseconds. The
    connection must be in autocommit mode and print in our settings (`connection.connect`).
    Raises `BusyError` when a row stays locked for longer than `lock_timeout`: run it again, it goes on.
    """
    check_condition(connection, target.table, target.rule, schema)
    if not target.table.key:
        raise RuleError(
            f"{target.table.name} has no primary key: its rows cannot be told apart",
            hint="snapshot it in one go while writes wait: audit baseline --lock",
        )
    # What DDL did to values comes before the events that say what they are now.
    note_changes(connection, schema)
    with translated_errors():
        _require_readable(connection, target, schema)
        _note(connection, target, schema, "begun")
    batches = _Batches(connection, target, schema, reason, batch_rows, lock_timeout)
    total = Progress()
    for progress in batches:
        total += progress
        on_progress(total)
    total += Progress(written=batches.write_gone())
    _note(connection, target, schema, "whole")
    return total


def take_locked_baseline(
    connection: Connection,
    target: Target,
    schema: str,
    *,
    reason: str = "rows older than the trail",
    lock_timeout: str = DEFAULT_LOCK_TIMEOUT,
) -> Progress:
    """Snapshot all rows of a table without a key in one statement; its writers wait until it is done.

    Raises `RuleError` when the trail has events of the table already: its rows cannot be told apart, so
    nobody could say which of them a snapshot is of.
    """
    check_condition(connection, target.table, target.rule, schema)
    with translated_errors(), connection.transaction():
        _set_lock_timeout(connection, lock_timeout)
        _run(connection, render("baseline/lock_table", table=target.table.name))
        _await_wal(connection, target, schema)
        _require_readable(connection, target, schema)
        if _has_events(connection, target, schema):
            raise RuleError(
                f"{target.table.name} has no primary key, and its rows have events already",
                hint="without a primary key a baseline is possible only before the first change; "
                "add a primary key",
            )
        written = _run(connection, render("baseline/whole", reason=reason, **target.values(schema)))
        # At the end: the row of the registry stays locked until the transaction is over.
        _note(connection, target, schema, "begun")
        _note(connection, target, schema, "whole")
    return Progress(seen=written, written=written)


FEW_MISSED = 10
"""Rows of a batch that are waited for one by one, before it is asked anew what the trail has by now."""


@dataclass(frozen=True, slots=True)
class _Batches:
    """Iterates over the batches of one baseline; each is committed when it is yielded."""

    connection: Connection
    target: Target
    schema: str
    reason: str
    rows: int
    lock_timeout: str

    def __iter__(self) -> Iterator[Progress]:
        after: tuple[str, ...] = ()
        settled = self._settle()
        while batch := self._take(after=after, settled=settled):
            yield batch.progress
            for key in batch.missed:
                # The only lock that we hold: waiting for it delays this run and nobody else.
                waited = self._take(wanted=key)
                if waited:
                    yield Progress(written=waited.progress.written)
            if len(batch.missed) > FEW_MISSED:
                settled = self._settle()
            after = batch.last_key

    def _settle(self) -> str | None:
        """Of a table that is read from the WAL: the transaction before which the trail has all changes.

        Rows that a later one wrote may have changes that are not read yet, whose ids must be lower than their
        snapshot's.
        """
        if self.target.rule.capture is not Capture.WAL:
            return None
        [row] = fetch(self.connection, "select pg_snapshot_xmin(pg_current_snapshot())::xid as xid")
        with self.connection.transaction():
            _await_wal(self.connection, self.target, self.schema)
        return str(row["xid"])

    def write_gone(self) -> int:
        """Write events for the rows that went away unseen; how many."""
        found = [row["row_key"] for row in fetch(self.connection, self._gone(None))]
        if not found:
            return 0
        with translated_errors(), self.connection.transaction():
            _set_lock_timeout(self.connection, self.lock_timeout)
            _run(self.connection, render("baseline/lock_table", table=self.target.table.name))
            _await_wal(self.connection, self.target, self.schema)
            return _run(self.connection, self._gone(found))

    def _gone(self, found: Sequence[str] | None) -> str:
        values = self.target.values(self.schema)
        return render("baseline/gone", reason=self.reason, found=found, **values)

    def _take(
        self,
        *,
        after: tuple[str, ...] = (),
        wanted: tuple[str, ...] = (),
        settled: str | None = None,
    ) -> _Batch | None:
        values = self.target.values(self.schema) | {
            "after": self._typed(after),
            "wanted": self._typed(wanted),
            "settled": settled,
            "size": self.rows,
            "reason": self.reason,
        }
        with translated_errors(), self.connection.transaction():
            _set_lock_timeout(self.connection, self.lock_timeout)
            _run(self.connection, render("baseline/keep_columns", table=self.target.table.name))
            _require_readable(self.connection, self.target, self.schema)
            if wanted:
                _run(self.connection, render("baseline/lock_row", **values))
                _await_wal(self.connection, self.target, self.schema)
            [row] = fetch(self.connection, render("baseline/batch", **values))
        if not row["seen"]:
            return None
        return _Batch(
            progress=Progress(seen=row["seen"], written=row["written"]),
            last_key=tuple(row["last_key"]),
            missed=tuple(tuple(_as_list(key)) for key in row["missed"]),
        )

    def _typed(self, key: tuple[str, ...]) -> list[tuple[str, str]]:
        types = {column.name: _without_domain(column) for column in self.target.table.columns}
        return [(v, types[name]) for v, name in zip(key, self.target.table.key, strict=False)]


def _without_domain(column: Column) -> str:
    """A type to read a value of the column as, without the checks of a domain, which are somebody's code."""
    bare = re.sub(r"\([\d,]*\)", "", column.type_name)
    if column.plain_type is None or column.plain_type == bare:
        return column.type_name
    return {"character": "bpchar", "bit": "varbit"}.get(column.plain_type, column.plain_type)


def _require_readable(connection: Connection, target: Target, schema: str) -> None:
    """Raises `RuleError` where images would not be what capture makes of the rows, or not of all rows."""
    [row] = fetch(connection, render("baseline/can_be_read", **target.values(schema)))
    name = target.table.name
    if not row["sees_all_rows"]:
        raise RuleError(
            f"row security hides rows of {name} from this role, so a snapshot would be incomplete",
            hint="use a role that sees all rows: one with BYPASSRLS, or the owner if row security "
            "is not forced",
        )
    gone = [column for column in target.hidden if target.table.column(column) is None]
    if gone or row["disguised"]:
        what = f"{name} has no column {gone[0]!r}" if gone else f"columns of {name} were renamed"
        raise RuleError(
            f"{what}: values that should be hidden would appear under another name",
            hint="audit check names the command that repairs it",
        )
    if not row["has_columns"]:
        raise RuleError(
            f"the columns of {name} changed while its baseline ran", hint="run it again to continue"
        )


def _await_wal(connection: Connection, target: Target, schema: str) -> None:
    """Where a worker reads the table from the WAL, wait until it has read all; `AuditError` if it does not in 15 s."""
    if target.rule.capture is Capture.WAL:
        with refusals():
            _run(
                connection,
                render("baseline/await_wal", schema=schema, function=target.function),
            )


def _note(connection: Connection, target: Target, schema: str, state: str) -> None:
    """Note that a baseline has begun; or that from here on a row without an event is one that came past capture."""
    errors = import_psycopg().errors
    # A trail of an older release has no such note.
    with suppress(errors.UndefinedTable, errors.UndefinedColumn), connection.transaction():
        connection.execute(render(f"baseline/note_{state}", **target.values(schema)))


def _as_list(key: Any) -> list[str]:
    return list(json.loads(key) if isinstance(key, str) else key)


def _has_events(connection: Connection, target: Target, schema: str) -> bool:
    name = target.table.name
    statement = render("baseline/has_events", schema=schema, table=name)
    return bool(fetch(connection, statement))


def _set_lock_timeout(connection: Connection, lock_timeout: str) -> None:
    connection.execute("select set_config('lock_timeout', %s, true)", (lock_timeout,))


def _run(connection: Connection, statement: str) -> int:
    return connection.execute(statement).rowcount
