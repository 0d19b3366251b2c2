"""Alembic: the user's project, and the revisions that are written into it."""

from audit_toolkit.migrations.apply import apply_revisions
from audit_toolkit.migrations.changes import (
    Change,
    Former,
    capture_revision,
    trail_revision,
    uninstall_revision,
)
from audit_toolkit.migrations.compare import (
    CaptureRequest,
    CaptureState,
    check_conditions,
    former_capture,
    installed_captures,
    plan_changes,
    read_capture_state,
    require_present_trail,
    trail_settings,
)
from audit_toolkit.migrations.project import Project, find_project, init_project
from audit_toolkit.migrations.publication import no_publication_revision, publication_revision
from audit_toolkit.migrations.revision.record import (
    RecordedState,
    conflicts_of_branches,
    recorded_state,
)
from audit_toolkit.migrations.revision.text import Revision
from audit_toolkit.migrations.revision.writer import WrittenRevision, write_revisions
from audit_toolkit.migrations.sync import Sync, Wants, plan_sync, recorded_wants, with_declared
from audit_toolkit.migrations.upgrade import UpgradePlan, plan_upgrade

__all__ = [
    "CaptureRequest",
    "CaptureState",
    "Change",
    "Former",
    "Project",
    "RecordedState",
    "Revision",
    "Sync",
    "UpgradePlan",
    "Wants",
    "WrittenRevision",
    "apply_revisions",
    "capture_revision",
    "check_conditions",
    "conflicts_of_branches",
    "find_project",
    "former_capture",
    "init_project",
    "installed_captures",
    "no_publication_revision",
    "plan_changes",
    "plan_sync",
    "plan_upgrade",
    "publication_revision",
    "read_capture_state",
    "recorded_state",
    "recorded_wants",
    "require_present_trail",
    "trail_revision",
    "trail_settings",
    "uninstall_revision",
    "with_declared",
    "write_revisions",
]
