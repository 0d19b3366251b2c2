"""`audit pause`: pause capture of a table; the trail records the gap."""

from __future__ import annotations

import sys

from audit_toolkit.capture import plan_pause
from audit_toolkit.cli.captured import (
    Reason,
    Table,
    install_again,
    installed_capture,
)
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.plan import apply


def pause(
    table: Table,
    reason: Reason,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Pause capture of a table; the trail records the gap.

    Who paused it and why are part of the record.
    """
    with open_database(dsn, config) as connection:
        installed = installed_capture(connection, table, audit_schema)
        again = install_again(installed, audit_schema, config)
        apply(plan_pause(installed, audit_schema, reason, again=again), connection)
    print(f"{installed.table}: capture is paused; changes are not recorded")
    print(f"resume it with: audit resume --table {table} --reason …", file=sys.stderr)
