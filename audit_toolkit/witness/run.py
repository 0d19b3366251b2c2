"""The rounds of the witness: read what was committed, compare it with its events, keep what was found, let the WAL go.

The slot is peeked, what was found is kept together with the place, and only then is the slot advanced: what a crash
brings again is known by its place. Whatever the witness could not see is itself a finding.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, first_line, import_psycopg
from audit_toolkit.errors import BusyError, UsageError
from audit_toolkit.findings import FindingKind
from audit_toolkit.templates import query, render
from audit_toolkit.wal import Change, Done, Row, advance, full_xid, lsn_text, read_changes
from audit_toolkit.witness import slot
from audit_toolkit.witness.findings import Found
from audit_toolkit.witness.instance import become_instance, end_instance
from audit_toolkit.witness.match import Matcher
from audit_toolkit.witness.slot import Names, Server
from audit_toolkit.witness.state import State, keep, read_state
from audit_toolkit.witness.tables import Book, Watched
from audit_toolkit.witness.unmatched import Judge
from audit_toolkit.witness.values import Kind, built_in, type_of

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

AT_LEAST = 20_000
"""Messages of the slot that are read at a time: whole transactions, so that there may be more."""
CHUNK = 2000
KEEP_EVERY = 10.0
"""Seconds after which the slot is advanced although nothing happened, so that it keeps no WAL."""
SYNC_EVERY = 2.0
"""Seconds between two looks at what is captured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round brought."""

    found: tuple[tuple[int, Found], ...] = ()
    """What was found, each with the event that says so."""
    transactions: int = 0
    changes: int = 0
    events: int = 0
    unjudged: Counter[tuple[str, str]] = field(default_factory=Counter)
    is_at_end: bool = True
    """Whether everything that was committed when it began is judged."""
    notes: tuple[str, ...] = ()
    """What people should know; no finding."""


class Witness:
    """The one witness of a trail. The connection is for it alone, in autocommit mode, on the primary."""

    def __init__(
        self,
        connection: Connection,
        schema: str = "audit",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not connection.autocommit:
            raise UsageError(
                "the witness cannot run inside a transaction",
                hint="give it a connection of its own: psycopg.connect(..., autocommit=True)",
            )
        self._connection = connection
        self._schema = schema
        self._clock = clock
        self._names = Names.of(connection, schema)
        self._judge = Judge(connection, schema)
        self._found: list[Found] = []
        self._notes: list[str] = []
        self._kept_at = self._synced_at = float("-inf")
        server = slot.read_server(connection, self._names)
        slot.require_able(server)
        become_instance(self._connection, self._schema)
        self._next_xid = server.next_xid
        self._state = self._begin(server)
        self._book = Book(self._state.tables)
        self._matcher = Matcher(self._book, schema, lambda xid: full_xid(xid, self._next_xid))

    @property
    def state(self) -> State:
        """Where it is."""
        return self._state

    def round(self) -> Round:
        """Read and judge what was committed, or a part of it where that is much."""
        server = slot.read_server(self._connection, self._names)
        server = self._look_after(server)
        self._next_xid = server.next_xid
        state, before = self._state, replace(self._state.counts)
        state.counts.unjudged, told = Counter(), state.counts.unjudged
        is_at_end = self._read(server)
        unjudged, state.counts.unjudged = state.counts.unjudged, told + state.counts.unjudged
        events = self._keep(state.counts.transactions > before.transactions)
        found, self._found = tuple(zip(events, self._found, strict=True)) if events else (), []
        notes, self._notes = tuple(self._notes), []
        return Round(
            found=found,
            transactions=state.counts.transactions - before.transactions,
            changes=state.counts.changes - before.changes,
            events=state.counts.events - before.events,
            unjudged=unjudged,
            is_at_end=is_at_end,
            notes=notes,
        )

    def close(self) -> None:
        """Let another instance run."""
        if not self._connection.closed and not self._connection.broken:
            end_instance(self._connection, self._schema)

    # beginning, and being blind

    def _begin(self, server: Server) -> State:
        state = read_state(self._connection, self._schema)
        if state is not None:
            return state
        if server.has_slot:  # nobody knows how far it was read
            slot.drop_slot(self._connection, self._names, server)
            server = replace(server, has_slot=False)
        slot.create(self._connection, self._names, server)
        server = slot.read_server(self._connection, self._names)
        state = State(self._names.slot, server.confirmed or 0)
        self._take(state, server)
        self._notes.append(f"created the slot {self._names.slot} and its publications")
        if server.keeps_all_wal:
            self._notes.append(
                "max_slot_wal_keep_size is not set: while the witness does not run, its slot keeps WAL "
                "until the disk is full"
            )
        return state

    def _take(self, state: State, server: Server) -> None:
        """The slot and the publications are as they should be from here on."""
        state.slot, state.kept = self._names.slot, server.confirmed or 0
        state.publications = (server.publication, server.inserts)
        state.own_entries = server.own_entries
        for table in state.tables.values():
            table.since = server.next_xid

    def _look_after(self, server: Server) -> Server:
        """See to slot, publications and tables."""
        if why := self._blind(server):
            server = self._begin_anew(server, why)
        if self._clock() - self._synced_at >= SYNC_EVERY:
            self._sync()
            self._synced_at = self._clock()
        return server

    def _blind(self, server: Server) -> str | None:
        """Why what was committed may not be seen; None where it is."""
        state = self._state
        if not server.has_slot:
            return "its replication slot was dropped"
        if server.lost_because:
            return f"its replication slot was lost ({server.lost_because})"
        if server.confirmed is not None and server.confirmed > state.kept:
            return "somebody else advanced its replication slot"
        if (server.publication, server.inserts) != state.publications:
            return "its publication was dropped, recreated or altered"
        if server.own_entries != state.own_entries:
            return "the trail was taken out of its publication"
        return None

    def _begin_anew(self, server: Server, why: str) -> Server:
        former = self._state.kept
        if server.has_slot:
            slot.drop_slot(self._connection, self._names, server)
        slot.create(
            self._connection,
            self._names,
            replace(server, has_slot=False, publication=None, inserts=None),
        )
        server = slot.read_server(self._connection, self._names)
        self._take(self._state, server)
        for table in self._state.tables.values():
            table.entry = None
        self._synced_at = float("-inf")
        self._kept_at = float("-inf")
        self._found.append(self._blindness(former, server.confirmed or 0, why))
        return server

    def _blindness(self, former: int, until: int, why: str, subject: str | None = None) -> Found:
        return Found(
            kind=FindingKind.WITNESS_BLIND,
            subject=subject or "the witness",
            message=f"{why}: what was committed between {lsn_text(former)} and {lsn_text(until)} "
            "was not compared with the trail",
            lsn=lsn_text(until),
            remedy="audit reconcile compares the tables with the trail; find out who did it",
        )

    # what is captured

    def _sync(self) -> None:
        records = {
            record["oid"]: record for record in slot.read_tables(self._connection, self._names)
        }
        fresh = [Watched.from_record(r) for o, r in records.items() if o not in self._book.tables]
        paused = self._paused() if fresh else set()
        for table in fresh:
            table.is_on = (table.schema, table.table) not in paused
        self._book.take_rules(fresh)
        for record in records.values():
            self._book.names.setdefault(
                (record["noted_schema"], record["noted_table"]), record["oid"]
            )
        for oid, table in list(self._book.tables.items()):
            if oid in records:
                self._see_to(table, records[oid])
            else:
                self._retire(table)

    def _see_to(self, table: Watched, record: dict[str, Any]) -> None:
        """Have a table published as it should be; whoever took it out of the publication is found."""
        now = Watched.from_record(record)
        entries = dict(record["entries"] or ())
        wanted = self._names.publication if now.has_identity else self._names.inserts
        table.is_noted, table.trouble = now.is_noted, now.trouble
        if table.from_wal:
            self._unpublish(table)
            return
        if table.entry is not None and table.entry not in entries.values():
            if now.trouble is None:
                why = "the table was taken out of the publication of the witness"
                here = self._state.kept
                self._found.append(self._blindness(here, here, why, str(table.name)))
            table.entry = None
        if table.entry is not None and entries.get(wanted) == table.entry:
            table.has_identity = now.has_identity
            return
        if now.trouble is not None:
            return
        present = now.name
        try:
            former = next(iter(entries), None)
            slot.publish(self._connection, self._names, replace(now), former)
        except import_psycopg().errors.LockNotAvailable:
            self._notes.append(
                f"{present} is not watched yet: could not obtain a lock within {slot.LOCK_TIMEOUT}"
            )
            return
        except import_psycopg().errors.InsufficientPrivilege as error:
            table.trouble = first_line(error)
            return
        table.has_identity = now.has_identity
        again = {r["oid"]: r for r in slot.read_tables(self._connection, self._names)}
        table.entry = dict(again[table.oid]["entries"] or ())[wanted]
        table.since = slot.read_server(self._connection, self._names).next_xid
        self._kept_at = float("-inf")

    def _retire(self, table: Watched) -> None:
        """A table that is captured no longer is published until the stream has told so."""
        if table.is_on and table.entry is not None:
            return
        self._unpublish(table)
        del self._book.tables[table.oid]

    def _unpublish(self, table: Watched) -> None:
        if table.entry is None:
            return
        for publication in (self._names.publication, self._names.inserts):
            try:
                slot.unpublish(self._connection, publication, table.name)
            except import_psycopg().Error:
                continue  # it is in the other one, or gone
        table.entry = None

    def _paused(self) -> set[tuple[str, str]]:
        rows = fetch(self._connection, render("witness/paused", schema=self._schema))
        return {(row["schema_name"], row["table_name"]) for row in rows}

    # reading and judging

    def _read(self, server: Server) -> bool:
        upto = server.flushed
        if upto is None or upto <= self._state.kept:
            return True
        errors = import_psycopg().errors
        try:
            with self._connection.transaction():
                number, end = self._judge_all(upto)
        except errors.ObjectInUse as error:
            raise BusyError(
                f"somebody reads the slot {self._names.slot}", hint=first_line(error)
            ) from error
        is_at_end = number < AT_LEAST
        self._state.kept = max(self._state.kept, end, upto if is_at_end else 0)
        return is_at_end

    def _judge_all(self, upto: int) -> tuple[int, int]:
        number, end = 0, 0

        def messages() -> Iterator[bytes]:
            nonlocal number
            for batch in slot.peek(self._connection, self._names, upto, AT_LEAST):
                number += len(batch)
                yield from batch

        for items in _chunks(read_changes(messages()), CHUNK):
            self._prepare([item for item in items if isinstance(item, Change)])
            for item in items:
                if isinstance(item, Done):
                    self._close()
                    end = item.end_lsn
                elif item.position.commit_lsn > self._state.seen:
                    self._matcher.take(item)
        return number, end

    def _close(self) -> None:
        left = self._matcher.close()
        if left is None:
            return
        counts = self._state.counts
        self._state.seen = left.commit_lsn
        counts.transactions += 1
        counts.changes += left.changes
        counts.events += left.events
        self._found += self._judge.judge(left)
        counts.unjudged += left.unjudged
        if left.must_read_rules:
            self._read_rules()

    def _read_rules(self) -> None:
        records = slot.read_tables(self._connection, self._names)
        self._book.take_rules(map(Watched.from_record, records))
        self._matcher.forget_layouts()
        self._synced_at = float("-inf")

    def _prepare(self, changes: Sequence[Change[Row]]) -> None:
        """Find out what has to be asked of the server to compare these changes."""
        relations = {id(change.relation): change.relation for change in changes}.values()
        self._find_roots(
            {relation.oid for relation in relations if relation.schema != self._schema}
        )
        types = self._matcher.types
        wanted = {column.type_oid for relation in relations for column in relation.columns}
        for oid in wanted - types.keys():
            if known := built_in(oid):
                types[oid] = known
        if asked := sorted(wanted - types.keys()):
            for row in fetch(self._connection, query("witness_types"), {"oids": asked}):
                types[row["oid"]] = type_of(row["base"], row["category"], row["type"], row["name"])
            for oid in asked:  # a type that is gone
                types.setdefault(oid, type_of(0, "", "", ""))
        self._ask_values(changes)

    def _find_roots(self, oids: Iterable[int]) -> None:
        roots = self._book.roots
        if asked := [oid for oid in oids if oid not in roots]:
            rows = fetch(
                self._connection,
                render("witness/roots", schema=self._schema.replace("%", "%%")),
                {"oids": asked},
            )
            found = {row["oid"]: row["root"] for row in rows}
            for oid in asked:
                roots[oid] = found.get(oid, oid if oid in self._book.tables else None)

    def _ask_values(self, changes: Sequence[Change[Row]]) -> None:
        """Values of arrays and composite types as JSON."""
        types = self._matcher.types
        made: dict[tuple[str, str], str] = {}
        self._matcher.made = made  # changes that wait keep theirs
        cells: dict[str, set[str]] = {}
        for change in changes:
            places = [
                (place, types[column.type_oid].name)
                for place, column in enumerate(change.relation.columns)
                if types[column.type_oid].kind is Kind.SERVER
            ]
            if not places or change.relation.schema == self._schema:
                continue
            for row in (change.before, change.after):
                for place, name in places if row is not None else ():
                    if isinstance(cell := row[place], str):  # type: ignore[index]
                        cells.setdefault(name, set()).add(cell)
        for name, texts in cells.items():
            asked = sorted(texts)
            sql = render("witness/as_json", type=name)
            try:
                with self._connection.transaction():
                    rows = fetch(self._connection, sql, {"cells": asked})
            except import_psycopg().Error:
                continue  # the type was changed since
            made.update({(name, cell): row["image"] for cell, row in zip(asked, rows, strict=True)})

    def _keep(self, has_news: bool) -> list[int]:
        """Keep state and findings, then let the WAL go."""
        now = self._clock()
        if not has_news and not self._found and now - self._kept_at < KEEP_EVERY:
            return []
        self._state.tables = self._book.tables
        events = keep(self._connection, self._schema, self._state, self._found)
        advance(self._connection, self._names.slot, self._state.kept)
        self._kept_at = now
        return events


def _chunks(items: Iterable[Change[Row] | Done], size: int) -> Iterator[list[Change[Row] | Done]]:
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk
