"""Completeness: whether the trail holds everything that happened, shown by the trail itself."""

from audit_toolkit.completeness.findings import Finding, Severity
from audit_toolkit.completeness.holes import Holes, read_holes
from audit_toolkit.completeness.reconcile import Outcome, Reconciliation, reconcile

__all__ = [
    "Finding",
    "Holes",
    "Outcome",
    "Reconciliation",
    "Severity",
    "read_holes",
    "reconcile",
]
