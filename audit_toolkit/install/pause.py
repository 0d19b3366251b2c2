"""Capture off and on without a migration; the trail says when, who and why."""

from __future__ import annotations

from audit_toolkit.catalog import Installed
from audit_toolkit.errors import UsageError
from audit_toolkit.plan import Plan, Step
from audit_toolkit.templates import render_statements


def plan_pause(installed: Installed, schema: str, reason: str) -> Plan:
    """Switch the triggers of a table off, and write a G event, in one transaction.

    Raises `UsageError` when they are off already, or the reason is empty.
    """
    _require_reason(reason)
    if not installed.active_triggers:
        raise UsageError(
            f"capture of {installed.table} is paused already",
            hint=f"switch it on again: audit resume --table {installed.table} --reason …",
        )
    return _plan(installed, installed.active_triggers, schema, reason, paused=True)


def plan_resume(
    installed: Installed, schema: str, reason: str, *, interrupted: bool = False
) -> Plan:
    """Switch the triggers of a table on again, and write a G event, in one transaction.

    With `interrupted`, somebody switched them on already: the event is what is missing.

    Raises `UsageError` when none of them is off, or the reason is empty.
    """
    _require_reason(reason)
    off = tuple(trigger.name for trigger in installed.triggers if trigger.state != "A")
    if not off and not interrupted:
        raise UsageError(
            f"capture of {installed.table} is not paused", hint="nothing has to be done"
        )
    return _plan(installed, off, schema, reason, paused=False)


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise UsageError(
            "a pause of the audit trail needs a reason", hint="say why: --reason 'ticket 123'"
        )


def _plan(
    installed: Installed, triggers: tuple[str, ...], schema: str, reason: str, *, paused: bool
) -> Plan:
    statements = render_statements(
        "triggers/switch",
        schema=schema,
        table=installed.table,
        triggers=triggers,
        reason=reason,
        paused=paused,
    )
    verb = "pauses" if paused else "goes on"
    step = Step(
        why=f"Capture of {installed.table} {verb}, which the trail records",
        statements=tuple(statements),
        lock="SHARE ROW EXCLUSIVE",
    )
    return Plan(steps=(step,))
