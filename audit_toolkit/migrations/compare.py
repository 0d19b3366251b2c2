"""What is asked for, held against what the database and the project have."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_toolkit.capture import Target, check_condition, check_rule, free_function, select_tables
from audit_toolkit.capture.drift import capture_findings, captures_of
from audit_toolkit.catalog import Installed, Table, read_installed, read_tables, read_trail
from audit_toolkit.catalog.trail import TrailObjects, read_trail_objects
from audit_toolkit.condition import names_of, with_names
from audit_toolkit.config import Interval, TableRule, TrailSettings
from audit_toolkit.errors import RuleError, UsageError
from audit_toolkit.migrations.changes import Change, Former
from audit_toolkit.migrations.project import is_project_here
from audit_toolkit.migrations.revision.record import RecordedState
from audit_toolkit.migrations.revision.rule_text import trail_name
from audit_toolkit.names import QualifiedName
from audit_toolkit.remedies import UPGRADE_DATABASE, UPGRADE_PACKAGE, as_typed
from audit_toolkit.schema.install import trail_hash
from audit_toolkit.version import __version__, is_newer

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.catalog import Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """What somebody wants to be audited, and how."""

    names: tuple[str, ...] = ()
    all_of_schema: str | None = None
    leave_out: tuple[str, ...] = ()
    rule: TableRule | None = None
    """None keeps the rule that a table has, and is the defaults for one that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureState:
    """What a database has of that."""

    named: tuple[Table, ...]
    swept: tuple[Table, ...]
    """Tables that nobody named: they came with a whole schema."""
    installed: Mapping[QualifiedName, Installed]
    switched_off: frozenset[QualifiedName]
    """Those whose triggers are switched off, as `audit pause` leaves them."""
    drifted: frozenset[QualifiedName]
    """Those whose capture is not what was installed, as `audit check` would find, too."""
    trail: Mapping[str, Any] | None
    """What the trail that is there says of itself; None without one."""

    @property
    def interval(self) -> Interval | None:
        """Of the trail that is there; None without one."""
        return Interval(self.trail["interval"]) if self.trail else None


def read_capture_state(
    connection: psycopg.Connection[Any],
    relations: Sequence[Relation],
    request: CaptureRequest,
    schema: str,
    *,
    objects: TrailObjects | None = None,
    known: Mapping[QualifiedName, Table] | None = None,
) -> CaptureState:
    """Read the tables that `request` is about, and what captures them.

    `objects` is the trail, and `known` are tables, where they have been read.

    Raises `UnknownTableError`, `UnsupportedTableError` or `PermissionDeniedError` for one of them.
    """
    chosen = select_tables(
        relations,
        request.names,
        trail_schema=schema,
        all_of_schema=request.all_of_schema,
        leave_out=request.leave_out,
    )
    named = select_tables(relations, request.names, trail_schema=schema)
    trail = read_trail(connection, schema)
    if trail == {}:
        raise UsageError(
            f"{trail_name(schema)} exists but was not created by audit-toolkit",
            hint="rename it, or choose another schema: --audit-schema NAME",
        )
    known = known or {}
    read = read_tables(connection, [relation for relation in chosen if relation.name not in known])
    tables = {relation: known.get(relation.name) or read[relation] for relation in chosen}
    objects = objects or read_trail_objects(connection, schema)
    return CaptureState(
        named=tuple(tables[relation] for relation in named),
        swept=tuple(table for relation, table in tables.items() if relation not in named),
        installed=installed_captures(connection, schema),
        switched_off=frozenset(t.table for t in objects.triggers if t.state == "D")
        - objects.from_wal,
        drifted=find_drifted({table.name: table for table in tables.values()}, objects),
        trail=trail,
    )


def require_present_trail(trail: Mapping[str, Any] | None, schema: str) -> None:
    """Raise `UsageError` where another release made the trail: capture of this one may need what it lacks."""
    if not trail or trail.get("hash") == trail_hash(schema):
        return
    first = UPGRADE_PACKAGE if is_newer(trail["version"]) else UPGRADE_DATABASE
    raise UsageError(
        f"{trail_name(schema)} was created by audit-toolkit {trail['version']}, and may lack "
        f"what capture of {__version__} needs",
        hint=f"run first: {as_typed(first, schema=schema, in_project=is_project_here())}",
    )


