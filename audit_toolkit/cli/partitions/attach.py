"""`audit partitions attach`: attach a detached partition again, and hold it."""

from __future__ import annotations

from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.partition_run import (
    Rotation,
)
from audit_toolkit.cli.partitions.common import LeafName, Reason, carry_out
from audit_toolkit.partitions import plan_attach


def attach(
    leaf: LeafName,
    reason: Reason,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Attach a detached partition again, and hold it."""
    with Rotation(dsn=dsn, config=config, audit_schema=audit_schema).open_alone() as run:
        carry_out(run, plan_attach(run.read(), leaf, reason))
