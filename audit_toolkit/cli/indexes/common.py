"""What the commands of `audit indexes` share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli.indexes import output as shown
from audit_toolkit.cli.options import Format
from audit_toolkit.connection import connect
from audit_toolkit.errors import UsageError
from audit_toolkit.indexes import Scope
from audit_toolkit.plan import single_flight

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from audit_toolkit.plan import Plan


All = Annotated[bool, typer.Option("--all", help="All schemas of the database.")]


Schema = Annotated[
    str | None, typer.Option(help="Only this schema. [default: the trail's]", show_default=False)
]


Tables = Annotated[
    list[str] | None,
    typer.Option(
        "--table", metavar="TABLE", help="Only this table with all its partitions. Repeatable."
    ),
]


Sql = Annotated[bool, typer.Option("--sql", help="Print a script for psql; change nothing.")]


DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]


LockTimeout = Annotated[
    str,
    typer.Option(help="How long a step may block writes before it is retried."),
]


StatementTimeout = Annotated[
    str, typer.Option(help="How long one build may take; it blocks nobody.")
]


def scope_of(
    audit_schema: str, schema: str | None, tables: list[str] | None, everything: bool
) -> Scope:
    """What is looked at; raises `UsageError` for options that exclude each other."""
    if (schema is not None) + bool(tables) + everything > 1:
        raise UsageError(
            "--all, --schema and --table cannot be combined", hint="use one of them, or none"
        )
    if tables:
        return Scope(tables=tuple(tables))
    return Scope(everything=True) if everything else Scope(schema=schema or audit_schema)


@contextmanager
def alone(address: str, schema: str, *, needed: bool) -> Iterator[psycopg.Connection[Any]]:
    """A connection; where something is to be changed, no other run of the toolkit is under way."""
    from contextlib import nullcontext

    with (
        single_flight(address, schema) if needed else nullcontext(),
        connect(address, purpose="indexes") as connection,
    ):
        yield connection


def show_plan(plan: Plan, *, sql: bool, output: Format) -> None:
    """Print a plan that is not applied."""
    shown.print_plan(plan, sql=sql, as_json=output is Format.JSON)