_MENDED = {
    *("function_changed", "search_path_open", "settings_changed", "wrong_security"),
    *("leaf_without_trigger", "trigger_changed", "trigger_missing"),
}
"""Kinds of drift that installing the same again mends."""


def find_drifted(
    tables: Mapping[QualifiedName, Table], objects: TrailObjects
) -> frozenset[QualifiedName]:
    """The tables of which the database has lost something of what captures them."""
    return frozenset(
        captured.name
        for captured in captures_of(objects, tables)
        if captured.name in tables
        and any(finding.kind in _MENDED for finding in capture_findings(captured, objects, {}))
    )


def installed_captures(
    connection: psycopg.Connection[Any], schema: str
) -> dict[QualifiedName, Installed]:
    """Capture of each audited table, as the database has it."""
    return {installed.table: installed for installed in read_installed(connection, schema)}


def plan_changes(
    request: CaptureRequest, found: CaptureState, state: RecordedState, *, applied: bool = False
) -> list[Change]:
    """A change for each table, needed or not, from what the project has, else the database.

    With `applied`, the database has reached the head of the project: what it lacks it has lost.

    A table that was named gets the rule that was asked for, if one was. Otherwise, and when it came
    with its schema, it keeps the rule it has; or gets as much of the one asked for as it can take.
    Raises `RuleError` where a rule and a table do not fit, and `UsageError` for a table whose capture is
    switched off.
    """
    tables = (*found.named, *found.swept)
    if request.rule:
        _refuse_unknown_columns(request.rule, tables)
    changes = []
    for table in tables:
        former = former_capture(table, found.installed, state)
        if request.rule and table in found.named:
            rule = request.rule
        else:
            rule = (
                _kept(former.rule, table, found)
                if former
                else _fitting(request.rule or TableRule(), table)
            )
        # What was dropped under a rule, or renamed while an older release kept no numbers, is no error of
        # whoever keeps the rule; `audit check` says so.
        lost = former is not None and rule is not request.rule and lacks_columns(table, rule)
        target = Target(table=table, rule=rule) if lost else check_rule(table, rule)
        function = (
            former.function if former else free_function(table.name, found.installed.values())
        )
        target = replace(target, function_name=function)
        damaged = former is not None and applied and _is_damaged(table.name, former, found)
        settles = state.conflicts.get(table.name, ())
        if settles and not (request.rule and table in found.named):
            raise _disagreement(table.name, settles)
        change = Change(
            target=target,
            schema=state.schema,
            former=former,
            damaged=damaged,
            strays=_strays(target, former, found) if damaged else (),
            settles=settles,
            optional=_is_optional(table, former, request, found),
        )
        if change.needed and table.name in found.switched_off:
            raise _switched_off(table.name)
        changes.append(change)
    return changes


def _strays(target: Target, former: Former | None, found: CaptureState) -> tuple[str, ...]:
    """Triggers of the table that run its capture function under names that are not ours."""
    there = found.installed.get(target.table.name)
    ours = {*(trigger.name for trigger in target.triggers), *(former.triggers if former else ())}
    return tuple(name for name in there.trigger_names if name not in ours) if there else ()


def _is_optional(
    table: Table, former: Former | None, request: CaptureRequest, found: CaptureState
) -> bool:
    """Whether other databases of the project need not have the table: it came with a pattern of schemas."""
    if table in found.swept and request.all_of_schema != table.name.schema:
        return True
    return former is not None and former.optional


def _disagreement(table: QualifiedName, settles: Sequence[str]) -> UsageError:
    return UsageError(
        f"branches of the project disagree on the capture of {table} ({'; '.join(settles)}): "
        "in each database the last to run won",
        hint=f"decide with its options: audit install --table {shlex.quote(table.plain)} --capture "
        "row …",
    )


