"""The worker: peek, decode, have the server make images, keep events and progress in one transaction, advance.

Exactly once: the position of the last transaction is written with its events, whatever dies; what the
slot tells again is passed over. A transaction of the source is kept whole or not at all, and never held
in memory whole. The session that writes holds an advisory lock, so that whoever lost it writes nothing.
"""

from __future__ import annotations

import builtins
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from audit_toolkit.connection import fetch, first_line
from audit_toolkit.errors import AuditError, BusyError, PermissionDeniedError, UsageError
from audit_toolkit.names import quote_identifier, replay_function, wal_publication, wal_tables
from audit_toolkit.plurals import counted
from audit_toolkit.templates import query, render, render_statements
from audit_toolkit.wal.changes import Change, Done, full_xid, lsn_text, read_fields
from audit_toolkit.wal.decoder import NULL_FIELD
from audit_toolkit.wal.messages import Begin, Relation
from audit_toolkit.wal.slot import advance, create_slot, peek
from audit_toolkit.wal.staging import (
    HEADER,
    STAGED,
    TRAILER,
    Lines,
    is_incomplete,
    line,
    lines,
    stamp,
)

Connection = psycopg.Connection[Any]

FLUSH_ROWS = 5_000
"""Changes that become events at once; of a large transaction no more are held in memory."""
FLUSH_BYTES = 16 * 1024 * 1024
PEEK_ROWS = 50_000
"""Changes that are read before the slot is advanced, at least: decoding begins anew for each reading."""
HEARTBEAT_BYTES = 16 * 1024
"""An idle slot is advanced once so much was written by others: what it keeps would fill the disk."""
HEARTBEAT_SECONDS = 5.0
LOCK_TIMEOUT = "3s"
_LOST = "the replication slot was lost: changes that were not read yet are unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that is captured from the WAL, or shall be."""

    function_name: str
    relation_id: int
    schema_name: str
    table_name: str
    wal_since: int | None
    """What commits behind it is read from the WAL; None while triggers record it."""
    columns: Mapping[str, str]
    """Their types by their names, as the trail last noted them."""
    is_there: bool
    is_changed: bool
    """Whether DDL has changed it since."""
    has_triggers: bool
    """Whether a trigger that records it is enabled."""
    virtual_columns: tuple[str, ...]
    unpublished_columns: tuple[str, ...]
    """Stored generated columns that this server never puts into the WAL's stream."""

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.schema_name}.{self.table_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one reading of the slot came to."""

    events: int
    """Changes that were read of tables that are captured; those that no condition wants are among them."""
    is_all: bool
    """Whether nothing more was there to be read."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """One worker on two connections of its own, in autocommit: `writer` keeps, `reader` reads the slot."""

    writer: Connection
    reader: Connection
    schema: str = "audit"
    say: Callable[[str], None] = lambda _: None
    slot: str = ""
    _staged: dict[str, Relation] = field(default_factory=dict)
    _filled: set[str] = field(default_factory=set)
    """The tables of which rows are staged in this transaction."""
    _noted: dict[int, Relation] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    heartbeat: float = HEARTBEAT_SECONDS
    """After so many seconds an idle slot is advanced in any case."""
    _is_ready: bool = False
    _may_log_snapshot: bool = False
    _seen: int = 0
    _beat: float = 0.0

    @property
    def publication(self) -> str:
        """The publication of the tables that it reads."""
        return wal_publication(self.schema)

    def start(self, *, wait: bool = True) -> None:
        """Become the one worker, and see to the slot.

        Raises `BusyError` where another one runs and this one is not to wait for its end, and `UsageError`
        where the server cannot do it.
        """
        self.slot = slot_name(self.writer, self.schema)
        (state,) = fetch(self.writer, "select current_setting('wal_level') as wal_level")
        if state["wal_level"] != "logical":
            raise UsageError(
                f"wal_level is {state['wal_level']}, so changes cannot be read from the WAL",
                hint="set wal_level = logical in postgresql.conf, and restart the server; triggers record "
                "changes until then",
            )
        self.writer.execute(render("queries/wal_settings", of_transaction=False))
        self.writer.execute(query("wal_session"))
        self._run("register", slot=self.slot)
        self._lock(wait=wait)
        self._run("forget_others", slot=self.slot)

    def turn(self) -> Round:
        """Take over what is ready, read once what is there, and let the server forget it."""
        if not self._is_ready and not self._prepare():
            return Round(events=0, is_all=True)
        tables = self._tables()
        pending = [table for table in tables if table.wal_since is None or table.has_triggers]
        taken = [table for table in pending if self._take_over(table)]
        if taken:
            self._run_note_coverage()
            tables = self._tables()
        changed = [table for table in tables if table.wal_since is not None and table.is_changed]
        gone = [table for table in tables if table.wal_since is not None and not table.is_there]
        found = self._read(tables)
        if found.is_all:
            for table in (*changed, *gone):
                self._note_changes(table)
        return found

    def fail(self, error: Exception) -> None:
        """Note why it ends, where it still can."""
        with suppress(psycopg.Error):
            self._run("fail", slot=self.slot, error=first_line(error))

    def _lock(self, *, wait: bool) -> None:
        key = {"key": self._state()["lock_key"]}
        (tried,) = fetch(self.writer, "select pg_try_advisory_lock(%(key)s) as held", key)
        if not tried["held"]:
            if not wait:
                raise BusyError(
                    "another worker is running",
                    hint="it reads what there is; stop it first to do it here",
                )
            self.say("another worker is running; waiting until it ends")
            self.writer.execute("select pg_advisory_lock(%(key)s)", key)

    def _prepare(self) -> bool:
        """See to the slot, once there is a publication: before PostgreSQL 18, an older slot cannot follow it."""
        named = {"publication": self.publication}
        there = "select from pg_publication where pubname = %(publication)s"
        if not self.writer.execute(there, named).rowcount:
            self._say_once("no table is captured from the WAL: audit install --capture wal")
            return False
        self._ensure_slot()
        (may,) = self._fetch("may_log_snapshot")
        self._may_log_snapshot = may["may_log_snapshot"]
        self._is_ready = True
        return True

    def _ensure_slot(self) -> None:
        """Make the slot where there is none; where there was one, say in the trail what is lost."""
        state = self._state()
        is_new = state["read_until"] == "0/0"
        if state["slot_is_there"] and state["is_foreign"]:
            raise UsageError(
                f"the replication slot {self.slot} is not of pgoutput, or of another database",
                hint=f"drop it: select pg_drop_replication_slot('{self.slot}')",
            )
        is_well = (
            state["slot_is_there"]
            and state["is_of_cluster"]
            and state["wal_status"] != "lost"
            and not state["is_ahead"]
        )
        if is_well:
            return
        if state["slot_is_there"]:
            self.writer.execute("select pg_drop_replication_slot(%(slot)s)", {"slot": self.slot})
        try:
            create_slot(self.writer, self.slot)
        except psycopg.errors.InsufficientPrivilege as error:
            (row,) = fetch(self.writer, "select current_user as role")
            role = row["role"]
            raise PermissionDeniedError(
                f"the role of the worker may not make a replication slot: {first_line(error)}",
                hint=f"alter role {quote_identifier(role)} replication "
                "(on managed services: grant their role for replication)",
            ) from error
        lsn = self._state()["confirmed_flush_lsn"]
        (noted,) = self._fetch("start", slot=self.slot, lsn=lsn, reason=_LOST)
        if not is_new:
            self.say(
                f"the replication slot was lost: {counted(noted['gaps'], 'table')} with a gap in the trail, which "
                "audit baseline closes"
            )

    def _take_over(self, table: Table) -> bool:
        if table.unpublished_columns:
            self._say_once(
                f"{table.name} stays with triggers: before PostgreSQL 18 the generated column "
                f"{table.unpublished_columns[0]} cannot be read from the WAL"
            )
            return False
        try:
            with self.writer.transaction():
                self.writer.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
                (found,) = self._fetch("take_over", function=table.function_name)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            return False  # writers hold it; triggers record it until the next time
        except psycopg.errors.InsufficientPrivilege as error:
            self._say_once(f"{table.name} stays with triggers: {first_line(error)}")
            return False
        if found["is_taken"]:
            self._say_once(f"{table.name} is read from the WAL from here on; its triggers are off")
        return bool(found["is_taken"])

    def _read(self, tables: Iterable[Table]) -> Round:
        """One reading of the slot. The connection that reads holds what is left, and this one a transaction's share."""
        by_relation = _read_ones(tables)
        state = self._state()
        self._log_snapshot(state["behind_bytes"])
        done = lsn_number(state["commit_lsn"])
        (now,) = fetch(
            self.writer,
            "select pg_current_wal_flush_lsn()::text as lsn, pg_snapshot_xmax(pg_current_snapshot())::text as xid, "
            "clock_timestamp() as at",
        )
        count = _Count()
        batch = _Batch(next_xid=int(now["xid"]))
        noted: Relation | None = None
        total, end = 0, None
        messages = peek(self.reader, self.slot, self.publication, at_least=PEEK_ROWS)
        self.writer.execute("begin")
        try:
            for found in read_fields(count.of(messages)):
                if isinstance(found, Done):
                    end = found.end_lsn
                    done = max(done, batch.commit_lsn)
                    if batch.count >= FLUSH_ROWS:
                        total += self._keep(batch, done, end)
                        self.writer.execute("begin")
                    continue
                relation, commit_lsn = found.relation, found.begin.commit_lsn
                if commit_lsn <= done:
                    continue  # told again after a crash
                table = by_relation.get(relation.oid)
                if table is None or commit_lsn <= (table.wal_since or 0):
                    continue
                # A form is one object in one reading; to compare it would take longer than the rest.
                if relation is not noted and self._is_news(table, relation):
                    self._flush(batch)
                    self._notice(table, relation)
                    by_relation |= _read_ones(self._tables())
                    table = by_relation.get(relation.oid, table)
                noted = relation
                batch.add(table, found)
                if batch.is_full:
                    self._flush(batch)
            is_all = count.number < PEEK_ROWS
            until = max(lsn_number(now["lsn"]) if is_all else 0, end or 0)
            total += self._keep(batch, done, until, now["at"] if is_all else None)
        except BaseException as error:
            self._staged.clear()
            self._filled.clear()
            with suppress(psycopg.Error):
                self.writer.execute("rollback")
            if (explained := self._explained(error)) is not None:
                raise explained from error
            raise
        self._advance(until, total)
        return Round(events=total, is_all=is_all)

    def _log_snapshot(self, written: int) -> None:
        """Have the server log which transactions run.

        Decoding begins where the last such record was read. The server itself writes one every 15 seconds, and
        would read all that is younger again, for each reading and each advance.
        """
        if self._may_log_snapshot and written > HEARTBEAT_BYTES:
            self.writer.execute("select pg_log_standby_snapshot()")

    def _explained(self, error: BaseException) -> AuditError | None:
        """What to do about an error of reading, where that can be told."""
        if isinstance(error, psycopg.errors.CharacterNotInRepertoire):
            return AuditError(
                f"a value in the WAL is not UTF-8: {first_line(error)}",
                hint="a database in SQL_ASCII takes text in any encoding, and cannot be read this way",
            )
        if not isinstance(error, psycopg.errors.UndefinedObject):
            return None
        return AuditError(
            f"the slot {self.slot} cannot follow the publication: {first_line(error)}",
            hint="somebody made the publication anew; drop the slot, and the next run writes down the gap: "
            f"select pg_drop_replication_slot('{self.slot}')",
        )

    def _keep(
        self, batch: _Batch, done: int, until: int, caught_up_at: datetime | None = None
    ) -> int:
        """Make events of what is left of the batch, and commit them with how far that is."""
        self._flush(batch)
        kept = batch.flushed
        batch.flushed = 0
        done = max(done, batch.commit_lsn)
        if kept or self._is_due(until):
            self._run(
                "advance",
                slot=self.slot,
                commit_lsn=lsn_text(done),
                read_until=lsn_text(until),
                events=kept,
                caught_up_at=caught_up_at,
            )
        self.writer.execute("commit")
        self._filled.clear()  # ON COMMIT DELETE ROWS
        return kept

    def _advance(self, until: int, kept: int) -> None:
        """Let the server forget what the trail has; nothing where only our own heartbeat was written."""
        if not (kept or self._is_due(until)):
            return
        confirmed = self._state()["confirmed_flush_lsn"]
        if confirmed is None or until > lsn_number(confirmed):
            advance(self.writer, self.slot, until)
        self._seen, self._beat = until, time.monotonic()

    def _is_due(self, until: int) -> bool:
        """Whether it is time for a heartbeat, which is written to the WAL itself."""
        is_time = time.monotonic() - self._beat >= self.heartbeat
        return until - self._seen > HEARTBEAT_BYTES or (is_time and until > self._seen)

    def _flush(self, batch: _Batch) -> None:
        """Have events made of the changes of a batch; ids go by their order, whichever table is first."""
        if not batch.count:
            return
        (row,) = self._fetch("next_ids", count=batch.count)
        for part in batch.parts.values():
            function = part.table.function_name
            self._stage(part.table, part.relation)
            rows_table = wal_tables(function)[1]
            if function in self._filled:
                self._run("empty", rows_table=rows_table, parameters={})
            self._filled.add(function)
            with (
                self.writer.cursor() as cursor,
                cursor.copy(render("wal/copy", rows_table=rows_table)) as copy,
            ):
                copy.write(b"".join((HEADER, *lines(part.lines, row["ids"]), TRAILER)))
            self._run("replay", replay=replay_function(function), parameters={})
            if part.incomplete_lsn is not None:
                self._run("incomplete", function=function, lsn=lsn_text(part.incomplete_lsn))
        batch.clear()

    def _stage(self, table: Table, relation: Relation) -> None:
        if self._staged.get(table.function_name) == relation:
            return
        columns_table, rows_table, changes_view = wal_tables(table.function_name)
        types = self._types(relation)
        self._run(
            "stage",
            columns_table=columns_table,
            rows_table=rows_table,
            changes_view=changes_view,
            staged=STAGED,
            columns=[
                (column.name, types[column.type_oid, column.type_modifier][1])
                for column in relation.columns
            ],
            virtual_columns=table.virtual_columns,
            parameters={},
        )
        self._staged[table.function_name] = relation

    def _types(self, relation: Relation) -> dict[tuple[int, int], tuple[str, str]]:
        """What the types of the columns are called, and in which types their values are put."""
        rows = self._fetch(
            "staged_types",
            oids=[column.type_oid for column in relation.columns],
            modifiers=[column.type_modifier for column in relation.columns],
        )
        return {
            (row["type_oid"], row["modifier"]): (row["type_name"], row["staged"]) for row in rows
        }

    def _is_news(self, table: Table, relation: Relation) -> bool:
        """Whether rows of this form are the first; the trail may have to say what DDL did before them."""
        noted = self._noted.get(table.relation_id)
        return noted is not relation and noted != relation

    def _notice(self, table: Table, relation: Relation) -> None:
        self._noted[table.relation_id] = relation
        types = self._types(relation)
        columns = {
            column.name: types[column.type_oid, column.type_modifier][0]
            for column in relation.columns
        }
        unread = {*table.virtual_columns, *table.unpublished_columns}
        noted = {name: type_name for name, type_name in table.columns.items() if name not in unread}
        called = (table.schema_name, table.table_name)
        if table.is_there and (columns != noted or (relation.schema, relation.name) != called):
            self._note_changes(table)

    def _note_changes(self, table: Table) -> None:
        with self.writer.transaction():
            self._run("note_changes", function=table.function_name)

    def _run_note_coverage(self) -> None:
        self.writer.execute(
            "\n".join(render_statements("registry/note_coverage", schema=self.schema))
        )

    def _tables(self) -> list[Table]:
        return [
            Table(
                **{
                    **row,
                    "wal_since": lsn_number(row["wal_since"]) if row["wal_since"] else None,
                    "columns": row["columns"] or {},
                    "virtual_columns": tuple(row["virtual_columns"]),
                    "unpublished_columns": tuple(row["unpublished_columns"]),
                }
            )
            for row in self._fetch("tables")
        ]

    def _state(self) -> dict[str, Any]:
        return next(row for row in self._fetch("slot") if row["slot_name"] == self.slot)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def _fetch(self, template: str, **parameters: Any) -> list[dict[str, Any]]:
        with self.writer.cursor(row_factory=dict_row) as cursor:
            text = render(f"wal/{template}", **self._names)
            return cursor.execute(text, parameters or None).fetchall()

    def _run(
        self, template: str, *, parameters: Mapping[str, Any] | None = None, **values: Any
    ) -> None:
        """Statements of a template: with `values` as parameters, or as what is rendered where there are none."""
        rendered = self._names | (values if parameters is not None else {})
        for statement in render_statements(f"wal/{template}", **rendered):
            given = values if parameters is None and "%(" in statement else None
            self.writer.execute(statement, given)

    @property
    def _names(self) -> dict[str, Any]:
        return {"schema": self.schema, "publication": self.publication}


def _read_ones(tables: Iterable[Table]) -> dict[int, Table]:
    """The tables that are read from the WAL, by their OIDs."""
    return {table.relation_id: table for table in tables if table.wal_since is not None}


@dataclass(slots=True)
class _Part:
    """The changes of a batch to one table, while it had one form."""

    table: Table
    relation: Relation
    lines: Lines
    nulls: bytes
    """The fields of a row that there is not."""
    incomplete_lsn: int | None = None
    """The transaction of the first change whose old row the WAL does not have whole."""


@dataclass(slots=True)
class _Batch:
    """Changes in their order, of which events are to be made in this transaction."""

    next_xid: int
    parts: dict[int, _Part] = field(default_factory=dict)
    """By the identity of the form: it is one object in one reading."""
    count: int = 0
    bytes: int = 0
    commit_lsn: int = 0
    flushed: int = 0
    _begin: Begin | None = None
    _context: builtins.bytes | None = None
    _stamp: builtins.bytes = b""

    def add(self, table: Table, change: Change[builtins.bytes]) -> None:
        relation = change.relation
        part = self.parts.get(id(relation))
        if part is None:
            columns = len(relation.columns)
            part = _Part(table, relation, Lines(columns), NULL_FIELD * columns)
            self.parts[id(relation)] = part
        if change.begin is not self._begin or change.context is not self._context:
            self._begin, self._context = change.begin, change.context
            self._stamp = stamp(change, full_xid(change.begin.xid, self.next_xid))
            self.commit_lsn = change.begin.commit_lsn
        if change.before is None and part.incomplete_lsn is None and is_incomplete(change):
            part.incomplete_lsn = change.begin.commit_lsn
        made = line(change, self._stamp, part.nulls)
        part.lines.rest.append(made)
        part.lines.numbers.append(8 * self.count)
        self.count += 1
        self.bytes += len(made)

    def clear(self) -> None:
        """Its changes are events."""
        self.flushed += self.count
        self.parts.clear()
        self.count = self.bytes = 0

    @property
    def is_full(self) -> bool:
        return self.count >= FLUSH_ROWS or self.bytes >= FLUSH_BYTES


@dataclass(slots=True)
class _Count:
    number: int = 0

    def of(self, batches: Iterator[list[bytes]]) -> Iterator[bytes]:
        for messages in batches:
            self.number += len(messages)
            yield from messages


def slot_name(connection: Connection, schema: str) -> str:
    """The name of the slot of a trail in this database."""
    prefix = re.sub(r"[^a-z0-9_]", "_", wal_publication(schema).lower())[:48]
    return str(fetch(connection, render("wal/slot_name", prefix=prefix))[0]["slot_name"])


def lsn_number(text: str) -> int:
    """The reverse of `lsn_text`."""
    high, _, low = text.partition("/")
    try:
        return (int(high, 16) << 32) + int(low, 16)
    except ValueError as error:
        raise AuditError(f"{text!r} is not a position in the WAL") from error
