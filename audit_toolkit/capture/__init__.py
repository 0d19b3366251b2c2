"""Capture of a table: its rule, the function and triggers that it renders to, and whether they are there."""

from typing import TYPE_CHECKING

from audit_toolkit.lazy_names import lazy_names

if TYPE_CHECKING:
    from audit_toolkit.capture.baseline import Progress, take_baseline, take_locked_baseline
    from audit_toolkit.capture.condition import check_condition
    from audit_toolkit.capture.pause import plan_pause, plan_resume
    from audit_toolkit.capture.render import (
        Target,
        check_rule,
        free_function,
        plan_capture,
        plan_uninstall,
    )
    from audit_toolkit.capture.selection import select_tables
else:
    # Readers of the trail need one of these modules, and not the rendering of capture.
    _HOMES = {
        "Progress": "baseline",
        "Target": "render",
        "check_condition": "condition",
        "check_rule": "render",
        "free_function": "render",
        "plan_capture": "render",
        "plan_pause": "pause",
        "plan_resume": "pause",
        "plan_uninstall": "render",
        "select_tables": "selection",
        "take_baseline": "baseline",
        "take_locked_baseline": "baseline",
    }
    __getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "Progress",
    "Target",
    "check_condition",
    "check_rule",
    "free_function",
    "plan_capture",
    "plan_pause",
    "plan_resume",
    "plan_uninstall",
    "select_tables",
    "take_baseline",
    "take_locked_baseline",
]
