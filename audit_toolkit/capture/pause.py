"""Capture off and on without a migration; the trail says when, who and why."""

from __future__ import annotations

from collections.abc import Collection

from audit_toolkit.catalog import Installed
from audit_toolkit.config import Capture
from audit_toolkit.errors import UsageError
from audit_toolkit.plan import Plan, Step
from audit_toolkit.templates import render_statements


def plan_pause(installed: Installed, schema: str, reason: str, *, again: str = "") -> Plan:
    """Switch the triggers of a table off, and write a G event, in one transaction.

    `again` is the command that installs capture again, where its triggers are gone.

    Raises `UsageError` when they are off already, or gone, or the reason is empty.
    """
    _require_reason(reason)
    _refuse_wal(installed)
    if not installed.triggers:
        raise _gone(installed, again)
    if not installed.active_triggers:
        raise UsageError(
            f"capture of {installed.table} is already paused",
            hint=f"resume it: audit resume --table {installed.table} --reason …",
        )
    return _plan(installed, installed.active_triggers, schema, reason, paused=True)


def plan_resume(
    installed: Installed,
    schema: str,
    reason: str,
    *,
    interrupted: bool = False,
    wanted: Collection[str] = (),
    again: str = "",
) -> Plan:
    """Switch the triggers of a table on again, and write a G event, in one transaction.

    With `interrupted`, somebody switched them on already: the event is what is missing. `wanted` are the
    triggers that it should have, and `again` is the command that installs those that are gone.

    Raises `UsageError` when none of them is off, or they are gone, or the reason is empty.
    """
    _require_reason(reason)
    _refuse_wal(installed)
    off = tuple(trigger.name for trigger in installed.triggers if trigger.state != "A")
    missing = set(wanted) - set(installed.trigger_names)
    if not installed.triggers or (missing and not off and not interrupted):
        raise _gone(installed, again)
    if not off and not interrupted:
        raise UsageError(f"capture of {installed.table} is not paused", hint="nothing to do")
    return _plan(installed, off, schema, reason, paused=False)


def _gone(installed: Installed, again: str) -> UsageError:
    lost = "triggers" if installed.triggers else "all triggers"
    return UsageError(
        f"capture of {installed.table} lacks {lost}, so changes are not recorded: "
        "somebody dropped them, or recreated the table",
        hint=f"reinstall capture: {again}" if again else "for details, run: audit check",
    )


def _refuse_wal(installed: Installed) -> None:
    if installed.options.get("capture") == Capture.WAL.value:
        raise UsageError(
            f"{installed.table} is captured from the WAL, which has no pause",
            hint=f"capture it by triggers first: audit install --table {installed.table} --capture row",
        )


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise UsageError("pausing capture needs a reason", hint="add --reason 'ticket 123'")


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
