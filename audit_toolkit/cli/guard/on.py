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
    """Switch the guard on.

    Makes two event triggers, ENABLE ALWAYS, which takes a superuser, or what your provider calls so. From then on
    capture is switched off by `audit pause` and `audit uninstall` alone, which leave an event, and partitions of the
    trail go by `audit partitions run` alone. A superuser can still drop the event triggers; `audit check` reports it.
    """
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        found = read_guard(connection, audit_schema)
        finish(connection, plan_guard_on(found, audit_schema, reason=reason), "on", sql=sql)
