"""Drift: what the database has against what the recorded options render to now.

Everything here is pure; `catalog.read_trail_objects` and `catalog.read_table` supply what it compares. Nothing
is executed and nothing is locked, so a role that may not write can check a production database.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from audit_toolkit.catalog import Table, parse_comment
from audit_toolkit.catalog.trail import Function, TrailObjects, TriggerState
from audit_toolkit.config import TableRule, TrailSettings
from audit_toolkit.errors import RuleError
from audit_toolkit.install.capture import Target, Trigger, capture_hash, plan_capture
from audit_toolkit.install.trail import plan_trail
from audit_toolkit.names import QualifiedName, capture_function, quote_identifier


class Severity(StrEnum):
    """How bad a finding is: an error means that changes are lost, or may be forged or leaked."""

    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be, and the command that mends it."""

    kind: str
    severity: Severity
    object: str
    detail: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return {
            "kind": self.kind,
            "severity": self.severity.value,
            "object": self.object,
            "detail": self.detail,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """Capture of one table as its function records it, and the table as it is now."""

    name: QualifiedName
    options: dict[str, Any]
    hash: str
    version: str
    key: tuple[str, ...] | None
    """The key at the time; None where an older toolkit did not record it."""
    function: Function
    table: Table | None
    """None when the table is gone."""


def find_drift(
    objects: TrailObjects,
    tables: Mapping[QualifiedName, Table],
    *,
    paused: Mapping[QualifiedName, str] | None = None,
) -> list[Finding]:
    """All that is not as it should be, errors first.

    Args:
        objects: the trail.
        tables: the audited tables that still exist, by name.
        paused: tables whose capture was paused and not resumed, with the reason.
    """
    captured = list(_captured(objects, tables))
    findings = [
        *_trail_findings(objects),
        *(finding for one in captured for finding in _capture_findings(one, objects, paused or {})),
        *_foreign_findings(objects, captured),
    ]
    return sorted(findings, key=lambda finding: finding.severity is Severity.WARNING)


def audited_tables(objects: TrailObjects) -> list[QualifiedName]:
    """The tables that the functions of a trail were made for."""
    recorded = [parse_comment(function.comment) for function in objects.functions]
    return [QualifiedName(*one["table"]) for one in recorded if "table" in one]


def _captured(objects: TrailObjects, tables: Mapping[QualifiedName, Table]) -> Iterator[Captured]:
    for function in objects.functions:
        recorded = parse_comment(function.comment)
        if "table" not in recorded:
            continue
        name = QualifiedName(*recorded["table"])
        yield Captured(
            name=name,
            options=recorded["options"],
            hash=recorded["hash"],
            version=recorded["version"],
            key=tuple(recorded["key"]) if "key" in recorded else None,
            function=function,
            table=tables.get(name),
        )


# -- the trail ---------------------------------------------------------------------------------------


def _trail_findings(objects: TrailObjects) -> Iterator[Finding]:
    schema = quote_identifier(objects.schema)
    parent = next((table for table in objects.tables if table.name == "logged_actions"), None)
    if parent is None or not parse_comment(parent.comment):
        yield Finding(
            kind="trail_missing",
            severity=Severity.ERROR,
            object=f"{schema}.logged_actions",
            detail="the database has no audit trail"
            if parent is None
            else "it was not made by audit-toolkit",
            remedy="audit install --table TABLE --upgrade",
        )
        return
    yield from _table_findings(objects, parent.owner)
    for name, body in _trail_bodies(objects.schema).items():
        yield from _trail_function_findings(objects, name, body)


def _table_findings(objects: TrailObjects, owner: str) -> Iterator[Finding]:
    for table in objects.tables:
        name = f"{quote_identifier(objects.schema)}.{quote_identifier(table.name)}"
        if (table.is_leaf or table.name == "logged_actions") and not table.guarded:
            yield Finding(
                kind="not_append_only",
                severity=Severity.ERROR,
                object=name,
                detail="UPDATE, DELETE and TRUNCATE of it are not refused",
                remedy=_psql(f"select {quote_identifier(objects.schema)}.guard_relation('{name}')"),
            )
        if table.is_leaf and table.granted:
            yield Finding(
                kind="grant_on_leaf",
                severity=Severity.ERROR,
                object=name,
                detail=f"{', '.join(table.granted)}: granted past the parent, around row security",
                remedy=_psql(f"select {quote_identifier(objects.schema)}.revoke_all('{name}')"),
            )
        if writers := [g for g in table.granted if not g.endswith((" select", " references"))]:
            yield Finding(
                kind="writable_by_others",
                severity=Severity.ERROR,
                object=name,
                detail=f"{', '.join(writers)}: others than its owner could write it",
                remedy=_psql(f"select {quote_identifier(objects.schema)}.revoke_all('{name}')"),
            )
        if table.owner != owner and (table.is_leaf or table.name == "mask_key"):
            yield Finding(
                kind="wrong_owner",
                severity=Severity.ERROR,
                object=name,
                detail=f"it belongs to {table.owner}, the trail to {owner}",
                remedy=_psql(f"alter table {name} owner to {quote_identifier(owner)}"),
            )


def _trail_function_findings(objects: TrailObjects, name: str, body: str) -> Iterator[Finding]:
    found = [function for function in objects.functions if function.name == name]
    shown = f"{quote_identifier(objects.schema)}.{name}()"
    if not found or found[0].body != body:
        yield Finding(
            kind="schema_outdated",
            severity=Severity.WARNING,
            object=shown,
            detail="it is missing"
            if not found
            else "it is not what this version of the toolkit installs",
            remedy="audit upgrade",
        )
    for function in found:
        yield from _lock_down_findings(function, shown, definer=name == "record_gap")


def _lock_down_findings(function: Function, shown: str, *, definer: bool) -> Iterator[Finding]:
    if "search_path=pg_catalog, pg_temp" not in function.settings:
        yield Finding(
            kind="search_path_open",
            severity=Severity.ERROR,
            object=shown,
            detail="it does not pin its search_path: others could run code as its owner",
            remedy=_psql(
                f"alter function {shown.removesuffix('()')} set search_path = pg_catalog, pg_temp"
            ),
        )
    if function.security_definer != definer:
        yield Finding(
            kind="wrong_security",
            severity=Severity.ERROR,
            object=shown,
            detail="it is not SECURITY DEFINER"
            if definer
            else "it is SECURITY DEFINER, and should not be",
            remedy=_psql(
                f"alter function {shown.removesuffix('()')} security {'definer' if definer else 'invoker'}"
            ),
        )
    if "public" in function.granted_to:
        yield Finding(
            kind="executable_by_public",
            severity=Severity.ERROR,
            object=shown,
            detail="everybody may execute it",
            remedy=_psql(f"revoke all on function {shown.removesuffix('()')} from public"),
        )


@cache
def _trail_bodies(schema: str) -> dict[str, str]:
    """The body of each function that the trail has, by name."""
    statements = plan_trail(TrailSettings(schema=schema)).statements
    return dict(found for found in map(_function_body, statements) if found)


_BODY = re.compile(r"create or replace function .*?\.(\w+)\(.*?\nas (\$\w+\$)(.*)\2", re.DOTALL)


def _function_body(statement: str) -> tuple[str, str] | None:
    """Name and body of a rendered function, the body as `pg_proc.prosrc` has it."""
    found = _BODY.search(statement)
    return (found[1], found[3]) if found else None


# -- capture of a table ------------------------------------------------------------------------------


def _capture_findings(
    captured: Captured, objects: TrailObjects, paused: Mapping[QualifiedName, str]
) -> Iterator[Finding]:
    shown = f"{quote_identifier(objects.schema)}.{quote_identifier(captured.function.name)}()"
    if captured.table is None:
        yield Finding(
            kind="table_gone",
            severity=Severity.WARNING,
            object=str(captured.name),
            detail="the table that was audited is not there any more; its capture function is left",
            remedy=_psql(f"drop function {shown}"),
        )
        return
    try:
        target = Target(table=captured.table, rule=TableRule.from_dict(captured.options))
    except RuleError as error:
        yield _outdated(captured, f"its options cannot be read: {error.message}")
        return
    yield from _function_findings(captured, target, objects.schema, shown)
    yield from _lock_down_findings(captured.function, shown, definer=True)
    yield from _owner_findings(captured, objects, shown)
    yield from _trigger_findings(captured, target, objects, paused.get(captured.name))
    yield from _column_findings(captured, target)


def _function_findings(
    captured: Captured, target: Target, schema: str, shown: str
) -> Iterator[Finding]:
    if captured.key is not None and captured.key != target.table.key:
        yield Finding(
            kind="key_changed",
            severity=Severity.ERROR,
            object=str(captured.name),
            detail=f"its primary key was ({', '.join(captured.key)}) and is ({', '.join(target.table.key)}): "
            "events carry the old one",
            remedy=_install(captured),
        )
    elif capture_hash(target, schema) != captured.hash:
        yield _outdated(captured, f"it was rendered by {captured.version}, for the table as it was")
    elif _rendered_body(target, schema) != captured.function.body:
        yield Finding(
            kind="function_changed",
            severity=Severity.ERROR,
            object=shown,
            detail="its text is not what was installed: somebody replaced it",
            remedy=_install(captured),
        )


def _rendered_body(target: Target, schema: str) -> str:
    found = _function_body(plan_capture(target, schema).statements[0])
    return found[1] if found else ""


def _outdated(captured: Captured, why: str) -> Finding:
    return Finding(
        kind="capture_outdated",
        severity=Severity.WARNING,
        object=str(captured.name),
        detail=why,
        remedy=_install(captured),
    )


def _owner_findings(captured: Captured, objects: TrailObjects, shown: str) -> Iterator[Finding]:
    owner = next((table.owner for table in objects.tables if table.name == "logged_actions"), None)
    if owner is not None and captured.function.owner != owner:
        yield Finding(
            kind="wrong_owner",
            severity=Severity.ERROR,
            object=shown,
            detail=f"it runs as {captured.function.owner}, but the trail belongs to {owner}",
            remedy=_psql(f"alter function {shown} owner to {quote_identifier(owner)}"),
        )


_STATES = {
    "D": ("trigger_disabled", "it is disabled: changes are lost"),
    "O": ("trigger_not_always", "session_replication_role = replica would silence it"),
    "R": ("trigger_not_always", "it fires in replica mode only: changes are lost"),
}


def _trigger_findings(
    captured: Captured, target: Target, objects: TrailObjects, paused: str | None
) -> Iterator[Finding]:
    wanted = [(captured.name, trigger) for trigger in target.triggers]
    wanted += [(leaf, trigger) for leaf in target.table.leaves for trigger in target.leaf_triggers]
    present = {(t.table, t.name): t for t in objects.triggers}
    if paused is not None:
        yield Finding(
            kind="capture_paused",
            severity=Severity.ERROR,
            object=str(captured.name),
            detail=f"capture is paused: {paused}",
            remedy=f"audit resume --table {shlex.quote(str(captured.name))} --reason REASON",
        )
    for table, trigger in wanted:
        found = present.get((table, trigger.name))
        name = f"{quote_identifier(trigger.name)} on {table}"
        if found is None:
            on_leaf = table != captured.name
            yield Finding(
                kind="leaf_without_trigger" if on_leaf else "trigger_missing",
                severity=Severity.ERROR,
                object=name,
                detail="TRUNCATE of this partition would go unseen"
                if on_leaf
                else "changes are lost",
                remedy=_install(captured),
            )
        elif not _is_as_rendered(found, trigger, captured.name, objects.schema):
            yield Finding(
                kind="trigger_changed",
                severity=Severity.ERROR,
                object=name,
                detail="it is not what was installed",
                remedy=_install(captured),
            )
        elif found.state != "A" and paused is None:
            kind, detail = _STATES[found.state]
            yield Finding(
                kind=kind,
                severity=Severity.ERROR,
                object=name,
                detail=detail,
                remedy=_psql(
                    f"alter table {table} enable always trigger {quote_identifier(trigger.name)}"
                ),
            )


def _is_as_rendered(
    found: TriggerState, trigger: Trigger, table: QualifiedName, schema: str
) -> bool:
    referencing = trigger.referencing or ""
    return (
        found.type == _trigger_type(trigger)
        and found.function == QualifiedName(schema, capture_function(table))
        and found.has_old_table == ("old table" in referencing)
        and found.has_new_table == ("new table" in referencing)
        and not found.is_conditional
    )


def _trigger_type(trigger: Trigger) -> int:
    bits = {"before": 2, "insert": 4, "delete": 8, "update": 16, "truncate": 32}
    row = 1 if trigger.level == "row" else 0
    return row + sum(bit for word, bit in bits.items() if word in trigger.fires.split())


SECRET = re.compile(
    r"passw|passwd|pwd|secret|token|api_?key|private_?key|credential|ssn|social_?sec|iban|cvv|cvc|"
    r"card_?num|credit_?card|\bpan\b|\bpin\b|salt|otp|tax_?id",
    re.IGNORECASE,
)
"""Column names that look as if their values should not stand in a trail in clear."""


def _column_findings(captured: Captured, target: Target) -> Iterator[Finding]:
    rule = target.rule
    hidden = {*rule.exclude, *(mask.column for mask in rule.mask)}
    for column in target.table.columns:
        kept = not rule.only or column.name in rule.only
        if kept and column.name not in hidden and SECRET.search(column.name):
            yield Finding(
                kind="secret_in_clear",
                severity=Severity.WARNING,
                object=f"{captured.name}.{quote_identifier(column.name)}",
                detail="the column looks secret, and its values are recorded in clear",
                remedy=f"{_install(captured)} --mask {shlex.quote(column.name)}",
            )
    for name in sorted(hidden):
        if target.table.column(name) is None:
            yield Finding(
                kind="hidden_column_gone",
                severity=Severity.ERROR,
                object=f"{captured.name}.{quote_identifier(name)}",
                detail="a hidden column is gone; if it was renamed, its values are recorded in clear now",
                remedy=_install(captured, without=name),
            )


# -- what is not ours --------------------------------------------------------------------------------


def _foreign_findings(objects: TrailObjects, captured: Iterable[Captured]) -> Iterator[Finding]:
    ours = {one.function.name: one for one in captured}
    for function in objects.functions:
        if function.name.startswith("capture_") and function.name not in ours:
            name = f"{quote_identifier(objects.schema)}.{quote_identifier(function.name)}()"
            yield Finding(
                kind="foreign_function",
                severity=Severity.WARNING,
                object=name,
                detail="it is named like a capture function, and audit-toolkit did not make it",
                remedy=_psql(f"drop function {name}"),
            )
    for trigger in objects.triggers:
        yield from _foreign_trigger(trigger, objects, ours)


def _foreign_trigger(
    trigger: TriggerState, objects: TrailObjects, ours: Mapping[str, Captured]
) -> Iterator[Finding]:
    if trigger.table.schema == objects.schema:
        return
    owner = ours.get(trigger.function.name) if trigger.function.schema == objects.schema else None
    home = {owner.name, *(owner.table.leaves if owner.table else ())} if owner else set()
    if trigger.table not in home:
        remedy = f"drop trigger {quote_identifier(trigger.name)} on {trigger.table}"
        yield Finding(
            kind="foreign_trigger",
            severity=Severity.ERROR,
            object=f"{quote_identifier(trigger.name)} on {trigger.table}",
            detail="it is not capture of this table: it may forge events, or stand in the place of one of ours",
            remedy=_psql(remedy),
        )


# -- remedies ----------------------------------------------------------------------------------------


def install_command(table: QualifiedName, options: Mapping[str, Any]) -> str:
    """The `audit install` that says these options, as recorded in JSON."""
    words = ["audit", "install", "--table", str(table)]
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        match value:
            case True:
                words.append(option)
            case list():
                words += [word for item in value for word in (option, item)]
            case dict():
                words += [
                    w for column, method in value.items() for w in (option, f"{column}={method}")
                ]
            case _:
                words += [option, str(value)]
    return shlex.join(words)


def _install(captured: Captured, without: str | None = None) -> str:
    options = dict(captured.options)
    if without is not None:
        for name in ("exclude", "only"):
            if without in options.get(name, ()):
                options[name] = [column for column in options[name] if column != without]
        if isinstance(options.get("mask"), dict):
            options["mask"] = {c: m for c, m in options["mask"].items() if c != without}
    return install_command(captured.name, options) + " --upgrade"


def _psql(statement: str) -> str:
    return f"psql -c {shlex.quote(statement)}"
