"""`audit resume`: resume capture of a table; the trail records it."""

from __future__ import annotations

import sys

from audit_toolkit.capture import plan_resume
from audit_toolkit.cli.captured import (
    Reason,
    Table,
    audited_target,
    install_again,
    installed_capture,
)
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.plan import apply
from audit_toolkit.schema.captured_tables import read_interrupted


def resume(
    table: Table,
    reason: Reason,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Resume capture of a table; the trail records it.

    Also after somebody disabled and enabled it by hand: then only the gap is recorded.
    """
    with open_database(dsn, config) as connection:
        installed = installed_capture(connection, table, audit_schema)
        interrupted = installed.table in read_interrupted(connection, audit_schema)
        wanted = audited_target(connection, table, audit_schema).triggers
        plan = plan_resume(
            installed,
            audit_schema,
            reason,
            interrupted=interrupted,
            wanted=[trigger.name for trigger in wanted],
            again=install_again(installed, audit_schema, config),
        )
        apply(plan, connection)
    print(f"{installed.table}: capture is on; changes are recorded again")
    print(
        "changes made during the pause are not in the trail; to record the rows as they are "
        f"now:\n  audit baseline --table {table} --reason 'after the pause'",
        file=sys.stderr,
    )
