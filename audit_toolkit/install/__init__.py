"""Putting the trail and capture into a database: what should be there, and the steps to it."""

from audit_toolkit.install.baseline import Progress, take_baseline, take_locked_baseline
from audit_toolkit.install.capture import (
    Target,
    check_rule,
    free_function,
    plan_capture,
    plan_release,
)
from audit_toolkit.install.condition import check_condition
from audit_toolkit.install.grants import Limits, render_grants
from audit_toolkit.install.pause import plan_pause, plan_resume
from audit_toolkit.install.selection import select_tables
from audit_toolkit.install.trail import plan_trail

__all__ = [
    "Limits",
    "Progress",
    "Target",
    "check_condition",
    "check_rule",
    "free_function",
    "plan_capture",
    "plan_pause",
    "plan_release",
    "plan_resume",
    "plan_trail",
    "render_grants",
    "select_tables",
    "take_baseline",
    "take_locked_baseline",
]
