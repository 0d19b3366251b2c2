"""`audit partitions hold`: protect a partition from retention until released."""

from __future__ import annotations

from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.partition_run import (
    Rotation,
)
from audit_toolkit.cli.partitions.common import LeafName, Reason, carry_out
from audit_toolkit.partitions import plan_hold


def hold(
    leaf: LeafName,
    reason: Reason,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Protect a partition from retention until released.

    It may be attached or detached.
    """
    with Rotation(dsn=dsn, config=config, audit_schema=audit_schema).open() as run:
        carry_out(run, plan_hold(run.read(), leaf, reason))
