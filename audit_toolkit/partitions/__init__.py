"""The partitions of the trail: created ahead, detached, kept for a while, dropped; no write fails."""

from audit_toolkit.partitions.boundaries import Span
from audit_toolkit.partitions.default import plan_default
from audit_toolkit.partitions.health import Thresholds, check_partitions
from audit_toolkit.partitions.model import Entry, Leaf, Partitions, PartitionState, Policy
from audit_toolkit.partitions.monitoring import partition_report
from audit_toolkit.partitions.planning import (
    plan_attach,
    plan_end_of_hold,
    plan_hold,
    plan_partitions,
    plan_stage,
)
from audit_toolkit.partitions.read import read_partitions
from audit_toolkit.partitions.run import Outcome, Result, Run, is_standby, succeeded
from audit_toolkit.partitions.tasks import Stage, Task

__all__ = [
    "Entry",
    "Leaf",
    "Outcome",
    "PartitionState",
    "Partitions",
    "Policy",
    "Result",
    "Run",
    "Span",
    "Stage",
    "Task",
    "Thresholds",
    "check_partitions",
    "is_standby",
    "partition_report",
    "plan_attach",
    "plan_default",
    "plan_end_of_hold",
    "plan_hold",
    "plan_partitions",
    "plan_stage",
    "read_partitions",
    "succeeded",
]
