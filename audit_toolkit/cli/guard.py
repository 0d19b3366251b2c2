"""`audit guard`: event triggers that refuse to take capture or the trail away."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import (
    AlembicConfig,
    Dsn,
    Format,
    OutputFormat,
    PrintSql,
    TrailSchema,
)
from audit_toolkit.findings import FINDINGS

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from audit_toolkit.cli.revisions import Output
    from audit_toolkit.plan import Plan

    Connection = psycopg.Connection[Any]

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the trail keeps it.")]


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
    trail go by `audit partitions run` alone. A superuser can still drop the event triggers: `audit check` misses them.
    """
    from audit_toolkit.completeness.guard import plan_guard_on, read_guard

    with open_database(dsn, config) as connection:
        _require(connection, audit_schema)
        found = read_guard(connection, audit_schema)
        _finish(connection, plan_guard_on(found, audit_schema, reason=reason), "on", sql=sql)


def off(
    reason: Reason,
    sql: PrintSql = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Switch the guard off; the trail keeps who and why."""
    from audit_toolkit.completeness.guard import plan_guard_off, read_guard

    with open_database(dsn, config) as connection:
        _require(connection, audit_schema)
        found = read_guard(connection, audit_schema)
        _finish(connection, plan_guard_off(found, audit_schema, reason=reason), "off", sql=sql)


def status(
    output: OutputFormat = Format.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Show whether the guard is on.

    Exits with code 3 if it was switched on and is gone or disabled.
    """
    from audit_toolkit.cli.output import visible
    from audit_toolkit.completeness.guard import guard_findings, read_guard

    with open_database(dsn, config) as connection:
        _require(connection, audit_schema)
        found = read_guard(connection, audit_schema)
    findings = list(guard_findings(found, audit_schema))
    if output is Format.JSON:
        said = found.as_dict() | {"findings": [finding.as_dict() for finding in findings]}
        print(json.dumps(said, indent=2))
    else:
        since = "" if found.since is None else f" since {found.since:%Y-%m-%d %H:%M:%S} UTC"
        by = "" if found.event_id is None else f" (event {found.event_id}, {found.who})"
        print(visible(f"the guard is {found.state}{since}{by}"))
        for finding in findings:
            for line in finding.lines():
                print(f"  {visible(line)}")
    if findings:
        raise typer.Exit(FINDINGS)


def _require(connection: Connection, schema: str) -> None:
    from audit_toolkit.trail.rows.lookup import require_readable_trail

    require_readable_trail(connection, schema)


def install_ddl(dsn: str | None, config: Path | None, schema: str, output: Output) -> None:
    """Make the event triggers of `audit install --ddl`, or print what makes them."""
    from audit_toolkit.completeness.guard import plan_ddl_on

    with open_database(dsn, config) as connection:
        _require(connection, schema)
        plan = plan_ddl_on(connection, schema)
        if output.sql:
            print(plan.as_sql(), end="")
        elif not plan.steps:
            print("DDL is recorded at once already")
        elif output.dry_run:
            print("would make two event triggers, which record DDL on audited tables at once")
        else:
            _apply(connection, plan, "audit install --ddl")
            print("DDL on audited tables is recorded at once, by the statement that does it")


def _finish(connection: Connection, plan: Plan, state: str, *, sql: bool) -> None:
    if sql:
        print(plan.as_sql(), end="")
        return
    _apply(connection, plan, f"audit guard {state}")
    print(f"the guard is {state}")
    if state == "on":
        print(
            "capture ends by audit pause and audit uninstall alone; a superuser can drop the guard, which audit "
            "check finds",
            file=sys.stderr,
        )


def _apply(connection: Connection, plan: Plan, command: str) -> None:
    from audit_toolkit.errors import PermissionDeniedError
    from audit_toolkit.plan import apply

    try:
        apply(plan, connection)
    except PermissionDeniedError as error:
        raise PermissionDeniedError(
            f"nothing was changed: {error.message}",
            hint="event triggers take a superuser (RDS: rds_superuser, Cloud SQL: cloudsqlsuperuser, Azure: "
            f"azure_pg_admin): let one of them run {command}, or what {command} --sql prints",
        ) from error
