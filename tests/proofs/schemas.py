"""Random tables: their columns, keys, leaves, children, triggers, and the rule that audits them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from audit_toolkit.config import Capture, Store, TableRule, Truncate
from tests.proofs.palette import KEY_VALUES, VALUES

COLUMNS = tuple(VALUES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """One table `t` in a schema of its own, perhaps with a child `c` that refers to it."""

    key: tuple[str, ...]
    """The types of the key columns `k0`, `k1`; empty without a key."""
    deferrable: bool
    columns: tuple[str, ...]
    """The types of the columns `v0`, `v1`, …"""
    partitioned: bool
    stored: bool
    """A stored generated column."""
    virtual: bool
    """A virtual one, where the server has them."""
    boss: str | None
    """What a reference of the table to itself does when the row goes, None without such a reference."""
    child: str | None
    """What references of `c` do when the row goes or its key changes."""
    before: bool
    """A BEFORE trigger of the application that changes the row."""
    after: str | None
    """The name of an AFTER trigger of the application that changes this row and others."""
    rule: TableRule
    child_rule: TableRule

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The names of the columns of the primary key."""
        if not self.key:
            return ()
        names = tuple(f"k{number}" for number in range(len(self.key)))
        return (*names, "p") if self.partitioned else names

    @property
    def value_columns(self) -> tuple[str, ...]:
        """The names of the other columns at the beginning."""
        return tuple(f"v{number}" for number in range(len(self.columns)))

    @property
    def has_child(self) -> bool:
        """Whether there is a table `c`."""
        return bool(self.child and self.key and not self.deferrable)

    @property
    def has_boss(self) -> bool:
        """Whether the table refers to itself."""
        return bool(self.boss and self.key and not self.deferrable)

    @property
    def key_types(self) -> tuple[str, ...]:
        """The types of `key_columns`."""
        return (*self.key, "int") if self.partitioned and self.key else self.key

    def ddl(self, schema: str, version: int) -> str:
        """The statements that make it, on a server of that major version."""
        made = f"create schema {schema}; {self._table(schema, version)};"
        if self.partitioned:
            made += f"""
                create table {schema}.p0 partition of {schema}.t for values in (0);
                create table {schema}.p1 partition of {schema}.t for values in (1);
                create table {schema}.rest partition of {schema}.t default partition by list (p);
                create table {schema}.p2 partition of {schema}.rest for values in (2);
                create table {schema}.p3 partition of {schema}.rest default;
            """
        if self.has_child:
            references = ", ".join(f"k{i} {kind}" for i, kind in enumerate(self.key_types))
            foreign = ", ".join(f"k{i}" for i in range(len(self.key_types)))
            made += f"""
                create table {schema}.c (id int generated always as identity primary key, {references}, n int,
                    foreign key ({foreign}) references {schema}.t {self.child});
            """
        made += self._triggers(schema)
        return made + (
            f"grant usage on schema {schema} to audit_app; "
            f"grant all on all tables in schema {schema} to audit_app"
        )

    def _table(self, schema: str, version: int) -> str:
        columns = [f"k{number} {kind}" for number, kind in enumerate(self.key)]
        columns += [f"v{number} {kind}" for number, kind in enumerate(self.columns)]
        columns += ["n numeric default 0", "p int not null default 0"]
        if self.stored:
            columns.append("g numeric generated always as (n * 2) stored")
        if self.virtual and version >= 18:
            columns.append("w numeric generated always as (n * 3) virtual")
        if self.has_boss:
            columns += [f"b{number} {kind}" for number, kind in enumerate(self.key_types)]
            foreign = ", ".join(f"b{number}" for number in range(len(self.key_types)))
            columns.append(f"foreign key ({foreign}) references {schema}.t {self.boss}")
        if self.key:
            deferrable = " deferrable initially deferred" if self.deferrable else ""
            columns.append(f"primary key ({', '.join(self.key_columns)}){deferrable}")
        partition = " partition by list (p)" if self.partitioned else ""
        return f"create table {schema}.t ({', '.join(columns)}){partition}"

    def _triggers(self, schema: str) -> str:
        made = ""
        if self.before:
            made += f"""
                create function {schema}.before() returns trigger language plpgsql as $$
                begin
                    if new.n = 7 then return null; end if;
                    new.n := coalesce(new.n, -1) + 1;
                    return new;
                end $$;
                create trigger b before insert or update on {schema}.t
                    for each row execute function {schema}.before();
            """
        if self.after:
            made += f"""
                create function {schema}.after() returns trigger language plpgsql as $$
                begin
                    if pg_trigger_depth() < 3 then
                        update {schema}.t set n = n + 1 where n between new.n - 1 and new.n and n < 8;
                        delete from {schema}.t where n = 9;
                    end if;
                    return null;
                end $$;
                create trigger "{self.after}" after insert or update on {schema}.t
                    for each row execute function {schema}.after();
            """
        return made


ON_GONE = (
    "on delete cascade on update cascade",
    "on delete set null on update set null deferrable initially deferred",
    "on delete cascade on update no action deferrable initially deferred",
    "on delete set null on update cascade",
)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Any of these tables."""
    partitioned = draw(st.booleans()) and draw(st.booleans())
    return Schema(
        key=tuple(draw(st.lists(st.sampled_from(tuple(KEY_VALUES)), max_size=2))),
        deferrable=draw(st.booleans()) and draw(st.booleans()),
        columns=tuple(draw(st.lists(st.sampled_from(COLUMNS), max_size=4))),
        partitioned=partitioned,
        stored=draw(st.booleans()),
        virtual=draw(st.booleans()) and draw(st.booleans()),
        boss=draw(st.none() | st.sampled_from(ON_GONE)),
        child=draw(st.none() | st.sampled_from(ON_GONE)),
        before=draw(st.booleans()),
        after=draw(st.sampled_from((None, "!first", "later"))),
        rule=draw(rules(Capture.ROW if partitioned else None)),
        child_rule=draw(rules()),
    )


def rules(capture: Capture | None = None) -> st.SearchStrategy[TableRule]:
    """Rules that keep whole rows, so that the trail can be replayed."""
    return st.builds(
        TableRule,
        capture=st.just(capture) if capture else st.sampled_from([Capture.ROW, Capture.STATEMENT]),
        store=st.sampled_from((Store.ROWS, Store.CHANGES)),
        log_unchanged=st.booleans(),
        truncate=st.sampled_from((Truncate.EVENT, Truncate.ROWS)),
    )
