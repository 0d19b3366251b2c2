"""Alembic: the user's project, and the revisions that are written into it."""

from audit_toolkit.migrations.apply import apply_revisions
from audit_toolkit.migrations.changes import (
    Change,
    Former,
    capture_revision,
    release_revision,
    trail_revision,
)
from audit_toolkit.migrations.compare import (
    Survey,
    Wish,
    check_conditions,
    former_capture,
    installed_captures,
    plan_changes,
    require_present_trail,
    survey,
    trail_settings,
)
from audit_toolkit.migrations.project import Project, find_project, init_project
from audit_toolkit.migrations.revision.record import State, recorded_state
from audit_toolkit.migrations.revision.text import Revision
from audit_toolkit.migrations.revision.writer import Written, write_revisions
from audit_toolkit.migrations.sync import Sync, Wants, plan_sync, recorded_wants, with_declared
from audit_toolkit.migrations.upgrade import Renewal, plan_renewal

__all__ = [
    "Change",
    "Former",
    "Project",
    "Renewal",
    "Revision",
    "State",
    "Survey",
    "Sync",
    "Wants",
    "Wish",
    "Written",
    "apply_revisions",
    "capture_revision",
    "check_conditions",
    "find_project",
    "former_capture",
    "init_project",
    "installed_captures",
    "plan_changes",
    "plan_renewal",
    "plan_sync",
    "recorded_state",
    "recorded_wants",
    "release_revision",
    "require_present_trail",
    "survey",
    "trail_revision",
    "trail_settings",
    "with_declared",
    "write_revisions",
]
