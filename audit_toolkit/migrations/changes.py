"""From what is wanted and what is there to the revisions that lie between."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby

from audit_toolkit.capture import Target, plan_capture, plan_uninstall
from audit_toolkit.capture.render import (
    capture_hash,
    former_statements,
    own_values,
    unpublished,
)
from audit_toolkit.catalog import Installed, Table
from audit_toolkit.config import Capture, TableRule, TrailSettings
from audit_toolkit.migrations.revision.record import CaptureRecord, Record, Recorded, constant_name
from audit_toolkit.migrations.revision.rule_text import (
    flags,
    hidden_columns,
    listed,
    meaning,
    trail_name,
)
from audit_toolkit.migrations.revision.text import Revision, Script
from audit_toolkit.names import QualifiedName, capture_function
from audit_toolkit.plan import Plan, Step
from audit_toolkit.schema import plan_trail
from audit_toolkit.templates import render_statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """What captures a table now, and the SQL that puts it back."""

    rule: TableRule
    hash: str
    triggers: tuple[str, ...]
    statements: tuple[str, ...]
    function: str
    made_for: QualifiedName
    """What the table was called when it was installed."""
    source: str
    """Where it is from, in words: `revision 3f2a9c`, `the database`."""
    optional: bool = False
    """Whether databases of the project need not have the table."""

    @property
    def from_wal(self) -> bool:
        """Whether a worker reads it from the WAL."""
        return self.rule.capture is Capture.WAL

    @classmethod
    def of(cls, recorded: Recorded) -> Former:
        """What a revision of the project put there."""
        return cls(
            rule=recorded.capture.rule,
            hash=recorded.capture.hash,
            triggers=recorded.capture.triggers,
            statements=recorded.statements,
            function=recorded.capture.function,
            made_for=recorded.capture.table,
            source=f"revision {recorded.revision}",
            optional=recorded.capture.optional,
        )

    @classmethod
    def of_database(cls, installed: Installed, table: Table, schema: str) -> Former:
        """What the database has, put there by something else than the project."""
        target = Target(
            table=table,
            rule=TableRule.from_dict(installed.options),
            function_name=installed.function,
        )
        return cls(
            rule=target.rule,
            hash=installed.hash,
            triggers=installed.trigger_names,
            statements=former_statements(installed, target, schema),
            function=installed.function,
            made_for=installed.made_for,
            source="the database",
        )


@dataclass(frozen=True, kw_only=True)
class Change:
    """A table that is to be captured, and what captures it until then."""

    target: Target
    schema: str
    former: Former | None = None
    damaged: bool = False
    """Whether the database has lost something of what captures it."""
    strays: tuple[str, ...] = ()
    """Triggers that run its capture function and that neither before nor after belong to it: renamed by hand."""
    settles: tuple[str, ...] = ()
    """The revisions of two branches that disagree on it, each with its options; empty where none do."""
    optional: bool = False
    """Whether the revision is to go on where the table is not there: of tenants each database has its own."""

    @property
    def table(self) -> QualifiedName:
        """The audited table."""
        return self.target.table.name

    @property
    def triggers(self) -> tuple[str, ...]:
        """The names of the triggers that it is captured by afterwards."""
        return tuple(trigger.name for trigger in self.target.triggers)

    @property
    def needed(self) -> bool:
        """Whether anything would differ afterwards."""
        former = self.former
        if former is None or self.damaged or self.settles:
            return True
        return former.rule != self.target.rule or former.hash != self.hash

    @cached_property
    def hash(self) -> str:
        """What the function and the triggers are compared by."""
        return capture_hash(self.target, self.schema)

    @property
    def words(self) -> str:
        """What it does, as a sentence or two."""
        rule = self.target.rule
        means = meaning(rule, self.schema)
        if self.settles:
            return (
                f"Settles the capture of {self.table}, on which branches disagree "
                f"({'; '.join(self.settles)}): {means}"
            )
        if self.former is None:
            return f"Starts auditing {self.table}: {means}"
        if self.former.rule == rule and self.damaged and self.former.hash == self.hash:
            return (
                f"Repairs the capture of {self.table}, of which the database has lost a part: "
                f"{means}"
            )
        if self.former.rule == rule:
            return f"Reinstalls the capture of {self.table}, with the same options: {means}"
        before, after = (flags(each) or "no options" for each in (self.former.rule, rule))
        text = f"Changes the capture of {self.table} from {before} to {after}: {means}"
        return f"{text} {shown_now}" if (shown_now := self._shown_now()) else text

    def _shown_now(self) -> str:
        """What the change would bring to light: nobody should find that out from the trail."""
        table = self.target.table
        columns = [column.name for column in table.columns if column.name not in table.key]
        was = hidden_columns(self.former.rule, columns) if self.former else set()
        shown = was - hidden_columns(self.target.rule, columns)
        return f"No longer hidden: {', '.join(sorted(shown))}." if shown else ""

    def plan(self) -> Plan:
        """The steps of the change."""
        former = self.former
        plan = plan_capture(
            self.target,
            self.schema,
            former_triggers=(*(former.triggers if former else ()), *self.strays),
        )
        if former and former.from_wal and not self.target.from_wal:
            plan = Plan(steps=(*plan.steps, _unpublish(self.table, self.schema, former.function)))
        if not self.optional:
            return plan
        steps = (
            replace(step, statements=_guarded(self.table, step.statements, done="made"))
            for step in plan.steps
        )
        return replace(plan, steps=tuple(steps))

    def undo(self) -> Script:
        """What takes the change back: the end of capture, or what captured the table before."""
        if self.former is None:
            why = f"Capture of {self.table} ends; its events stay"
            return Script(
                name=constant_name("RELEASE", self.table),
                steps=(Step(why=why, statements=self.plan().undo),),
            )
        unknown_before = tuple(name for name in self.triggers if name not in self.former.triggers)
        script = _restore(self.table, self._as_it_was(self.former), unknown_before)
        if self.target.from_wal and not self.former.from_wal:
            last = _unpublish(self.table, self.schema, self.target.function)
            script = replace(script, steps=(*script.steps, last))
        return script

    def _as_it_was(self, former: Former) -> Former:
        """What captured the table before, with what says that it means the columns that it meant then."""
        if not any(".note_capture(" in statement for statement in former.statements):
            return former  # of a release that did not note it
        values = {"schema": self.schema, "table": self.table, "function": former.function}
        put_back = render_statements("triggers/put_back", **values)
        return replace(former, statements=(*former.statements, *put_back))


def trail_revision(settings: TrailSettings) -> Revision:
    """The revision that makes the trail; on the way down it removes one without events."""
    plan, trail = plan_trail(settings), trail_name(settings.schema)
    why = "Removes the trail if it has no events and nothing uses it"
    return Revision(
        message="audit: create the trail",
        summary=(
            (
                f"Creates the audit trail: the table {trail}, append-only, with one partition "
                f"per {settings.interval}, created well ahead. An existing trail is adopted."
            ),
            "The downgrade removes the trail if it is empty; a trail with events is kept.",
        ),
        record=Record(schema=settings.schema, interval=settings.interval, owner=settings.owner),
        upgrade=(Script(name="CREATE_TRAIL", steps=plan.steps),),
        downgrade=(Script(name="DROP_TRAIL", steps=(Step(why=why, statements=plan.undo),)),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """A table, and what somebody called it by hand."""

    table: QualifiedName
    to: QualifiedName


def rename_revision(renames: Sequence[Rename], schema: str) -> Revision:
    """The revision that renames tables where nobody has: so that the project goes on from any database."""

    def script(table: QualifiedName, to: QualifiedName) -> Script:
        done = render_statements("migrations/rename_unless_done", table=table, to=to)
        why = f"Where {table} exists, but {to} does not"
        return Script(
            name=constant_name("RENAME", table), steps=(Step(why=why, statements=tuple(done)),)
        )

    return Revision(
        message=f"audit: follow the rename of {listed([rename.table for rename in renames])}",
        summary=tuple(
            (
                f"Renames {rename.table} to {rename.to} unless that is done: it was renamed by "
                "hand, and no other revision does it. Without it a database built from the "
                "revisions would not have the table."
            )
            for rename in renames
        ),
        record=Record(schema=schema),
        upgrade=tuple(script(rename.table, rename.to) for rename in renames),
        downgrade=tuple(script(rename.to, rename.table) for rename in reversed(renames)),
    )


def capture_revision(
    changes: Sequence[Change], schema: str, message: str | None = None, *, declared: bool = False
) -> Revision:
    """The revision that puts capture on tables, or changes it; its downgrade takes that back.

    `declared` says that it follows from what the project declares.
    """
    tables = [change.table for change in changes]
    verb = "capture" if all(change.former is None for change in changes) else "change capture of"
    return Revision(
        message=message or f"audit: {verb} {listed(tables)}",
        summary=_summary(changes),
        record=Record(
            schema=schema,
            declared=declared,
            captures=tuple(
                CaptureRecord(
                    table=change.table,
                    rule=change.target.rule,
                    hash=change.hash,
                    triggers=change.triggers,
                    function=change.target.function,
                    optional=change.optional,
                )
                for change in changes
            ),
        ),
        upgrade=tuple(
            Script(
                name=constant_name("CAPTURE", change.table),
                steps=change.plan().steps,
                own=own_values(change.target),
            )
            for change in changes
        ),
        downgrade=tuple(change.undo() for change in reversed(changes)),
    )


def _summary(changes: Sequence[Change]) -> tuple[str, ...]:
    """What they do, in words: tables that begin alike, and are many, in one sentence."""
    alike: dict[TableRule, list[Change]] = {}
    for change in changes:
        if change.former is None and not change.settles:
            alike.setdefault(change.target.rule, []).append(change)
    together = {rule: group for rule, group in alike.items() if len(group) > FEW}
    return (
        *(
            f"Starts auditing {len(group)} tables: {meaning(rule, group[0].schema)}"
            for rule, group in together.items()
        ),
        *(
            change.words
            for change in changes
            if change.former is not None or change.settles or change.target.rule not in together
        ),
    )


FEW = 3
"""How many tables of one rule each get a sentence of their own."""


def uninstall_revision(
    captured: Mapping[QualifiedName, Former], schema: str, message: str | None = None
) -> Revision:
    """The revision that takes capture off tables; the downgrade puts back what was there."""
    tables = list(captured)
    return Revision(
        message=message or f"audit: release {listed(tables)}",
        summary=tuple(
            f"Stops auditing {table}: changes are no longer recorded. Its events stay."
            for table in tables
        )
        if len(tables) <= FEW
        else (
            (
                f"Stops auditing {len(tables)} tables: changes are no longer recorded. Their "
                "events stay."
            ),
        ),
        record=Record(
            schema=schema,
            releases=tuple(tables),
            released_functions=tuple(
                former.function
                for table, former in captured.items()
                if former.function != capture_function(table)
            ),
        ),
        upgrade=tuple(
            Script(
                name=constant_name("RELEASE", table),
                steps=plan_uninstall(
                    table, schema, function=former.function, from_wal=former.from_wal
                ).steps,
            )
            for table, former in captured.items()
        ),
        downgrade=tuple(_restore(table, captured[table]) for table in reversed(tables)),
    )


def together(parts: Iterable[Revision], message: str = "") -> Revision:
    """Several revisions as one: each runs in its turn, and one record says it all."""
    parts = tuple(parts)
    records = [part.record for part in parts]
    return Revision(
        message=message,
        summary=tuple(chain.from_iterable(part.summary for part in parts)),
        record=replace(
            records[0],
            interval=next((r.interval for r in records if r.interval), None),
            owner=next((r.owner for r in records if r.owner), None),
            captures=tuple(chain.from_iterable(r.captures for r in records)),
            releases=tuple(chain.from_iterable(r.releases for r in records)),
            released_functions=tuple(chain.from_iterable(r.released_functions for r in records)),
            declared=any(r.declared for r in records),
        ),
        upgrade=tuple(chain.from_iterable(part.upgrade for part in parts)),
        downgrade=tuple(chain.from_iterable(part.downgrade for part in reversed(parts))),
    )


def _unpublish(table: QualifiedName, schema: str, function: str) -> Step:
    return Step(
        why=f"{table} is not read from the WAL any more",
        statements=unpublished(table, schema, function),
        lock="ACCESS EXCLUSIVE",
    )


def _restore(table: QualifiedName, former: Former, drop: tuple[str, ...] = ()) -> Script:
    drops = tuple(render_statements("triggers/drop_triggers", table=table, triggers=drop))
    why = f"What captured {table} before, from {former.source}"
    return Script(
        name=constant_name("FORMER", table),
        steps=(
            *(
                (Step(why="The triggers that came with this revision", statements=drops),)
                if drops
                else ()
            ),
            Step(why=why, statements=_where_the_table_is(table, former.statements)),
        ),
    )


_OF_THE_FUNCTION = re.compile(
    r"(--[^\n]*\n|\s)*(create or replace function|revoke|comment on function|select \S+\.hand_over\()",
    re.IGNORECASE,
)


def _where_the_table_is(table: QualifiedName, statements: Iterable[str]) -> tuple[str, ...]:
    """The statements, those that need the table only where it is: a migration may have dropped it."""
    guarded: list[str] = []
    for of_function, group in groupby(statements, lambda s: bool(_OF_THE_FUNCTION.match(s))):
        if of_function:
            guarded += group
        else:
            guarded += _guarded(table, group, done="put back")
    return tuple(guarded)


def _guarded(table: QualifiedName, statements: Iterable[str], *, done: str) -> tuple[str, ...]:
    values = {"table": table, "statements": list(statements), "done": done}
    return tuple(render_statements("migrations/where_the_table_is", **values))
