"""Capture of a table: its rule, the function and triggers that it renders to, and whether they are there."""

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
