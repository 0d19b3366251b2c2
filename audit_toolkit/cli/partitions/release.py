"""`audit partitions release`: release a partition that is on hold."""

from __future__ import annotations

from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.partition_run import (
    Rotation,
)
from audit_toolkit.cli.partitions.common import LeafName, carry_out
from audit_toolkit.partitions import plan_end_of_hold


def release(
    leaf: LeafName,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Release a partition that is on hold."""
    with Rotation(dsn=dsn, config=config, audit_schema=audit_schema).open() as run:
        carry_out(run, plan_end_of_hold(run.read(), leaf))
