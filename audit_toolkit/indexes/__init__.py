"""Indexes: which are broken and why, how to mend them, and new ones without blocking a write."""

from audit_toolkit.indexes.create import IndexRequest
from audit_toolkit.indexes.diagnose import diagnose
from audit_toolkit.indexes.model import Catalogue, Diagnosis, Index, IndexState
from audit_toolkit.indexes.progress import BlockingSession, Build, read_builds
from audit_toolkit.indexes.read import Scope, read_catalogue
from audit_toolkit.indexes.repair import Repair, Unfinished, plan_repairs
from audit_toolkit.indexes.report import index_report
from audit_toolkit.indexes.run import (
    Failure,
    Listener,
    Timeouts,
    create,
    missing_steps,
    refuse_while_building,
    repair,
)

__all__ = [
    "BlockingSession",
    "Build",
    "Catalogue",
    "Diagnosis",
    "Failure",
    "Index",
    "IndexRequest",
    "IndexState",
    "Listener",
    "Repair",
    "Scope",
    "Timeouts",
    "Unfinished",
    "create",
    "diagnose",
    "index_report",
    "missing_steps",
    "plan_repairs",
    "read_builds",
    "read_catalogue",
    "refuse_while_building",
    "repair",
]
