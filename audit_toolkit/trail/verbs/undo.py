"""Putting rows back, and the moments that are named for it."""

from __future__ import annotations

from audit_toolkit.trail.revert import marks, selection
from audit_toolkit.trail.sources.dispatch import verb

apply_restore = verb(selection.apply_restore)
apply_revert = verb(selection.apply_revert)
find_mark = verb(marks.find_mark)
plan_restore = verb(selection.plan_restore)
plan_revert = verb(selection.plan_revert)
set_mark = verb(marks.set_mark)
