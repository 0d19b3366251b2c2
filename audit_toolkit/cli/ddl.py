"""`audit install --ddl`: DDL on audited tables, recorded by event triggers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.guard.common import apply_made
from audit_toolkit.completeness.guard import plan_ddl_on
from audit_toolkit.trail.rows.lookup import require_readable_trail

if TYPE_CHECKING:
    from audit_toolkit.cli.revisions import Output


def install_ddl(dsn: str | None, config: Path | None, schema: str, output: Output) -> None:
    """Make the event triggers of `audit install --ddl`, or print what makes them."""
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, schema)
        plan = plan_ddl_on(connection, schema)
        if output.sql:
            print(plan.as_sql(), end="")
        elif not plan.steps:
            print("DDL is recorded at once already")
        elif output.dry_run:
            print("would make two event triggers, which record DDL on audited tables at once")
        else:
            apply_made(connection, plan, "audit install --ddl")
            print("DDL on audited tables is recorded at once, by the statement that does it")
