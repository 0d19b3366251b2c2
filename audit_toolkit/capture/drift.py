"""Drift of capture: function, triggers and columns of each audited table."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from audit_toolkit.capture.moved_functions import moved_back, moved_functions
from audit_toolkit.capture.render import (
    Target,
    Trigger,
    capture_function_sql,
    capture_hash,
    pinned_settings,
    plan_capture,
    with_dependants,
)
from audit_toolkit.capture.secrets import accepted_because, secrets_in_clear
from audit_toolkit.catalog import Column, Kind, Numbering, Table, parse_comment
from audit_toolkit.catalog.read import numbering
from audit_toolkit.catalog.trail import Function, TrailObjects, TriggerState
from audit_toolkit.condition import names_of, with_names
from audit_toolkit.config import Capture, Store, TableRule
from audit_toolkit.errors import RuleError
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import QualifiedName, quote_identifier, quote_literal, replay_function
from audit_toolkit.remedies import UPGRADE_DATABASE, UPGRADE_PACKAGE, install_command, psql_command
from audit_toolkit.schema.trail_drift import function_body
from audit_toolkit.version import __version__, is_newer


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """Capture of one table as its function records it, and the table as it is now."""

    name: QualifiedName
    made_for: QualifiedName
    """What the table was called when it was installed."""
    options: dict[str, Any]
    hash: str
    version: str
    key: tuple[str, ...] | None
    """The key at the time; None where an older toolkit did not record it."""
    numbering: Numbering
    schema: str
    """That of the trail."""
    function: Function
    table: Table | None
    """None when the table is gone."""
    replay_body: str | None = None
    """The source of the function that makes events of what is read from the WAL."""
    unusable: str | None = None
    """Why its condition cannot be judged on the table as it is."""


def audited_tables(objects: TrailObjects) -> list[QualifiedName]:
    """The tables that the functions of a trail capture, as they are called now."""
    objects = moved_back(objects)
    recorded = [(parse_comment(function.comment), function) for function in objects.functions]
    return [
        objects.captured_by(function) or QualifiedName(*one["table"])
        for one, function in recorded
        if "table" in one
    ]


def captures_of(objects: TrailObjects, tables: Mapping[QualifiedName, Table]) -> Iterator[Captured]:
    """What captures each table, as its function records it."""
    captured = {objects.captured_by(function) for function in objects.functions}
    moved = moved_functions(objects)
    bodies = {function.name: function.body for function in objects.functions}
    for function in objects.functions:
        recorded = parse_comment(function.comment)
        if "table" not in recorded or QualifiedName(objects.schema, function.name) in moved:
            continue
        made_for = QualifiedName(*recorded["table"])
        name = objects.captured_by(function) or made_for
        # Its table was dropped, and another one that is audited itself has the name.
        is_gone = objects.is_unused(function) and name in captured
        yield Captured(
            name=name,
            made_for=made_for,
            options=recorded["options"],
            hash=recorded["hash"],
            version=recorded["version"],
            key=tuple(recorded["key"]) if "key" in recorded else None,
            numbering=numbering(function.name, recorded, objects.installed_columns),
            schema=objects.schema,
            function=function,
            table=None if is_gone else tables.get(name),
            replay_body=bodies.get(replay_function(function.name)),
        )


def capture_findings(
    captured: Captured, objects: TrailObjects, paused: Mapping[QualifiedName, str]
) -> Iterator[Finding]:
    """What is wrong with capture of one table."""
    shown = f"{quote_identifier(objects.schema)}.{quote_identifier(captured.function.name)}()"
    if captured.table is None:
        yield Finding(
            kind=FindingKind.TABLE_GONE,
            severity=Severity.WARNING,
            subject=str(captured.name),
            message="the audited table does not exist any more; its capture function is left",
            remedy=psql_command(f"drop function {shown}"),
        )
        return
    try:
        target = Target(
            table=captured.table,
            rule=TableRule.from_dict(captured.options),
            function_name=captured.function.name,
        )
    except RuleError as error:
        yield _outdated(captured, f"its options cannot be read: {error.message}")
        return
    if captured.name != captured.made_for:
        yield Finding(
            kind=FindingKind.TABLE_RENAMED,
            severity=Severity.WARNING,
            subject=str(captured.name),
            message=f"it was renamed from {captured.made_for}; capture continues under the new name"
            + (
                f", but writes are slower until it is reinstalled: {slow}"
                if (slow := _slow(target))
                else ""
            ),
            remedy=_install(captured)
            if captured.name.schema != objects.schema
            else psql_command(f"alter table if exists {captured.name} set schema public"),
        )
        as_made = replace(target, table=replace(captured.table, name=captured.made_for))
        for found in _function_findings(captured, as_made, objects.schema, shown):
            if found.kind is not FindingKind.CAPTURE_OUTDATED:  # that is what the rename says
                yield found
    else:
        yield from _function_findings(captured, target, objects.schema, shown)
    yield from _lock_down_findings(captured, shown)
    if capture_hash(target, objects.schema) == captured.hash:
        yield from _settings_findings(captured, target, shown)
    yield from _owner_findings(captured, objects, shown)
    yield from _trigger_findings(captured, target, objects, paused.get(captured.name))
    yield from _heir_findings(captured, target, objects)
    yield from _condition_findings(captured)
    yield from _column_findings(captured, target)


def _slow(target: Target) -> str:
    """Why capture of a renamed table costs more: its function no longer names the columns in its text."""
    reasons = (
        (
            "it has types that are not PostgreSQL's own",
            any(c.plain_type is None for c in target.table.columns),
        ),
        ("it has a condition (--when)", target.rule.when is not None),
        ("it stores changes only (--store delta)", target.rule.store is Store.DELTA),
    )
    return next((words for words, applies in reasons if applies), "")


def _function_findings(
    captured: Captured, target: Target, schema: str, shown: str
) -> Iterator[Finding]:
    if captured.key is not None and not target.has_key(captured.key, captured.numbering):
        yield Finding(
            kind=FindingKind.KEY_CHANGED,
            severity=Severity.ERROR,
            subject=str(captured.name),
            message=f"its primary key was ({', '.join(captured.key)}) and is now "
            f"({', '.join(target.table.key)}): events carry the old one",
            remedy=_install(captured),
        )
    elif capture_hash(target, schema) != captured.hash:
        yield _outdated(
            captured,
            f"it was rendered by {captured.version} for an earlier definition of the table",
        )
    elif _rendered_body(target, schema) != captured.function.body or not _replays(captured, target):
        yield Finding(
            kind=FindingKind.FUNCTION_CHANGED,
            severity=Severity.ERROR,
            subject=shown,
            message="its source is not what was installed: somebody replaced it",
            remedy=_install(captured),
        )


def _rendered_body(target: Target, schema: str) -> str:
    found = function_body(capture_function_sql(target, schema))
    return found[1] if found else ""


def _replays(captured: Captured, target: Target) -> bool:
    """Whether the function that makes events of what is in the WAL is as rendered."""
    if not target.from_wal:
        return True
    found = function_body(plan_capture(target, captured.schema).steps[1].statements[0])
    return captured.replay_body == (found[1] if found else "")


def _lock_down_findings(captured: Captured, shown: str) -> Iterator[Finding]:
    """How its function could be turned against the trail. Installing again also records what that made uncertain."""
    if "search_path=pg_catalog, pg_temp" not in captured.function.settings:
        yield Finding(
            kind=FindingKind.SEARCH_PATH_OPEN,
            severity=Severity.ERROR,
            subject=shown,
            message="it does not set search_path: others could run code as its owner",
            remedy=_install(captured),
        )
    if not captured.function.security_definer:
        yield Finding(
            kind=FindingKind.WRONG_SECURITY,
            severity=Severity.ERROR,
            subject=shown,
            message="it is not SECURITY DEFINER",
            remedy=_install(captured),
        )


def _outdated(captured: Captured, why: str) -> Finding:
    remedy = _install(captured)
    if captured.version != __version__:
        remedy = UPGRADE_PACKAGE if is_newer(captured.version) else UPGRADE_DATABASE
    return Finding(
        kind=FindingKind.CAPTURE_OUTDATED,
        severity=Severity.WARNING,
        subject=str(captured.name),
        message=why,
        remedy=remedy,
    )


def _settings_findings(captured: Captured, target: Target, shown: str) -> Iterator[Finding]:
    """Settings that it pins and should not: `set role` would take the right to write the trail from it. And those
    that it does not pin: values would be recorded as each session has them printed.
    """
    pinned = dict(pinned_settings(target.table)) | {"search_path": ""}
    if target.rule.store is Store.DELTA:
        pinned["plan_cache_mode"] = "force_generic_plan"
    present = {setting.partition("=")[0].lower() for setting in captured.function.settings}
    for name in sorted(pinned.keys() - present - {"search_path"}):
        yield Finding(
            kind=FindingKind.SETTINGS_CHANGED,
            severity=Severity.ERROR,
            subject=shown,
            message=f"it does not set {name} any more: what is recorded depends on the session",
            remedy=psql_command(
                f"alter function {shown.removesuffix('()')} set {name} = {quote_literal(pinned[name])}"
            ),
        )
    for setting in captured.function.settings:
        name, _, value = setting.partition("=")
        if name.lower() not in pinned or (pinned[name.lower()] not in ("", value)):
            yield Finding(
                kind=FindingKind.SETTINGS_CHANGED,
                severity=Severity.ERROR,
                subject=shown,
                message=f"it sets {setting}, which was not installed",
                remedy=_install(captured),
            )


def _owner_findings(captured: Captured, objects: TrailObjects, shown: str) -> Iterator[Finding]:
    owner = objects.owner
    if owner is not None and captured.function.owner != owner:
        yield Finding(
            kind=FindingKind.WRONG_OWNER,
            severity=Severity.ERROR,
            subject=shown,
            message=f"it runs as {captured.function.owner}, but the trail belongs to {owner}",
            remedy=psql_command(f"alter function {shown} owner to {quote_identifier(owner)}"),
        )
    for role in captured.function.refused_to:
        yield Finding(
            kind=FindingKind.OWNER_MAY_NOT_EXECUTE,
            severity=Severity.ERROR,
            subject=shown,
            message=f"{role} owns {captured.name}, but could not create a partition of it",
            remedy=psql_command(f"grant execute on function {shown} to {quote_identifier(role)}"),
        )


_STATES = {
    "D": (FindingKind.TRIGGER_DISABLED, "it is disabled: changes are not recorded"),
    "O": (FindingKind.TRIGGER_NOT_ALWAYS, "session_replication_role = replica would silence it"),
    "R": (
        FindingKind.TRIGGER_NOT_ALWAYS,
        "it fires in replica mode only: changes are not recorded",
    ),
}


def _trigger_findings(
    captured: Captured, target: Target, objects: TrailObjects, paused: str | None
) -> Iterator[Finding]:
    renamed = _renamed_triggers(captured, target, objects)
    is_read = target.from_wal and captured.name in objects.from_wal
    wanted = [(captured.name, t) for t in target.triggers if t.name not in renamed]
    wanted += _leaf_triggers(target, is_read=is_read)
    present = {
        (table, trigger.name): trigger
        for table in {table for table, _ in wanted}
        for trigger in objects.triggers_by_table.get(table, ())
    }
    ours = {trigger.name for trigger in target.triggers}
    if not renamed and not any(captured.name == table for table, name in present if name in ours):
        paused = None  # there is nothing to resume
    if paused is not None:
        yield Finding(
            kind=FindingKind.CAPTURE_PAUSED,
            severity=Severity.ERROR,
            subject=str(captured.name),
            message=f"capture is paused: {paused}",
            remedy=f"audit resume --table {shlex.quote(captured.name.plain)} --reason REASON",
        )
    function = QualifiedName(objects.schema, captured.function.name)
    yield from _renamed_findings(captured, renamed)
    yield from _second_triggers(captured, objects, ours | {t.name for t in renamed.values()})
    off: list[TriggerState] = []
    for table, trigger in wanted:
        found = present.get((table, trigger.name))
        name = f"{quote_identifier(trigger.name)} on {table}"
        if found is None:
            on_leaf = table != captured.name
            yield Finding(
                kind=FindingKind.LEAF_WITHOUT_TRIGGER if on_leaf else FindingKind.TRIGGER_MISSING,
                severity=Severity.ERROR,
                subject=name,
                message="TRUNCATE of this partition would not be recorded"
                if on_leaf
                else "changes are not recorded",
                remedy=_install(captured),
            )
        elif not _is_as_rendered(found, trigger, function):
            yield Finding(
                kind=FindingKind.TRIGGER_CHANGED,
                severity=Severity.ERROR,
                subject=name,
                message="it differs from what was installed",
                remedy=_install(captured),
            )
        elif is_read and not (target.keeps_truncate and "truncate" in trigger.fires):
            continue  # off, as the WAL is read
        elif found.state != "A" and paused is None and table == captured.name:
            off.append(found)
        elif found.state != "A" and paused is None:
            kind, detail = _STATES[found.state]
            yield Finding(
                kind=kind,
                severity=Severity.ERROR,
                subject=name,
                message=detail,
                remedy=psql_command(
                    f"alter table {table} enable always trigger {quote_identifier(trigger.name)}"
                ),
            )
    if off:
        # One remedy enables all of them, and records the gap in the trail.
        kind, detail = _STATES["D" if any(one.state == "D" for one in off) else off[0].state]
        names = ", ".join(quote_identifier(one.name) for one in off)
        yield Finding(
            kind=kind,
            severity=Severity.ERROR,
            subject=f"{names} on {captured.name}",
            message=detail,
            remedy=_switch_on(captured, is_read=is_read),
        )


def _leaf_triggers(target: Target, *, is_read: bool) -> list[tuple[QualifiedName, Trigger]]:
    """What partitions should have; where the WAL is read, the worker sees to it, and findings of its own say so."""
    if is_read:
        return []
    return [(leaf, trigger) for leaf in target.table.leaves for trigger in target.leaf_triggers]


def _switch_on(captured: Captured, *, is_read: bool) -> str:
    """What enables its triggers: of a table that is read from the WAL, the worker does."""
    if is_read:
        return "audit capture run"
    return f"audit resume --table {shlex.quote(captured.name.plain)} --reason REASON"


def _renamed_triggers(
    captured: Captured, target: Target, objects: TrailObjects
) -> dict[str, TriggerState]:
    """Triggers of ours that somebody renamed, by the names that they had."""
    function = QualifiedName(objects.schema, captured.function.name)
    present = {each.name: each for each in objects.triggers_by_table.get(captured.name, ())}
    ours = {trigger.name for trigger in target.triggers}
    return {
        trigger.name: found
        for trigger in target.triggers
        for found in present.values()
        if trigger.name not in present
        and found.name not in ours
        and _is_as_rendered(found, trigger, function)
    }


def _renamed_findings(captured: Captured, renamed: Mapping[str, TriggerState]) -> Iterator[Finding]:
    for former, found in renamed.items():
        yield Finding(
            kind=FindingKind.TRIGGER_CHANGED,
            severity=Severity.ERROR,
            subject=f"{quote_identifier(found.name)} on {captured.name}",
            message=f"it is {quote_identifier(former)} under another name",
            remedy=_install(captured),
        )


def _second_triggers(
    captured: Captured, objects: TrailObjects, wanted: set[str]
) -> Iterator[Finding]:
    """Triggers that run the capture function, too: each change would have two events."""
    function = QualifiedName(objects.schema, captured.function.name)
    for trigger in objects.triggers_by_table.get(captured.name, ()):
        if trigger.function == function and trigger.name not in wanted:
            name = f"{quote_identifier(trigger.name)} on {captured.name}"
            yield Finding(
                kind=FindingKind.UNEXPECTED_TRIGGER,
                severity=Severity.ERROR,
                subject=name,
                message="it runs the capture function a second time, and forges events",
                remedy=psql_command(f"drop trigger {name}"),
            )


def _is_as_rendered(found: TriggerState, trigger: Trigger, function: QualifiedName) -> bool:
    referencing = trigger.referencing or ""
    return (
        found.type == _trigger_type(trigger)
        and found.function == function
        and found.has_old_table == ("old table" in referencing)
        and found.has_new_table == ("new table" in referencing)
        and not found.is_conditional
    )


def _trigger_type(trigger: Trigger) -> int:
    bits = {"before": 2, "insert": 4, "delete": 8, "update": 16, "truncate": 32}
    row = 1 if trigger.level == "row" else 0
    return row + sum(bit for word, bit in bits.items() if word in trigger.fires.split())


def _heir_findings(captured: Captured, target: Target, objects: TrailObjects) -> Iterator[Finding]:
    """Tables that inherit from it, each of which needs capture of its own."""
    if target.rule.capture is Capture.STATEMENT and (target.table.heirs or target.table.inherits):
        yield Finding(
            kind=FindingKind.STATEMENT_IN_TREE,
            severity=Severity.ERROR,
            subject=str(captured.name),
            message="it is part of an inheritance tree now: rows of other tables are recorded as its own, or never",
            remedy=install_command(captured.name, captured.options | {"capture": "row"})
            + " --upgrade",
        )
    for heir in target.table.heirs:
        if not any(t.type & 28 for t in objects.triggers_by_table.get(heir.name, ())):
            is_foreign = heir.kind is Kind.FOREIGN_TABLE
            yield Finding(
                kind=FindingKind.HEIR_NOT_AUDITED,
                severity=Severity.WARNING if is_foreign else Severity.ERROR,
                subject=str(heir.name),
                message=f"it inherits from {captured.name}, and changes of its rows are not recorded"
                + (": foreign tables cannot be audited here" if is_foreign else ""),
                remedy="audit it in the database it lives in"
                if is_foreign
                else install_command(heir.name, {"capture": "row"}) + " --upgrade",
            )


def _column_findings(captured: Captured, target: Target) -> Iterator[Finding]:
    yield from _gone_findings(captured, target)
    yield from _dependant_findings(captured, target)
    secret = secrets_in_clear(target)
    to_mask = [
        column.name
        for column in secret
        if accepted_because(column) is None and column.name not in target.table.key
    ]
    for column in secret:
        shown = f"{captured.name}.{quote_identifier(column.name)}"
        keyed = column.name in target.table.key
        yield Finding(
            kind=FindingKind.SECRET_IN_CLEAR,
            severity=Severity.WARNING,
            subject=shown,
            message="the column looks like a secret, and its values are recorded in plain text"
            + (": as part of the key, it cannot be hidden" if keyed else ""),
            remedy=_accept(shown, column) if keyed else _install(captured, masking=to_mask),
            accepted=accepted_because(column),
        )


def _accept(shown: str, column: Column) -> str:
    text = f"{column.comment} " if column.comment else ""
    literal = quote_literal(f"{text}audit: in clear, REASON")
    return psql_command(f"comment on column {shown} is {literal}")


def _gone_findings(captured: Captured, target: Target) -> Iterator[Finding]:
    """Columns that the rule names and the table does not have any more."""
    for name in sorted(target.named_columns):
        names = captured.numbering.now(name, target.table.columns)
        new = next((each for each in names if each != name), None)
        if new is None and name in names:
            continue
        yield Finding(
            kind=FindingKind.HIDDEN_COLUMN_GONE,
            severity=Severity.ERROR,
            subject=f"{captured.name}.{quote_identifier(name)}",
            message=f"a column named in its options was renamed to {new}"
            if new
            else "a column named in its options was dropped"
            if name in captured.numbering.numbers
            else "a column named in its options is missing: if it was renamed, give its new name",
            remedy=_install(captured),
        )


def _dependant_findings(captured: Captured, target: Target) -> Iterator[Finding]:
    """Generated columns that were added since, and give a hidden value away."""
    extended = with_dependants(target)
    if capture_hash(target, captured.schema) == captured.hash:
        return
    for name in sorted(extended.named_columns - target.named_columns):
        yield Finding(
            kind=FindingKind.HIDDEN_VALUE_COMPUTED,
            severity=Severity.ERROR,
            subject=f"{captured.name}.{quote_identifier(name)}",
            message="it is computed from a hidden column, and may be recorded in plain text",
            remedy=_install(captured),
        )


def _condition_findings(captured: Captured) -> Iterator[Finding]:
    if captured.unusable:
        yield Finding(
            kind=FindingKind.CONDITION_UNUSABLE,
            severity=Severity.ERROR,
            subject=str(captured.name),
            message=f"{captured.unusable}; until the condition is replaced, every change is recorded",
            remedy=_install(captured),
        )
        return
    for name, new in _renamed_in_condition(captured).items():
        yield Finding(
            kind=FindingKind.CONDITION_COLUMN_RENAMED,
            severity=Severity.ERROR,
            subject=f"{captured.name}.{quote_identifier(name)}",
            message=f"a column of its condition was renamed to {new}: until capture is reinstalled, "
            "every change is recorded",
            remedy=_install(captured),
        )


def condition_now(captured: Captured) -> str | None:
    """Its condition by the names that columns have now."""
    when = captured.options.get("when")
    return with_names(when, _renamed_in_condition(captured)) if when else None


def _renamed_in_condition(captured: Captured) -> dict[str, str]:
    if captured.table is None or not captured.options.get("when"):
        return {}
    names = names_of(captured.options["when"])
    return captured.numbering.renamed(names, captured.table.columns)


def _install(captured: Captured, masking: Iterable[str] = ()) -> str:
    """The command that puts capture right, with the rule that it has: by the names that columns have now."""
    options = dict(captured.options)
    columns = captured.table.columns if captured.table else ()

    def now(name: str) -> tuple[str, ...]:
        return captured.numbering.now(name, columns)

    if "exclude" in options:
        options["exclude"] = list(dict.fromkeys(new for o in options["exclude"] for new in now(o)))
    if "only" in options:
        # A later column of the same name was never meant to be recorded.
        options["only"] = list(dict.fromkeys(new for o in options["only"] for new in now(o)[:1]))
    masks = {new: method for name, method in options.get("mask", {}).items() for new in now(name)}
    masks |= dict.fromkeys(masking, "redact")
    if masks or "mask" in options:
        options["mask"] = masks
    if masking and not options.get("force_capture_query"):
        options.pop("capture_query", None)
    if "when" in options:
        options["when"] = condition_now(captured)
        if captured.unusable:
            del options["when"]  # no other can be told
    if options.get("store") == "delta" and captured.table and not captured.table.key:
        options["store"] = "changes"  # an update finds the event before by the key
    options = {name: value for name, value in options.items() if value not in ([], {})}
    if not options and captured.options:
        options = {"capture": "row"}
    return install_command(captured.name, options) + " --upgrade"
