"""A random table, the session of an application that works on it, and the proof after each of its commits."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
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
from tests.proofs.palette import KEY_VALUES, VALUES
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
LOCAL = ("mood", "score", "pair", "span")


def literal(value: str | None, kind: str) -> str:
    """A value as SQL that means the same under any settings and search_path."""
    qualified = f"public.{kind}" if kind.removesuffix("[]") in LOCAL else kind
    if value is None:
        return f"null::{qualified}"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"E'{quoted}'::{qualified}"


class Session(RuleBasedStateMachine):
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
            self.insert_rows(self.table, [self.row(data)])

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

    def insert_rows(
        self, table: str, rows: list[dict[str, str | None]], conflict: str = ""
    ) -> None:
        """One INSERT of some rows."""
        values = ", ".join(f"({', '.join(self.literals(row))})" for row in rows)
        self.run(f"insert into {table} ({self.names(rows)}) values {values}{conflict}")

    def add_leaf(self, name: str) -> None:
        with suppress(psycopg.IntegrityError):  # the default leaf has such rows
            self.bench.checker.execute(
                f"create table {self.home}.{name} partition of {self.home}.rest for values in ({self.added + 3});"
                f"grant all on {self.home}.{name} to audit_app"
            )
            # TRUNCATE triggers are not passed down: a new leaf asks for another installation.
            self.capture()

    def migrate(self, query: str) -> None:
        checker, copy = self.bench.checker, f"{self.home}.copy"
        checker.execute(f"create table {copy} (like {self.table})")
        fill(checker, copy, self.table, self.replays["t"].rows)
        for table in (self.table, copy):
            checker.execute(query.replace("{table}", table))
        # Names as in triggers, where no schema of ours is on the search_path.
        checker.execute("set search_path = pg_catalog, pg_temp")
        self.replays["t"].rows = images_of(checker, copy, computed=COMPUTED)
        checker.execute("set search_path = public")
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

    def row(self, data: st.DataObject) -> dict[str, str | None]:
        row: dict[str, str | None] = {}
        for name in self.columns:
            keyed = name in self.schema.key_columns
            values = self.values_of(name)
            row[name] = data.draw(st.sampled_from(values if keyed else (*values, None)))
        row["n"] = str(data.draw(NUMBERS))
        row["p"] = data.draw(st.sampled_from("0123456")) if self.schema.partitioned else "0"
        return row

    def values_of(self, name: str) -> tuple[str, ...]:
        if name == "p":
            return tuple("0123456")
        kind = self.columns[name]
        return KEY_VALUES[kind] if name in self.schema.key_columns else VALUES[kind]

    def type_of(self, name: str) -> str:
        return self.columns.get(name, "int")

    def literals(self, row: dict[str, str | None]) -> list[str]:
        return [literal(value, self.type_of(name)) for name, value in row.items()]

    @staticmethod
    def names(rows: list[dict[str, str | None]]) -> str:
        return ", ".join(rows[0])

    def any_table(self, data: st.DataObject) -> str:
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
