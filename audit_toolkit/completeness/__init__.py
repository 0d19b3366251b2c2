"""Completeness: whether the trail holds everything that happened, shown by the trail itself."""

from audit_toolkit.completeness.missing_ids import Holes, read_holes
from audit_toolkit.completeness.reconcile import Outcome, Reconciliation, reconcile

__all__ = [
    "Holes",
    "Outcome",
    "Reconciliation",
    "read_holes",
    "reconcile",
]
