"""`audit partitions list`: list partitions: bounds, size, state, holds, archives."""

from __future__ import annotations

import json
from dataclasses import asdict

from audit_toolkit.cli.monitoring import TIMEOUT, Timeout, impatient
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.partition_run import (
    Rotation,
)
from audit_toolkit.cli.partitions import rows as view


def list_leaves(
    output: OutputFormat = Format.TEXT,
    timeout: Timeout = TIMEOUT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """List partitions: bounds, size, state, holds, archives."""
    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema)
    with options.open() as run, impatient(run.connection, run.schema, timeout):
        rows = list(view.leaf_rows(run.read()))
    if output is Format.JSON:
        print(json.dumps({"leaves": [asdict(row) for row in rows]}, indent=2))
    else:
        print("\n".join(map(str, rows)))
