"""A state machine that does to random tables what applications do; after each commit, replay equals the table."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.proofs.palette import HOSTILITIES, UNSETTLED, VALUES, Hostility
from tests.proofs.session import IDLE, NUMBERS, Session, literal

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


class ReplayMachine(Session):
    """The rules: statements, transactions, settings and migrations."""

    # What the application does.

    @rule(data=st.data(), conflict=st.sampled_from(("", "", "nothing", "update", "other")))
    def insert(self, data: st.DataObject, conflict: str) -> None:
        rows = [self.row(data) for _ in range(data.draw(st.integers(1, 3)))]
        self.insert_rows(self.any_table(data), rows, self._conflict(conflict))

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
        rows = [self.row(data) for _ in range(data.draw(st.integers(1, 3)))]
        query = f"copy {self.any_table(data)} ({self.names(rows)}) from stdin"
        self.run(query, [list(row.values()) for row in rows])

    @rule(data=st.data(), where=WHERE)
    def update(self, data: st.DataObject, where: str) -> None:
        table = self.any_table(data)
        changes = self.row(data)
        name = data.draw(
            st.sampled_from([n for n in changes if n not in (*self.schema.key_columns, "p")])
        )
        change = data.draw(st.sampled_from((name, literal(changes[name], self.type_of(name)))))
        self.run(f"update {table} set {name} = {change} where {where.format(table=table)}")

    @precondition(lambda self: self.schema.key)
    @rule(data=st.data(), where=WHERE)
    def change_key(self, data: st.DataObject, where: str) -> None:
        name = data.draw(st.sampled_from(self.schema.key_columns))
        value = data.draw(st.sampled_from(self.values_of(name)))
        change = f"{name} = {literal(value, self.type_of(name))}"
        if self.type_of(name) == "int" and data.draw(st.booleans()):
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
        table = self.any_table(data)
        self.run(f"delete from {table} where {where.format(table=table)}")

    @precondition(lambda self: self.bench.version >= 15)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        row = self.row(data)
        self.run(
            f"merge into {self.table} as t using (values (1), (2), (5)) as s (i) on t.n = s.i"
            " when matched and s.i = 1 then delete"
            " when matched then update set n = t.n + 1, p = 1"
            f" when not matched and s.i = 5 then insert ({self.names([row])})"
            f" values ({', '.join(self.literals(row))})"
        )

    @rule(data=st.data())
    def several_writes(self, data: st.DataObject) -> None:
        row = self.row(data)
        self.run(
            f"with gone as (delete from {self.table} where n = 1 returning n),"
            f" other as (update {self.table} set n = 4 where n = 2 returning n)"
            f" insert into {self.table} ({self.names([row])}) select {', '.join(self.literals(row))}"
            " from (select count(*) from gone, other) as counted"
        )

    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        self.run(f"truncate {self.any_table(data)} cascade")

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
        if self.schema.deferrable:
            # A deferred key is checked by a trigger, which replica mode silences: then no migration is
            # possible on the duplicates.
            mode = "origin"
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
            self.migrate(f"alter table {{table}} add {new} {kind} default {default}")
            self.columns[new] = kind
        elif what == "leaf" and self.schema.partitioned:
            self.add_leaf(new)
        elif movable:
            name = data.draw(st.sampled_from(movable))
            kind = self.columns.pop(name)
            if what == "rename":
                self.migrate(f"alter table {{table}} rename {name} to {new}")
                self.columns[new] = kind
            elif what == "retype":
                self.migrate(f"alter table {{table}} alter {name} type text using {name}::text")
                self.columns[name] = "text"
            else:
                self.migrate(f"alter table {{table}} drop {name}")
