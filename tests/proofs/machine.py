"""A state machine that does to random tables what applications do; after each commit, replay equals the table."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from psycopg.pq import TransactionStatus

from tests.plugins.database import Connection
from tests.plugins.replay import (
    BrokenTrailError,
    Replay,
    fill,
    images_of,
    read_events,
    require_equal,
    require_keys,
)
from tests.proofs.bench import Bench, install
from tests.proofs.palette import HOSTILITIES, KEY_VALUES, UNSETTLED, VALUES, Hostility
from tests.proofs.schemas import Schema, schemas

IDLE = TransactionStatus.IDLE

# What an application's statement may run into by itself; everything else fails the example.
REFUSALS = (
    psycopg.IntegrityError,  # keys and references
    psycopg.errors.CardinalityViolation,  # one statement changes a row twice
    psycopg.errors.TriggeredDataChangeViolation,
    psycopg.errors.FeatureNotSupported,  # ON CONFLICT with a deferrable key
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.ObjectInUse,
)
COMPUTED = ("w",)
OUR_CODE = "function audit."

NUMBERS = st.integers(-1, 8)
WHERE = st.sampled_from(
    (
        "true",
        "n % 2 = 0",
        "n > 2",
        "n is null",
        "p = 1",
        "n = (select min(n) from {table})",
        "ctid = (select max(ctid) from {table})",
    )
)


LOCAL = ("mood", "score", "pair", "span")


def literal(value: str | None, kind: str) -> str:
    """A value as SQL that means the same under any settings and search_path."""
    qualified = f"public.{kind}" if kind.removesuffix("[]") in LOCAL else kind
    if value is None:
        return f"null::{qualified}"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"E'{quoted}'::{qualified}"


class ReplayMachine(RuleBasedStateMachine):
    """One table, perhaps with a child, and one session that works on it; `bench` is set by a subclass."""

    bench: ClassVar[Bench]
    replay_type: ClassVar[type[Replay]] = Replay

    @initialize(schema=schemas(), data=st.data())
    def create(self, schema: Schema, data: st.DataObject) -> None:
        self.schema = schema
        self.home = self.bench.next_schema()
        self.table = f"{self.home}.t"
        self.columns = dict(zip(schema.value_columns, schema.columns, strict=True))
        self.columns |= dict(zip(schema.key_columns, schema.key_types, strict=True))
        self.audited = ["t", "c"] if schema.has_child else ["t"]
        self.replays = {name: self.replay_type() for name in self.audited}
        self.cursor, self.added, self.savepoint, self.changed = 0, 0, False, False
        self.bench.checker.execute(schema.ddl(self.home, self.bench.version))
        self.capture()
        self.writer = self.bench.writer()
        for _ in range(3):
            self.insert_rows(self.table, [self._row(data)])

    def capture(self) -> None:
        """Install capture on all tables; controls break it here."""
        install(self.bench.checker, self.table, self.schema.rule)
        if self.schema.has_child:
            install(self.bench.checker, f"{self.home}.c", self.schema.child_rule)

    def run(self, query: str, rows: list[list[str | None]] | None = None) -> None:
        """Run a statement; where the server refuses it, go back to the savepoint, or to the beginning."""
        self.changed = True
        self.bench.statements += 1
        try:
            if rows is None:
                self.writer.execute(query)
            else:
                self._copy(query, rows)
        except REFUSALS as error:
            if OUR_CODE in (error.diag.context or ""):
                raise BrokenTrailError(f"capture refused a write: {error}") from error
            self.bench.refused += 1
            if self.writer.info.transaction_status is not IDLE:
                self.writer.execute("rollback to s" if self.savepoint else "rollback")
        if self.writer.info.transaction_status is IDLE:
            self.savepoint = False

    def _copy(self, query: str, rows: list[list[str | None]]) -> None:
        with self.writer.cursor().copy(query) as copy:
            for row in rows:
                copy.write_row(row)

    # What the application does.

    @rule(data=st.data(), conflict=st.sampled_from(("", "", "nothing", "update", "other")))
    def insert(self, data: st.DataObject, conflict: str) -> None:
        rows = [self._row(data) for _ in range(data.draw(st.integers(1, 3)))]
        self.insert_rows(self._any_table(data), rows, self._conflict(conflict))

    def insert_rows(
        self, table: str, rows: list[dict[str, str | None]], conflict: str = ""
    ) -> None:
        """One INSERT of some rows."""
        values = ", ".join(f"({', '.join(self._literals(row))})" for row in rows)
        self.run(f"insert into {table} ({self._names(rows)}) values {values}{conflict}")

    def _conflict(self, what: str) -> str:
        keys = ", ".join(self.schema.key_columns)
        if what == "nothing":
            return " on conflict do nothing"
        if not what or not keys:
            return ""
        change = "n = excluded.n" if what == "update" else "n = 3, p = excluded.p"
        return f" on conflict ({keys}) do update set {change}"

    @rule(data=st.data())
    def copy(self, data: st.DataObject) -> None:
        rows = [self._row(data) for _ in range(data.draw(st.integers(1, 3)))]
        query = f"copy {self._any_table(data)} ({self._names(rows)}) from stdin"
        self.run(query, [list(row.values()) for row in rows])

    @rule(data=st.data(), where=WHERE)
    def update(self, data: st.DataObject, where: str) -> None:
        table = self._any_table(data)
        changes = self._row(data)
        name = data.draw(
            st.sampled_from([n for n in changes if n not in (*self.schema.key_columns, "p")])
        )
        change = data.draw(st.sampled_from((name, literal(changes[name], self._type(name)))))
        self.run(f"update {table} set {name} = {change} where {where.format(table=table)}")

    @precondition(lambda self: self.schema.key)
    @rule(data=st.data(), where=WHERE)
    def change_key(self, data: st.DataObject, where: str) -> None:
        name = data.draw(st.sampled_from(self.schema.key_columns))
        value = data.draw(st.sampled_from(self._values(name)))
        change = f"{name} = {literal(value, self._type(name))}"
        if self._type(name) == "int" and data.draw(st.booleans()):
            change = f"{name} = {name} + 1"
        self.run(f"update {self.table} set {change} where {where.format(table=self.table)}")

    @precondition(lambda self: self.schema.partitioned)
    @rule(number=st.integers(0, 6), where=WHERE)
    def move_rows(self, number: int, where: str) -> None:
        self.run(f"update {self.table} set p = {number} where {where.format(table=self.table)}")

    @rule(number=NUMBERS)
    def update_from(self, number: int) -> None:
        self.run(
            f"update {self.table} as t set n = s.n + {number} from (values (1, 2), (2, 1), (3, 7)) as s (i, n)"
            " where t.n = s.i"
        )

    @rule(where=WHERE)
    def rescale(self, where: str) -> None:
        self.run(f"update {self.table} set n = n * 1.0 where {where.format(table=self.table)}")

    @rule(data=st.data(), where=WHERE)
    def delete(self, data: st.DataObject, where: str) -> None:
        table = self._any_table(data)
        self.run(f"delete from {table} where {where.format(table=table)}")

    @precondition(lambda self: self.bench.version >= 15)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        row = self._row(data)
        self.run(
            f"merge into {self.table} as t using (values (1), (2), (5)) as s (i) on t.n = s.i"
            " when matched and s.i = 1 then delete"
            " when matched then update set n = t.n + 1, p = 1"
            f" when not matched and s.i = 5 then insert ({self._names([row])})"
            f" values ({', '.join(self._literals(row))})"
        )

    @rule(data=st.data())
    def several_writes(self, data: st.DataObject) -> None:
        row = self._row(data)
        self.run(
            f"with gone as (delete from {self.table} where n = 1 returning n),"
            f" other as (update {self.table} set n = 4 where n = 2 returning n)"
            f" insert into {self.table} ({self._names([row])}) select {', '.join(self._literals(row))}"
            " from (select count(*) from gone, other) as counted"
        )

    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        self.run(f"truncate {self._any_table(data)} cascade")

    @precondition(lambda self: self.schema.has_child)
    @rule(number=NUMBERS)
    def add_children(self, number: int) -> None:
        names = [f"k{position}" for position in range(len(self.schema.key_types))]
        self.run(
            f"insert into {self.home}.c (n, {', '.join(names)})"
            f" select {number}, {', '.join(self.schema.key_columns)} from {self.table}"
        )

    @precondition(lambda self: self.schema.has_child)
    @rule(number=NUMBERS)
    def change_children(self, number: int) -> None:
        self.run(f"update {self.home}.c set n = {number} where id % 2 = 0")

    @precondition(lambda self: self.schema.has_boss)
    @rule(where=WHERE)
    def promote(self, where: str) -> None:
        changes = ", ".join(f"b{i} = s.{name}" for i, name in enumerate(self.schema.key_columns))
        self.run(
            f"update {self.table} as t set {changes} from (select * from {self.table}"
            f" where {where.format(table=self.table)} order by ctid limit 1) as s"
        )

    # Transactions and sessions.

    @precondition(lambda self: self.writer.info.transaction_status is IDLE)
    @rule()
    def begin(self) -> None:
        self.run("begin")

    @precondition(lambda self: self.writer.info.transaction_status is not IDLE)
    @rule(end=st.sampled_from(("commit", "commit", "rollback", "commit and chain")))
    def end(self, end: str) -> None:
        self.savepoint = False
        self.run(end)

    @precondition(lambda self: self.writer.info.transaction_status is not IDLE)
    @rule()
    def set_savepoint(self) -> None:
        self.run("savepoint s")
        self.savepoint = True

    @precondition(lambda self: self.savepoint)
    @rule()
    def rollback_to_savepoint(self) -> None:
        self.run("rollback to s")

    @precondition(lambda self: self.writer.info.transaction_status is not IDLE)
    @rule(when=st.sampled_from(("deferred", "immediate")))
    def set_constraints(self, when: str) -> None:
        self.run(f"set constraints all {when}")

    @rule(hostility=st.sampled_from(HOSTILITIES))
    def change_settings(self, hostility: Hostility) -> None:
        self.run(f"reset role; {hostility.statements}")

    @rule(role=st.sampled_from(("audit_app", "none")))
    def change_role(self, role: str) -> None:
        self.run(f"set role {role}")

    @rule(mode=st.sampled_from(("replica", "origin", "origin")))
    def change_replication_role(self, mode: str) -> None:
        self.run(f"reset role; set session_replication_role = {mode}")

    # Migrations. The trail does not hold them: the replayed table is migrated like the live one.

    @precondition(lambda self: self.writer.info.transaction_status is IDLE)
    @rule(data=st.data(), what=st.sampled_from(("add", "drop", "rename", "retype", "leaf")))
    def alter(self, data: st.DataObject, what: str) -> None:
        movable = sorted(name for name in self.columns if name[0] in "vx")
        self.added += 1
        new = f"x{self.added}"
        if what == "add":
            kind = data.draw(st.sampled_from(UNSETTLED))
            default = literal(data.draw(st.sampled_from(VALUES[kind])), kind)
            self._migrate(f"alter table {{table}} add {new} {kind} default {default}")
            self.columns[new] = kind
        elif what == "leaf" and self.schema.partitioned:
            self._add_leaf(new)
        elif movable:
            name = data.draw(st.sampled_from(movable))
            kind = self.columns.pop(name)
            if what == "rename":
                self._migrate(f"alter table {{table}} rename {name} to {new}")
                self.columns[new] = kind
            elif what == "retype":
                self._migrate(f"alter table {{table}} alter {name} type text using {name}::text")
                self.columns[name] = "text"
            else:
                self._migrate(f"alter table {{table}} drop {name}")

    def _add_leaf(self, name: str) -> None:
        with suppress(psycopg.IntegrityError):  # the default leaf has such rows
            self.bench.checker.execute(
                f"create table {self.home}.{name} partition of {self.home}.rest for values in ({self.added + 3})"
            )
            # TRUNCATE triggers are not passed down: a new leaf asks for another installation.
            self.capture()

    def _migrate(self, query: str) -> None:
        checker, copy = self.bench.checker, f"{self.home}.copy"
        checker.execute(f"create table {copy} (like {self.table})")
        fill(checker, copy, self.table, self.replays["t"].rows)
        for table in (self.table, copy):
            checker.execute(query.replace("{table}", table))
        self.replays["t"].rows = images_of(checker, copy, computed=COMPUTED)
        checker.execute(f"drop table {copy}")
        self.changed = True

    # The proof.

    @invariant()
    def replay_equals_the_table(self) -> None:
        self.bench.steps += 1
        if not self.changed or self.writer.info.transaction_status is not IDLE:
            return
        self.changed = False
        found = read_events(self.bench.checker, self.home, self.cursor, computed=COMPUTED)
        for name, events in found.items():
            self.cursor = max(self.cursor, events[-1].event_id)
            self.bench.events += len(events)
            self.replays[name].apply(events)
            require_keys(events, self.schema.key_columns if name == "t" else ("id",))
        for name in self.audited:
            self.bench.comparisons += 1
            require_equal(self.bench.checker, f"{self.home}.{name}", self.replays[name].rows)

    def teardown(self) -> None:
        if hasattr(self, "writer"):
            self.writer.close()
            clear(self.bench.checker, self.home)

    # Random parts of statements.

    def _row(self, data: st.DataObject) -> dict[str, str | None]:
        row: dict[str, str | None] = {}
        for name in self.columns:
            keyed = name in self.schema.key_columns
            values = self._values(name)
            row[name] = data.draw(st.sampled_from(values if keyed else (*values, None)))
        row["n"] = str(data.draw(NUMBERS))
        row["p"] = data.draw(st.sampled_from("0123456")) if self.schema.partitioned else "0"
        return row

    def _values(self, name: str) -> tuple[str, ...]:
        if name == "p":
            return tuple("0123456")
        kind = self.columns[name]
        return KEY_VALUES[kind] if name in self.schema.key_columns else VALUES[kind]

    def _type(self, name: str) -> str:
        return self.columns.get(name, "int")

    def _literals(self, row: dict[str, str | None]) -> list[str]:
        return [literal(value, self._type(name)) for name, value in row.items()]

    @staticmethod
    def _names(rows: list[dict[str, str | None]]) -> str:
        return ", ".join(rows[0])

    def _any_table(self, data: st.DataObject) -> str:
        if not self.schema.partitioned:
            return self.table
        return f"{self.home}.{data.draw(st.sampled_from(('t', 't', 'p0', 'rest', 'p2')))}"


def clear(connection: Connection, schema: str) -> None:
    """Drop an example's schema and what captured its tables."""
    connection.execute(f"drop schema {schema} cascade")
    functions = connection.execute(
        "select oid::regprocedure::text from pg_proc where proname like %s",
        (f"capture\\_{schema}\\_\\_%",),
    ).fetchall()
    for (function,) in functions:
        connection.execute(f"drop function {function}")
