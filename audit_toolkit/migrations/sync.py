"""Capture that a project records and a database lacks: what `create_all` and `stamp` leave out.

The state comes from the revisions that the database has. What is there and right is never touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alembic.script import ScriptDirectory

from audit_toolkit.capture import Target, check_rule
from audit_toolkit.capture.declared import Declared, resolved
from audit_toolkit.catalog import Kind, Relation, Table
from audit_toolkit.config import TableRule, TrailSettings
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.migrations.changes import Change, Former
from audit_toolkit.migrations.compare import (
    CaptureRequest,
    CaptureState,
    check_conditions,
    lacks_columns,
    read_capture_state,
    require_present_trail,
)
from audit_toolkit.migrations.renames import LaterNames
from audit_toolkit.migrations.revision.record import RecordedState, declared_tables
from audit_toolkit.migrations.revision.rule_text import flags, trail_name
from audit_toolkit.names import QualifiedName
from audit_toolkit.plan import Plan
from audit_toolkit.schema import plan_trail

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.catalog.trail import TrailObjects

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A table that is to be captured, whatever the database has."""

    table: QualifiedName
    rule: TableRule
    source: str
    """Who says so: `revision 3f2a9c`, `pyproject.toml`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What a project says that a database is to have, and what it leaves open."""

    tables: tuple[Wanted, ...]
    trail: TrailSettings
    trail_is_recorded: bool
    notes: tuple[str, ...] = ()
    """Tables of which it cannot be said, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """What a database lacks of that."""

    trail: TrailSettings | None
    """The trail that is to be made; None where it is there."""
    changes: tuple[tuple[Change, Wanted], ...]
    notes: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.trail is not None or bool(self.changes)

    @property
    def plan(self) -> Plan:
        """Its steps, those of the trail first."""
        trail = plan_trail(self.trail).steps if self.trail else ()
        return Plan(steps=(*trail, *(step for c, _ in self.changes for step in c.plan().steps)))

    def findings(self, command: str) -> Iterator[Finding]:
        """It as findings of `audit check`; `command` is what mends them all."""
        if self.trail:
            yield Finding(
                kind=FindingKind.TRAIL_MISSING,
                severity=Severity.ERROR,
                subject=trail_name(self.trail.schema),
                message="revisions of the project create the audit trail, but the database has none",
                remedy=command,
            )
        for change, wanted in self.changes:
            if change.former is None:
                yield Finding(
                    kind=FindingKind.RECORDED_NOT_AUDITED,
                    severity=Severity.ERROR,
                    subject=str(change.table),
                    message=f"{wanted.source} captures it, but the database does not",
                    remedy=command,
                )
            elif change.former.rule != wanted.rule:
                has, says = (flags(r) or "no options" for r in (change.former.rule, wanted.rule))
                yield Finding(
                    kind=FindingKind.RECORDED_OTHERWISE,
                    severity=Severity.ERROR,
                    subject=str(change.table),
                    message=f"it is captured with {has}, but {wanted.source} says {says}",
                    remedy=command,
                )


def recorded_wants(state: RecordedState, scripts: ScriptDirectory | None = None) -> Wants:
    """What the records of a project say; with `scripts`, by the names that later revisions give tables."""
    later = LaterNames(scripts) if scripts else None
    tables = [
        Wanted(
            table=later.of(table, recorded.revision) if later else table,
            rule=recorded.capture.rule,
            source=f"revision {recorded.revision}",
        )
        for table, recorded in state.captures.items()
        if recorded is not None and table not in state.conflicts
    ]
    notes = [
        f"{table} is left as it is: branches of the project disagree on it ({'; '.join(said)})"
        for table, said in state.conflicts.items()
    ]
    return Wants(
        tables=tuple(tables),
        trail=TrailSettings(
            schema=state.schema,
            owner=state.owner,
            **({"interval": state.interval} if state.interval else {}),
        ),
        trail_is_recorded=state.interval is not None,
        notes=tuple(notes),
    )


def with_declared(
    wants: Wants,
    declared: Sequence[Declared],
    relations: Sequence[Relation],
    scripts: ScriptDirectory | None,
) -> Wants:
    """Also what is declared, if no revision is to bring it: there are none of ours, or it was a directive.

    A declaration that autogenerate has not written yet belongs into a revision first, or only this database
    would have it.
    """
    known = {wanted.table for wanted in wants.tables}
    written = declared_tables(scripts, wants.trail.schema) if scripts else set()
    none_recorded = not (wants.tables or wants.trail_is_recorded or written)
    tables, notes = list(wants.tables), list(wants.notes)
    for one in declared:
        name = resolved(one, relations)
        if name is None or name in known:
            continue
        known.add(name)
        if none_recorded or any(pattern.matches(name, fold=False) for pattern in written):
            tables.append(Wanted(table=name, rule=one.rule, source=one.source))
        else:
            notes.append(
                f"{name} is left as it is: {one.source} declares it, but no revision captures "
                "it yet: alembic revision --autogenerate"
            )
    return Wants(
        tables=tuple(tables),
        trail=wants.trail,
        trail_is_recorded=wants.trail_is_recorded,
        notes=tuple(notes),
    )


def plan_sync(
    connection: Connection,
    relations: Sequence[Relation],
    wants: Wants,
    *,
    objects: TrailObjects | None = None,
    known: Mapping[QualifiedName, Table] | None = None,
) -> Sync:
    """What the database lacks of `wants`. Reads catalogues only; `objects` is the trail, where it has been read.

    So are the tables that are `known`.

    Raises `UsageError` where another release made the trail, `RuleError` for a condition that the table
    cannot have, and `UnsupportedTableError` or `PermissionDeniedError` for a table that cannot be captured.
    """
    schema = wants.trail.schema
    tables = {
        relation.name
        for relation in relations
        if relation.kind in (Kind.TABLE, Kind.PARTITIONED_TABLE)
    }
    there = [wanted for wanted in wants.tables if wanted.table in tables]
    request = CaptureRequest(names=tuple(wanted.table.plain for wanted in there))
    found = read_capture_state(connection, relations, request, schema, objects=objects, known=known)
    present = {table.name: table for table in found.named}
    absent = [wanted for wanted in wants.tables if wanted.table not in tables]
    notes = [*wants.notes, *(_absent(w) for w in absent if not _went_on(w, found))]
    changes = []
    for wanted in there:
        table = present[wanted.table]
        installed = found.installed.get(table.name)
        captured = installed if installed and installed.triggers else None
        target = (
            Target(table=table, rule=wanted.rule)
            if lacks_columns(table, wanted.rule)
            else check_rule(table, wanted.rule)
        )
        damaged = captured is not None and table.name in found.drifted
        # What only renders otherwise now is right.
        if captured and not damaged and TableRule.from_dict(captured.options) == target.rule:
            continue
        if table.name in found.switched_off:
            notes.append(f"{table.name} is left as it is: its capture is paused")
            continue
        former = Former.of_database(captured, table, schema) if captured else None
        change = Change(target=target, schema=schema, former=former, damaged=damaged)
        changes.append((change, wanted))
    missing = found.trail is None and bool(changes or wants.trail_is_recorded)
    if changes:
        require_present_trail(found.trail, schema)
        check_conditions(connection, [change for change, _ in changes])
    return Sync(trail=wants.trail if missing else None, changes=tuple(changes), notes=tuple(notes))


def _went_on(wanted: Wanted, found: CaptureState) -> bool:
    """Whether the table is captured under another name."""
    return any(
        there.made_for == wanted.table != there.table and there.triggers
        for there in found.installed.values()
    )


def _absent(wanted: Wanted) -> str:
    return (
        f"{wanted.table}, which {wanted.source} captures, does not exist; if it was renamed: "
        "audit install --table NAME"
    )