def check_conditions(connection: psycopg.Connection[Any], changes: Iterable[Change]) -> None:
    """Have the server read the conditions of what is to be installed; raises `RuleError`."""
    for change in changes:
        if change.needed:
            check_condition(connection, change.target.table, change.target.rule, change.schema)


def _switched_off(table: QualifiedName) -> UsageError:
    """Triggers are made anew switched on, which would end a pause without a word in the trail."""
    return UsageError(
        f"capture of {table} is paused; reinstalling it would resume it",
        hint=f"run first: audit resume --table {shlex.quote(table.plain)} --reason REASON",
    )


def _is_damaged(table: QualifiedName, former: Former, found: CaptureState) -> bool:
    there = found.installed.get(table)
    return there is None or there.hash != former.hash or table in found.drifted


def former_capture(
    table: Table, installed: Mapping[QualifiedName, Installed], state: RecordedState
) -> Former | None:
    """What captures the table at the head of the project; or, unknown to it, in the database.

    The table may have had another name when the project captured it, and another one this name.
    """
    there = installed.get(table.name)
    if table.name in state.captures and (there is None or there.made_for == table.name):
        recorded = state.captures[table.name]
        others = {one.function for one in installed.values() if one.table != table.name}
        return Former.of(recorded) if recorded and recorded.capture.function not in others else None
    return Former.of_database(there, table, state.schema) if there else None


def trail_settings(
    schema: str,
    *,
    wanted: Interval | None,
    present: Interval | None,
    owner: str | None = None,
) -> TrailSettings:
    """The settings of the trail: those that it has, as only its first run decides.

    Raises `UsageError` when another interval is wanted than the trail has, or an owner for a trail that
    is there.
    """
    if owner and present:
        raise UsageError(
            f"the trail already exists, and --owner {owner} only applies when it is created",
            hint="leave --owner out; to change the owner, use ALTER … OWNER TO",
        )
    if wanted and present and wanted != present:
        raise UsageError(
            f"the trail has one partition per {present}, and --interval {wanted} cannot "
            "change that",
            hint="leave --interval out: it only applies when the trail is created",
        )
    return TrailSettings(schema=schema, interval=wanted or present or Interval.MONTH, owner=owner)


def _refuse_unknown_columns(rule: TableRule, tables: Sequence[Table]) -> None:
    """For a table of its own, `check_rule` says more; here it is about many."""
    known = {column.name for table in tables for column in table.columns}
    for column in _columns(rule):
        if len(tables) > 1 and column not in known:
            raise RuleError(
                f"none of the tables has a column {column!r}",
                hint="check its spelling; column names are case-sensitive",
            )


def _columns(rule: TableRule) -> Iterable[str]:
    return (*rule.exclude, *rule.only, *(mask.column for mask in rule.mask))


def lacks_columns(table: Table, rule: TableRule) -> bool:
    """Whether the rule names a column that the table does not have (any more)."""
    return any(table.column(name) is None for name in _columns(rule))


def _kept(rule: TableRule, table: Table, found: CaptureState) -> TableRule:
    """A rule by the names that its columns have now; without those that were dropped."""
    installed = found.installed.get(table.name)
    if installed is None:
        return rule

    def now(name: str) -> tuple[str, ...]:
        numbering = installed.numbering
        known = name in numbering.numbers or table.column(name)
        # Without a column number from an older release, a column may have been renamed: see `check_rule`.
        return numbering.now(name, table.columns) if known else (name,)

    when = rule.when
    if when:
        when = with_names(when, installed.numbering.renamed(names_of(when), table.columns))
    return replace(
        rule,
        when=when,
        exclude=tuple(dict.fromkeys(new for name in rule.exclude for new in now(name))),
        only=tuple(dict.fromkeys(new for name in rule.only for new in now(name)[:1])),
        mask=tuple(
            {new: replace(m, column=new) for m in rule.mask for new in now(m.column)}.values()
        ),
    )


def _fitting(rule: TableRule, table: Table) -> TableRule:
    """The rule without the columns that the table does not have."""
    return replace(
        rule,
        exclude=tuple(name for name in rule.exclude if table.column(name)),
        mask=tuple(mask for mask in rule.mask if table.column(mask.column)),
    )
