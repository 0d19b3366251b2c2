"""`audit guard on`."""

from __future__ import annotations

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.guard.common import Reason, finish
from audit_toolkit.cli.options import AlembicConfig, Dsn, PrintSql, TrailSchema
from audit_toolkit.completeness.guard import plan_guard_on, read_guard
from audit_toolkit.trail.rows.lookup import require_readable_trail


def on(
    reason: Reason = "",
    sql: PrintSql = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Enable the guard.

    Creates two event triggers, ENABLE ALWAYS; this needs a superuser, or your provider's equivalent. From then on
    only `audit pause` and `audit uninstall`, which record an event, can stop capture, and only
    `audit partitions run` can remove partitions of the trail. A superuser can still drop the event triggers;
    `audit check` reports it.
    """
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        found = read_guard(connection, audit_schema)
        finish(connection, plan_guard_on(found, audit_schema, reason=reason), "on", sql=sql)
