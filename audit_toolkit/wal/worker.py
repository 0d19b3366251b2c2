"""The worker: peek, decode, have the server make images, keep events and progress in one transaction, advance.

Exactly once: the position of the last transaction is written with its events, whatever dies; what the
slot tells again is passed over. A transaction of the source is kept whole or not at all, and never held
in memory whole. The session that writes holds an advisory lock, so that whoever lost it writes nothing. A worker
that stands still (a paused process, a machine that is gone) loses it to the one that waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from audit_toolkit.connection import fetch, first_line
from audit_toolkit.errors import AuditError, PermissionDeniedError, UsageError
from audit_toolkit.names import quote_identifier, wal_publication
from audit_toolkit.plurals import counted, show_bytes
from audit_toolkit.templates import query, render, render_statements
from audit_toolkit.wal.batch import Batch
from audit_toolkit.wal.changes import Done, lsn_text, read_as_sent
from audit_toolkit.wal.messages import Relation
from audit_toolkit.wal.one_worker import be_the_one
from audit_toolkit.wal.recorder import Recorder
from audit_toolkit.wal.slot import advance, create_slot, peek, slot_name
from audit_toolkit.wal.statements import Statements
from audit_toolkit.wal.tables import Found, Table, Tables

Connection = psycopg.Connection[Any]

PEEK_ROWS = 50_000
"""Changes that are read before the slot is advanced, at least: decoding begins anew for each reading."""
HEARTBEAT_BYTES = 16 * 1024
"""An idle slot is advanced once so much was written by others: what it keeps would fill the disk."""
HEARTBEAT_SECONDS = 5.0
LOCK_TIMEOUT = "3s"
RETRY_SECONDS = 60.0
"""How long a table is left alone that the worker may not alter: each time, its writers wait."""
LITTLE_BYTES = 64 * 1024 * 1024
"""How much may be unread when tables go back to triggers: their writers wait while it is read."""
FALLBACK_SECONDS = 10.0
"""How long they wait at most, each time."""
HOLD_TIMEOUT = "20s"
"""After how long the server ends a session that holds a table and says nothing more: its process stands still."""
IN_USE_SECONDS = 0.05
PATIENCE = 100
"""After how many tries the worker says that others use its slot."""
_LOST = "the replication slot was lost: changes that were not read yet are unknown"


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
    _noted: dict[int, Relation] = field(default_factory=dict)
    _called: dict[str, tuple[str, str]] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _not_before: dict[str, float] = field(default_factory=dict)
    fallback: int | None = None
    """Go back to triggers once the server keeps more bytes of WAL than this, or has given up the slot."""
    _lost: str = _LOST
    """Why a new slot has a gap before it."""
    _falls_back: str = ""
    """Why, once that is so."""
    heartbeat: float = HEARTBEAT_SECONDS
    """After so many seconds an idle slot is advanced in any case."""
    _is_ready: bool = False
    _may_log_snapshot: bool = False
    _refused: int = 0
    """How often the slot was in use by others, since it was not."""
    _seen: int = 0
    _beat: float = 0.0
    _sql: Statements = field(init=False)
    _recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self._sql = Statements(self.writer, self.schema)
        self._recorder = Recorder(self._sql)

    @property
    def publication(self) -> str:
        """The publication of the tables that it reads."""
        return wal_publication(self.schema)

    def start(self, *, wait: bool = True) -> None:
        """Become the one worker, and see to the slot.

        Raises `BusyError` where another one runs and this one is not to wait for its end, and `UsageError`
        on a standby.
        """
        self.slot = slot_name(self.writer, self.schema)
        (state,) = fetch(
            self.writer,
            "select pg_is_in_recovery() as is_standby",
        )
        if state["is_standby"]:
            raise UsageError(
                "the server is a standby: the worker writes to the trail, so it runs on the primary",
                hint="connect to the primary, such as with target_session_attrs=read-write in the address",
            )
        self.writer.execute(render("queries/wal_settings", of_transaction=False))
        self.writer.execute(query("wal_session"))
        self._sql.run("register", slot=self.slot)
        self._lock(wait=wait)
        self._sql.run("forget_others", slot=self.slot)

    def require_logical(self) -> None:
        """Raise `UsageError` where the WAL of this server cannot be read; with `fallback`, triggers record again."""
        (state,) = fetch(self.writer, "select current_setting('wal_level') as wal_level")
        if state["wal_level"] == "logical":
            return
        read = [table for table in self._tables() if table.wal_since is not None]
        if read and self.fallback is not None:
            self._fall_back_from_lost()
            read = []
        raise UsageError(
            f"wal_level is {state['wal_level']}, so changes cannot be read from the WAL",
            hint="set wal_level = logical in postgresql.conf, and restart the server; "
            + (
                f"until then, changes of {counted(len(read), 'table')} are recorded only after: "
                "audit capture fallback --reason TEXT"
                if read
                else "triggers record changes until then"
            ),
        )

    def turn(self) -> Round:
        """Take over what is ready, read once what is there, and let the server forget it."""
        if not self._is_ready and not self._prepare():
            return Round(events=0, is_all=True)
        tables = self._tables()
        if not tables:
            self._end()
            return Round(events=0, is_all=True)
        pending = [
            table
            for table in tables
            if not table.fallback and (table.wal_since is None or table.is_unready)
        ]
        taken = [table for table in pending if self._take_over(table)]
        for table in tables:
            self._say_unseen(table)
        if self._republish(tables):
            tables = self._tables()
        if taken:
            self._run_note_coverage()
            tables = self._tables()
        changed = [table for table in tables if table.wal_since is not None and table.is_changed]
        gone = [table for table in tables if table.wal_since is not None and not table.is_there]
        try:
            found = self._read(tables)
        except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.UndefinedObject):
            if self._is_well(self._state()):
                raise
            self._is_ready = False  # the slot was lost meanwhile, which the next turn sees to
            return Round(events=0, is_all=False)
        if found.is_all:
            for table in (*changed, *gone):
                self._note_changes(table)
        self._fall_back_perhaps()
        return found

    def go_back(self, reason: str, *, only: int | None = None, attempts: int = 1) -> bool:
        """Read what there is, and have triggers record the tables again, or the one of that OID; whether they do.

        Raises `UsageError` where no table is read from the WAL, or not that one.
        """
        read = [table for table in self._tables() if table.wal_since is not None]
        if not [table for table in read if only in (None, table.relation_id)]:
            raise UsageError(
                "no table is read from the WAL" if only is None else "it is not read from the WAL",
                hint="audit capture status shows how tables are captured",
            )
        if not self._is_well(self._state()):
            self._fall_back_from_lost(reason)
            return True
        for _ in range(attempts):
            while not self._read(self._tables()).is_all:
                pass
            if self.fall_back(reason, only=only):
                return True
        return False

    def fall_back(self, reason: str, *, only: int | None = None) -> bool:
        """Once the trail has all that is in the WAL, have triggers record the tables again, or the one of that OID.

        Writers wait meanwhile, 10 seconds at most. Whether it was done: not where they hold the tables too
        long, or there is more to be read than that takes.
        """
        read = [table for table in self._tables() if table.wal_since is not None]
        tables = [table for table in read if only in (None, table.relation_id)]
        give_up_at = time.monotonic() + FALLBACK_SECONDS
        heartbeat, self.heartbeat = self.heartbeat, 0  # how far it is matters, events or not
        is_late = False
        try:
            with self.reader.transaction():
                wanted = self._hold(self.reader, tables)
                while lsn_number(self._state()["read_until"]) < wanted:
                    is_late = time.monotonic() > give_up_at
                    if is_late:
                        raise psycopg.Rollback
                    self._read(self._tables())
                for table in tables:
                    self._record_by_triggers(self.reader, table, reason)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            return False
        finally:
            self.heartbeat = heartbeat
        if is_late:
            return False
        self._end_fallback(tables, is_last=len(tables) == len(read))
        return True

    def _hold(self, connection: Connection, tables: Iterable[Table]) -> int:
        """Have writers of the tables wait; up to where the WAL has what they committed."""
        self._be_patient(connection)
        for table in tables:
            if table.is_there:
                connection.execute(render("wal/lock", relation=table.relation_id))
        (now,) = fetch(connection, "select pg_current_wal_insert_lsn()::text as lsn")
        return lsn_number(now["lsn"])

    @staticmethod
    def _be_patient(connection: Connection) -> None:
        """Have the transaction wait for tables only so long, and hold them no longer if this process is paused."""
        connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        connection.execute(f"set local idle_in_transaction_session_timeout = '{HOLD_TIMEOUT}'")

    def _record_by_triggers(self, connection: Connection, table: Table, reason: str) -> None:
        text = render("wal/record_by_triggers", **self._sql.names)
        connection.execute(text, {"function": table.function_name, "reason": reason})

    def _end_fallback(self, tables: Iterable[Table], *, is_last: bool) -> None:
        self._run_note_coverage()
        for table in tables:
            self.say(f"{table.name} is recorded by triggers again: audit capture resume")
        if is_last:
            self._drop_slot()
            self._is_ready = False
        self._falls_back = ""

    def _fall_back_perhaps(self) -> None:
        """Once the server keeps more than it is to: read on until little is left, and go back to triggers then."""
        if self.fallback is None:
            return
        state = self._state()
        if not self._falls_back and (state["retained_bytes"] or 0) > self.fallback:
            self._falls_back = f"the server kept {show_bytes(state['retained_bytes'])} of WAL"
            self.say(f"{self._falls_back}, more than --fallback: going back to triggers")
        is_due = self._falls_back and state["behind_bytes"] <= LITTLE_BYTES
        is_time = time.monotonic() >= self._not_before.get("", 0)
        if is_due and is_time and not self.fall_back(self._falls_back):
            self._not_before[""] = time.monotonic() + FALLBACK_SECONDS

    def _fall_back_from_lost(self, reason: str = _LOST) -> None:
        """Triggers record the tables again at once: what the slot had is lost, and the trail says so."""
        tables = [table for table in self._tables() if table.wal_since is not None]
        with self.writer.transaction():
            lsn = lsn_text(self._hold(self.writer, tables))
            self._sql.fetch("start", slot=self.slot, lsn=lsn, reason=_LOST)
            for table in tables:
                self._record_by_triggers(self.writer, table, reason)
        self._say_gaps(len(tables))
        self._end_fallback(tables, is_last=True)

    def _drop_slot(self) -> None:
        if self._state()["slot_is_there"]:
            self.writer.execute("select pg_drop_replication_slot(%(slot)s)", {"slot": self.slot})

    def _say_gaps(self, tables: int) -> None:
        self.say(
            f"the replication slot was lost: {counted(tables, 'table')} with a gap in the trail, which "
            "audit baseline closes"
        )

    def fail(self, error: Exception) -> None:
        """Note why it ends, where it still can."""
        with suppress(psycopg.Error):
            self._sql.run("fail", slot=self.slot, error=first_line(error))

    def _lock(self, *, wait: bool) -> None:
        key = self._state()["lock_key"]
        be_the_one(self._sql, key, self.say, wait=wait)
        # By which the one that waits finds this session, too.
        self.reader.execute("select pg_advisory_lock_shared(%(key)s # 1)", {"key": key})

    def _prepare(self) -> bool:
        """See to the slot, once there is a publication: before PostgreSQL 18, an older slot cannot follow it."""
        named = {"publication": self.publication}
        there = "select from pg_publication where pubname = %(publication)s"
        tables = self._tables()
        if not tables:
            self._end()
            self._say_once("no table is captured from the WAL: audit install --capture wal")
            return False
        if not self.writer.execute(there, named).rowcount:
            if not any(table.wal_since is not None for table in tables):
                self._say_once("no table is captured from the WAL: audit install --capture wal")
                return False
            self._restore_publication()
        if all(table.fallback for table in tables):
            self._say_once("triggers record all tables: audit capture resume")
            return False
        (may,) = self._sql.fetch("may_log_snapshot")
        self._may_log_snapshot = may["may_log_snapshot"]
        self._is_ready = self._ensure_slot()
        return self._is_ready

    def _end(self) -> None:
        """Drop the slot, for which the server keeps WAL: capture of the last table has ended, once all was read."""
        state = self._state()
        if state["slot_is_there"] and not state["is_foreign"]:
            self._drop_slot()
            self.say(f"no table is captured from the WAL any more; dropped the slot {self.slot}")
        self._is_ready = False

    def _restore_publication(self) -> None:
        """Make anew what somebody dropped, and the slot with it, which says what is lost."""
        self._lost = (
            f"somebody dropped {self.publication}: changes that were not read yet are unknown"
        )
        self._drop_slot()
        with self.writer.transaction():
            self._sql.run("restore_publication", parameters={})
        self.say(f"made {self.publication} again, which somebody had dropped")

    def _ensure_slot(self) -> bool:
        """Make the slot where there is none; where there was one, say in the trail what is lost.

        Whether there is one: with `fallback`, triggers record the tables again instead.
        """
        state = self._state()
        if state["slot_is_there"] and state["is_foreign"]:
            raise UsageError(
                f"the replication slot {self.slot} is not of pgoutput, or of another database",
                hint=f"drop it: select pg_drop_replication_slot('{self.slot}')",
            )
        if self._is_well(state):
            return True
        if self.fallback is not None and any(
            table.wal_since is not None for table in self._tables()
        ):
            self._fall_back_from_lost()
            return False
        self._drop_slot()
        if names := [row["name"] for row in self._sql.fetch("open_transactions")]:
            self.say(f"the replication slot is there once these have ended: {', '.join(names)}")
        try:
            create_slot(self.writer, self.slot)
        except psycopg.errors.InsufficientPrivilege as error:
            raise self._lacks_replication(error) from error
        lsn = self._state()["confirmed_flush_lsn"]
        (noted,) = self._sql.fetch("start", slot=self.slot, lsn=lsn, reason=self._lost)
        self._lost = _LOST
        if noted["gaps"]:
            self._say_gaps(noted["gaps"])
        return True

    def _lacks_replication(self, error: psycopg.Error) -> PermissionDeniedError:
        (row,) = fetch(self.writer, "select current_user as role")
        return PermissionDeniedError(
            f"the role of the worker may not use a replication slot: {first_line(error)}",
            hint=f"alter role {quote_identifier(row['role'])} replication "
            "(on managed services: grant their role for replication)",
        )

    @staticmethod
    def _is_well(state: Mapping[str, Any]) -> bool:
        """Whether the slot has all that the trail has not."""
        return bool(
            state["slot_is_there"]
            and state["is_of_cluster"]
            and state["wal_status"] != "lost"
            and not state["is_ahead"]
        )

    def _take_over(self, table: Table) -> bool:
        if table.unpublished_columns:
            self._say_once(
                f"{table.name} stays with triggers: before PostgreSQL 18 the generated column "
                f"{table.unpublished_columns[0]} cannot be read from the WAL"
            )
            return False
        if time.monotonic() < self._not_before.get(table.function_name, 0):
            return False
        try:
            with self.writer.transaction():
                self._be_patient(self.writer)
                (found,) = self._sql.fetch("take_over", function=table.function_name)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            return False  # writers hold it; triggers record it until the next time
        except psycopg.errors.InsufficientPrivilege as error:
            self._not_before[table.function_name] = time.monotonic() + RETRY_SECONDS
            why = "stays with triggers" if table.wal_since is None else "is not ready"
            self._say_once(f"{table.name} {why}: {first_line(error)}")
            return False
        if found["is_taken"] and table.wal_since is None:
            self._say_once(f"{table.name} is read from the WAL from here on; its triggers are off")
        return bool(found["is_taken"])

    def _republish(self, tables: Iterable[Table]) -> bool:
        """Publish anew what somebody altered, with a gap in the trail: what was not published is in no slot."""
        state = self._state()
        if state["publication_now"] is None:
            return False  # dropped, which reading refuses
        is_altered = state["publication"] != state["publication_now"]
        altered = [
            table
            for table in tables
            if table.wal_since is not None
            and table.is_there
            and (is_altered or (table.noted_entry and table.entry != table.noted_entry))
        ]
        for table in altered:
            with self.writer.transaction():
                self._sql.run(
                    "republish",
                    parameters={},
                    function=table.function_name,
                    since=state["read_until"],
                    slot=self.slot,
                )
            self.say(f"{table.name} has a gap in the trail: somebody altered {self.publication}")
        return bool(altered)

    def _say_unseen(self, table: Table) -> None:
        """Say, in the trail, too, of which partitions no changes can be read."""
        for partition in table.unseen_partitions if table.wal_since is not None else ():
            text = f"changes of {partition}, a partition of {table.name}, are not in the WAL"
            if text not in self._said:
                self._sql.run("unseen", function=table.function_name, partition=partition)
            self._say_once(text)

    def _read(self, tables: Iterable[Table]) -> Round:
        """One reading of the slot; none while somebody else has it, as a migration that asks what is left in it."""
        try:
            found = self._read_slot(tables)
        except psycopg.errors.ObjectInUse as error:
            self._refused += 1
            if self._refused == PATIENCE:
                self.say(f"{first_line(error)}; waiting until it ends")
            time.sleep(IN_USE_SECONDS)
            return Round(events=0, is_all=False)
        self._refused = 0
        return found

    def _read_slot(self, tables: Iterable[Table]) -> Round:
        """One reading of the slot. The connection that reads holds what is left, and this one a transaction's share."""
        state = self._state()
        self._log_snapshot(state["behind_bytes"])
        known = Tables(state["truncated_rows"])
        known.know(tables)
        done = lsn_number(state["commit_lsn"])
        (now,) = fetch(
            self.writer,
            "select pg_current_wal_flush_lsn()::text as lsn, pg_snapshot_xmax(pg_current_snapshot())::text as xid, "
            "clock_timestamp() as at",
        )
        count = _Count()
        batch = Batch(next_xid=int(now["xid"]), who=self._recorder.who_of)
        total, end = 0, None
        messages = peek(self.reader, self.slot, self.publication, at_least=PEEK_ROWS)
        self.writer.execute("begin")
        try:
            for found in read_as_sent(count.of(messages)):
                if isinstance(found, Done):
                    end = found.end_lsn
                    done = max(done, batch.commit_lsn)
                    if batch.is_long:
                        total += self._keep(batch, done, end)
                        self.writer.execute("begin")
                    continue
                if found.begin.commit_lsn <= done:
                    continue  # told again after a crash
                for recorded in known.of(found):
                    if self._is_news(recorded):
                        self._recorder.record(batch)
                        self._notice(recorded)
                        known.know(self._tables())
                        recorded = (known.renewed(recorded[0]), *recorded[1:])  # noqa: PLW2901
                    batch.add(recorded)
                if batch.is_full:
                    self._recorder.record(batch)
            is_all = count.number < PEEK_ROWS
            until = max(lsn_number(now["lsn"]) if is_all else 0, end or 0)
            total += self._keep(batch, done, until, now["at"] if is_all else None)
        except BaseException as error:
            self._recorder.forget()
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
        if isinstance(error, psycopg.errors.InsufficientPrivilege) and "replication" in str(error):
            return self._lacks_replication(error)
        if not isinstance(error, psycopg.errors.UndefinedObject) or not self._is_well(
            self._state()
        ):
            return None
        return AuditError(
            f"the slot {self.slot} cannot follow the publication: {first_line(error)}",
            hint="somebody made the publication anew; drop the slot, and the next run writes down the gap: "
            f"select pg_drop_replication_slot('{self.slot}')",
        )

    def _keep(
        self, batch: Batch, done: int, until: int, caught_up_at: datetime | None = None
    ) -> int:
        """Make events of what is left of the batch, and commit them with how far that is."""
        self._recorder.record(batch)
        kept = batch.flushed
        batch.flushed = 0
        done = max(done, batch.commit_lsn)
        if kept or self._is_due(until):
            self._sql.run(
                "advance",
                slot=self.slot,
                commit_lsn=lsn_text(done),
                read_until=lsn_text(until),
                events=kept,
                caught_up_at=caught_up_at,
            )
        self.writer.execute("commit")
        self._recorder.committed()
        return kept

    def _advance(self, until: int, kept: int) -> None:
        """Let the server forget what the trail has; nothing where only our own heartbeat was written."""
        if not (kept or self._is_due(until)):
            return
        confirmed = self._state()["confirmed_flush_lsn"]
        if confirmed is None or until > lsn_number(confirmed):
            try:
                advance(self.writer, self.slot, until)
            except psycopg.errors.ObjectInUse:
                return  # the trail has it; the next reading advances
        self._seen, self._beat = until, time.monotonic()

    def _is_due(self, until: int) -> bool:
        """Whether it is time for a heartbeat, which is written to the WAL itself."""
        is_time = time.monotonic() - self._beat >= self.heartbeat
        return until - self._seen > HEARTBEAT_BYTES or (is_time and until > self._seen)

    def _is_news(self, found: Found) -> bool:
        """Whether rows of this form are the first; the trail may have to say what DDL did before them."""
        table, change, made = found
        if made is not None:
            known = self._called.get(table.function_name, table.called)
            return made.called is not None and made.called != known
        noted = self._noted.get(change.relation.oid)
        if noted is not change.relation:
            if noted != change.relation:
                return True
            self._noted[change.relation.oid] = change.relation  # the same, told by a later reading
        return False

    def _notice(self, found: Found) -> None:
        table, change, made = found
        if made is not None:
            self._called[table.function_name] = made.called or table.called
            if table.is_there:
                self._note_changes(table)
            return
        relation = change.relation
        self._noted[relation.oid] = relation
        types = self._recorder.types(relation)
        columns = {
            column.name: types[column.type_oid, column.type_modifier][0]
            for column in relation.columns
        }
        if table.is_there and not table.is_described_by(relation, columns):
            self._note_changes(table)

    def _note_changes(self, table: Table) -> None:
        with self.writer.transaction():
            self._sql.run("note_changes", function=table.function_name)

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
                    "partitions": frozenset(row["partitions"]),
                    "noted_partitions": frozenset(row["noted_partitions"]),
                    "unseen_partitions": tuple(row["unseen_partitions"]),
                    "unready_partitions": tuple(row["unready_partitions"]),
                    "virtual_columns": tuple(row["virtual_columns"]),
                    "unpublished_columns": tuple(row["unpublished_columns"]),
                }
            )
            for row in self._sql.fetch("tables")
        ]

    def _state(self) -> dict[str, Any]:
        return next(row for row in self._sql.fetch("slot") if row["slot_name"] == self.slot)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)


@dataclass(slots=True)
class _Count:
    number: int = 0

    def of(self, batches: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
        for messages in batches:
            self.number += len(messages)
            yield messages


def lsn_number(text: str) -> int:
    """The reverse of `lsn_text`."""
    high, _, low = text.partition("/")
    try:
        return (int(high, 16) << 32) + int(low, 16)
    except ValueError as error:
        raise AuditError(f"{text!r} is not a position in the WAL") from error
