"""What the commands of `audit guard` and `audit install --ddl` share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.errors import PermissionDeniedError
from audit_toolkit.plan import apply

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.plan import Plan

    Connection = psycopg.Connection[Any]

Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Reason to record in the trail.")
]


def finish(connection: Connection, plan: Plan, state: str, *, sql: bool) -> None:
    """Print the SQL of a plan, or run it and say what holds now."""
    if sql:
        print(plan.as_sql(), end="")
        return
    apply_made(connection, plan, f"audit guard {state}")
    print(f"the guard is {state}")
    if state == "on":
        print(
            "only audit pause and audit uninstall can stop capture now; a superuser can still drop the guard, "
            "which audit check reports",
            file=sys.stderr,
        )


def apply_made(connection: Connection, plan: Plan, command: str) -> None:
    """Run a plan that makes or drops event triggers; a refusal says which role may."""
    try:
        apply(plan, connection)
    except PermissionDeniedError as error:
        raise PermissionDeniedError(
            f"nothing was changed: {error.message}",
            hint="event triggers need a superuser (RDS: rds_superuser, Cloud SQL: cloudsqlsuperuser, Azure: "
            f"azure_pg_admin): have one run {command}, or the SQL that {command} --sql prints",
        ) from error
