"""Drift: what the database has against what the recorded options render to now.

Everything here is pure; `catalog.read_trail_objects` and `catalog.read_table` supply what it compares. Nothing
is executed and nothing is locked, so a role that may not write can check a production database.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from audit_toolkit.capture.drift import Captured, capture_findings, captures_of
from audit_toolkit.capture.moved_functions import moved_back, moved_findings, moved_functions
from audit_toolkit.catalog import Table, parse_comment
from audit_toolkit.catalog.trail import Function, TrailObjects, TriggerState
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import QualifiedName, quote_identifier
from audit_toolkit.remedies import psql_command
from audit_toolkit.schema.drift import schema_findings
from audit_toolkit.schema.renamed_trail import renamed_trail
from audit_toolkit.schema.trail_drift import trail_findings


def find_drift(
    objects: TrailObjects,
    tables: Mapping[QualifiedName, Table],
    *,
    paused: Mapping[QualifiedName, str] | None = None,
    conditions: Mapping[QualifiedName, str] | None = None,
) -> list[Finding]:
    """All that is not as it should be, errors first.

    Args:
        objects: the trail.
        tables: the audited tables that still exist, by name.
        paused: tables whose capture was paused and not resumed, with the reason.
        conditions: why the condition of a table cannot be judged any more.
    """
    if renamed := renamed_trail(objects):
        return [renamed]  # all that is missing follows from it
    back = moved_back(objects)
    captured = [
        replace(one, unusable=(conditions or {}).get(one.name)) for one in captures_of(back, tables)
    ]
    findings = [
        *trail_findings(objects),
        *schema_findings(objects),
        # What follows calls these functions by the names that they get back.
        *moved_findings(objects),
        *_capture_findings(captured, back, paused or {}),
        *_foreign_findings(back, captured),
    ]
    return sorted(findings, key=_order)


def _capture_findings(
    captured: Sequence[Captured], objects: TrailObjects, paused: Mapping[QualifiedName, str]
) -> Iterator[Finding]:
    """What is wrong with capture of each table; a partition of another one is captured as part of that."""
    roots = {leaf: one.name for one in captured if one.table for leaf in one.table.leaves}
    for one in captured:
        if one.name not in roots:
            yield from capture_findings(one, objects, paused)
            continue
        yield Finding(
            kind=FindingKind.LEAF_AUDITED,
            severity=Severity.WARNING,
            subject=str(one.name),
            message=f"it is a partition of {roots[one.name]} now: its changes are recorded as those of that table, "
            "with the options of that table",
            remedy=f"audit uninstall --table {shlex.quote(one.name.plain)} --upgrade",
        )


def _order(finding: Finding) -> tuple[bool, bool]:
    """Errors first; and what one statement mends before the commands that install, which rely on it."""
    return finding.severity is Severity.WARNING, finding.remedy.startswith("audit ")


def _foreign_findings(objects: TrailObjects, captured: Iterable[Captured]) -> Iterator[Finding]:
    ours = {one.function.name: one for one in captured}
    moved = moved_functions(objects)
    unknown = {f.name for f in objects.functions if _lost_its_comment(f, objects)}
    put_back = {one.made_as for one in moved.values()}
    for function in objects.functions:
        qualified = QualifiedName(objects.schema, function.name)
        name = f"{qualified}()"
        if function.name in unknown:
            yield _without_comment(qualified, objects)
        elif (
            function.name.startswith("capture_")
            and function.name not in ours
            and function.name not in put_back
            and qualified not in moved
        ):
            yield Finding(
                kind=FindingKind.FOREIGN_FUNCTION,
                severity=Severity.WARNING,
                subject=name,
                message="it is named like a capture function, but audit-toolkit did not create it",
                remedy=psql_command(f"drop function {name}"),
            )
    for trigger in objects.triggers:
        is_unknown = trigger.function.schema == objects.schema and trigger.function.name in unknown
        if trigger.function not in moved and not is_unknown:
            yield from _foreign_trigger(trigger, objects, ours)


def _lost_its_comment(function: Function, objects: TrailObjects) -> bool:
    """Whether it is a capture function by its name, its text and its owner, and does not say how it captures."""
    return (
        function.made_as == function.name
        and function.owner == objects.owner
        and QualifiedName(objects.schema, function.name) in objects.triggers_by_function
        and "table" not in parse_comment(function.comment)
    )


def _without_comment(function: QualifiedName, objects: TrailObjects) -> Finding:
    triggers = objects.triggers_by_function[function]
    table = next((each.table for each in triggers if not each.on_partition), triggers[0].table)
    return Finding(
        kind=FindingKind.FUNCTION_CHANGED,
        severity=Severity.ERROR,
        subject=str(table),
        message=f"somebody changed the comment of its capture function {function}(), which says how it "
        "captures: capture continues, but no command finds it",
        remedy=f"audit install --table {shlex.quote(table.plain)} … --upgrade, with the options that it had",
    )


def _is_of_another_trail(trigger: TriggerState, objects: TrailObjects) -> bool:
    """Whether it runs a function of a trail in another schema, and so writes nothing into this one."""
    is_elsewhere = trigger.function.schema != objects.schema and trigger.made_as is None
    return is_elsewhere and bool(parse_comment(trigger.function_comment))


def _foreign_trigger(
    trigger: TriggerState, objects: TrailObjects, ours: Mapping[str, Captured]
) -> Iterator[Finding]:
    if trigger.table.schema == objects.schema or _is_of_another_trail(trigger, objects):
        return
    owner = ours.get(trigger.function.name) if trigger.function.schema == objects.schema else None
    home = {owner.name, *(owner.table.leaves if owner.table else ())} if owner else set()
    if trigger.table not in home:
        remedy = f"drop trigger {quote_identifier(trigger.name)} on {trigger.table}"
        yield Finding(
            kind=FindingKind.FOREIGN_TRIGGER,
            severity=Severity.ERROR,
            subject=f"{quote_identifier(trigger.name)} on {trigger.table}",
            message="it is not capture of this table: it may forge events, or replace a trigger of "
            "the toolkit",
            remedy=psql_command(remedy),
        )
