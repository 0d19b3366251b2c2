"""Captures that are broken on purpose, each in a way that was seen elsewhere: the proof has to find every one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from audit_toolkit.config import TableRule
from audit_toolkit.names import QualifiedName, capture_function
from tests.plugins.replay import BrokenTrailError, Event, Replay
from tests.proofs.bench import install
from tests.proofs.machine import ReplayMachine

# Written by hand, so that what is broken does not depend on how the toolkit's own templates look.
BY_HAND = """
    create or replace function audit.{function}() returns trigger
        language plpgsql security definer set search_path = pg_catalog, pg_temp {settings}
    as $hand$
    declare
        row_before jsonb := to_jsonb(old);
        row_after jsonb := to_jsonb(new);
    begin
        if tg_op = 'UPDATE' and ({unchanged}) then
            return null;
        end if;
        insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row_key, old_row, new_row)
        values ('{schema}', 't', left(tg_op, 1), coalesce({key_after}, {key_before}),
            case when tg_op = 'UPDATE' then nullif({key_before}, {key_after}) end, row_before, row_after);
        return null;
    end $hand$
"""
BY_KEY = """
    create or replace function audit.{function}() returns trigger
        language plpgsql security definer set search_path = pg_catalog, pg_temp {settings}
    as $hand$
    begin
        if tg_op = 'INSERT' then
            insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row)
            select '{schema}', 't', 'I', {key_after}, row_after
            from (select to_jsonb("00") from new_rows as "00") as s (row_after);
        elsif tg_op = 'DELETE' then
            insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row)
            select '{schema}', 't', 'D', {key_before}, row_before
            from (select to_jsonb("00") from old_rows as "00") as s (row_before);
        elsif tg_op = 'UPDATE' then
            insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row, new_row)
            select '{schema}', 't', 'U', {key_after}, row_before, row_after
            from (select to_jsonb("00") from old_rows as "00") as b (row_before)
            join (select to_jsonb("00") from new_rows as "00") as a (row_after) on {key_before} = {key_after};
        else
            insert into audit.logged_actions (schema_name, table_name, action) values ('{schema}', 't', 'T');
        end if;
        return null;
    end $hand$
"""
PINNED = """
    set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set bytea_output = 'hex'
    set extra_float_digits = 1 set lc_monetary = 'C'
"""
SAME_BYTES = "old *= new"


class ByHandMachine(ReplayMachine):
    """Capture of `t` by a trigger function that was written by hand; of `c`, by the toolkit."""

    body = BY_HAND
    settings = PINNED
    unchanged = SAME_BYTES
    capture_rule = TableRule()
    after = ""
    """A statement that does further harm."""

    def capture(self) -> None:
        checker = self.bench.checker
        if self.schema.partitioned or {"pair", "pair[]"} & set(self.columns.values()):
            # What is broken by hand knows nothing of leaves, and writes composite values as objects.
            return ReplayMachine.capture(self)
        for name in self.audited:
            install(
                checker, f"{self.home}.{name}", self.capture_rule if name == "t" else TableRule()
            )
        fields = {
            "function": capture_function(QualifiedName(self.home, "t")),
            "schema": self.home,
            "settings": self.settings,
            "unchanged": self.unchanged,
            "key_before": _key("row_before", self.schema.key_columns),
            "key_after": _key("row_after", self.schema.key_columns),
        }
        checker.execute(self.body.format(**fields))
        if self.after:
            checker.execute(self.after.format(table=self.table, **fields))
        return None


def _key(image: str, columns: Sequence[str]) -> str:
    if not columns:
        return "null::text"
    if len(columns) == 1:
        return f"{image} ->> '{columns[0]}'"
    parts = ", ".join(f"{image} -> '{column}'" for column in columns)
    return f"case when {image} is not null then jsonb_build_array({parts})::text end"


class SkipsKeyChanges(ByHandMachine):
    """An update that changes the key is taken for none."""

    unchanged = "old *= new or ({key_before}) is distinct from ({key_after})"

    def capture(self) -> None:
        columns = self.schema.key_columns
        self.unchanged = SkipsKeyChanges.unchanged.format(
            key_before=_key("row_before", columns), key_after=_key("row_after", columns)
        )
        super().capture()


class ComparesJson(ByHandMachine):
    """To jsonb, 1.0 equals 1.00: the change of scale is lost."""

    unchanged = "row_before = row_after"


class TrustsTheSession(ByHandMachine):
    """Values are printed by the settings of the session."""

    settings = ""


class SleepsInReplicaMode(ByHandMachine):
    """Not ENABLE ALWAYS: silent under session_replication_role = replica."""

    after = 'alter table {table} enable trigger "00_audit_row"'


class OverlooksTruncate(ByHandMachine):
    """Nothing is said about TRUNCATE."""

    after = 'drop trigger "00_audit_truncate" on {table}'


class PairsByKey(ByHandMachine):
    """Statement capture whose old and new rows are joined by the key."""

    body = BY_KEY
    capture_rule = TableRule.from_dict({"capture": "statement"})


class InOrderOfIds(Replay):
    """A replayer that takes the ids for the order of the changes."""

    __slots__ = ()

    def apply(self, events: Iterable[Event]) -> None:
        for event in sorted(events):
            if event.action == "T":
                self.rows.clear()
            if event.old is not None:
                if not self.rows[event.old]:
                    raise BrokenTrailError(f"event {event.event_id}: no row was {dict(event.old)}")
                self.rows[event.old] -= 1
            if event.after is not None:
                self.rows[event.after] += 1
        self.rows = +self.rows


class ReplaysByIds(ReplayMachine):
    """Capture is right, but the replay does not chain."""

    replay_type = InOrderOfIds


CONTROLS: tuple[type[ReplayMachine], ...] = (
    SkipsKeyChanges,
    ComparesJson,
    TrustsTheSession,
    SleepsInReplicaMode,
    OverlooksTruncate,
    PairsByKey,
    ReplaysByIds,
)
