"""`audit guard off`."""

from __future__ import annotations

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.guard.common import Reason, finish
from audit_toolkit.cli.options import AlembicConfig, Dsn, PrintSql, TrailSchema
from audit_toolkit.completeness.guard import plan_guard_off, read_guard
from audit_toolkit.trail.rows.lookup import require_readable_trail


def off(
    reason: Reason,
    sql: PrintSql = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Disable the guard, and record who did it and why."""
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        found = read_guard(connection, audit_schema)
        finish(connection, plan_guard_off(found, audit_schema, reason=reason), "off", sql=sql)
