"""`audit indexes`: which are broken and why, how to mend them, new ones without blocking a write."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli.database import find_address, open_database
from audit_toolkit.cli.monitoring import TIMEOUT, Timeout, impatient
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.report import CheckFormat, FailOn, ReportFormat, end_with
from audit_toolkit.cli.timeouts import as_timeout
from audit_toolkit.findings import FINDINGS, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from audit_toolkit.indexes import Scope
    from audit_toolkit.plan import Plan


class UnfinishedChoice(StrEnum):
    """What becomes of an index that a create or a drop left behind."""

    LEAVE = "leave"
    REBUILD = "rebuild"
    DROP = "drop"


All = Annotated[bool, typer.Option("--all", help="Every schema of the database.")]
Schema = Annotated[
    str | None, typer.Option(help="One schema. Without it: that of the trail.", show_default=False)
]
Tables = Annotated[
    list[str] | None,
    typer.Option(
        "--table", metavar="TABLE", help="One table with all its leaves; may be repeated."
    ),
]
Sql = Annotated[bool, typer.Option("--sql", help="Print it as a script for psql; change nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
LockTimeout = Annotated[
    str,
    typer.Option(help="The longest that a write may wait for a step, before it is tried again."),
]
StatementTimeout = Annotated[
    str, typer.Option(help="The longest that one build may take; it makes nobody wait.")
]


def check(
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
    schema: Schema = None,
    table: Tables = None,
    everything: All = False,
    unused_after: Annotated[
        float,
        typer.Option(metavar="DAYS", help="Call an index unused after so long without a scan."),
    ] = 30,
    fail_on: FailOn = Severity.WARNING,
    timeout: Timeout = TIMEOUT,
    output: CheckFormat = ReportFormat.TEXT,
) -> None:
    """Find invalid, unfinished, missing, duplicate and unused indexes, with the cause and the remedy.

    An index that is being built right now is no finding. Exit code 3 when there are findings; with --format nagios
    0, 1, 2, 3 as Nagios wants them.
    """
    from audit_toolkit.indexes import diagnose, index_report, plan_repairs, read_catalogue

    with open_database(dsn, config) as connection, impatient(connection, audit_schema, timeout):
        catalogue = read_catalogue(connection, _scope(audit_schema, schema, table, everything))
    repairs = plan_repairs(diagnose(catalogue, unused_after=unused_after), catalogue)
    end_with(index_report(repairs, len(catalogue.indexes)), output, fail_on)


def fix(
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
    schema: Schema = None,
    table: Tables = None,
    everything: All = False,
    unfinished: Annotated[
        UnfinishedChoice,
        typer.Option(help="An index that a failed create or a cancelled drop left: which was it?"),
    ] = UnfinishedChoice.LEAVE,
    sql: Sql = False,
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = "3s",
    statement_timeout: StatementTimeout = "1h",
    output: OutputFormat = Format.TEXT,
) -> None:
    """Mend what `check` finds, while reads and writes go on; run it again after any failure.

    Nothing that a constraint relies on is ever dropped. Exit code 3 when something remains that needs a decision.
    """
    from audit_toolkit.cli import indexes_output
    from audit_toolkit.indexes import (
        Timeouts,
        Unfinished,
        diagnose,
        index_report,
        plan_repairs,
        read_catalogue,
        refuse_while_building,
        repair,
    )  # fmt: skip

    scope = _scope(audit_schema, schema, table, everything)
    timeouts = Timeouts(
        lock=as_timeout(lock_timeout, "--lock-timeout"),
        statement=as_timeout(statement_timeout, "--statement-timeout"),
    )
    choice = Unfinished(unfinished.value)
    address = find_address(dsn, config)
    with _alone(address, audit_schema, needed=not (sql or dry_run)) as connection:
        catalogue = read_catalogue(connection, scope)
        findings = diagnose(catalogue, unused_after=float("inf"))
        repairs = plan_repairs(findings, catalogue, choice)
        plan = timeouts.plan([step for each in repairs for step in each.steps])
        if sql or dry_run:
            _show(plan, sql=sql, output=output)
            return
        refuse_while_building(findings)
        with indexes_output.telling(address) as listener:
            failures = repair(repairs, connection, timeouts, listener)
        catalogue = read_catalogue(connection, scope)
        left = plan_repairs(diagnose(catalogue, unused_after=float("inf")), catalogue, choice)
    report = index_report(left, len(catalogue.indexes), "indexes fix")
    indexes_output.print_outcome(plan, failures, report, as_json=output is Format.JSON)
    if failures:
        # Busy only where waiting is all it takes.
        raise typer.Exit(min(failure.error.exit_code for failure in failures))
    if report.failing():
        raise typer.Exit(FINDINGS)


def create(
    statement: Annotated[
        str,
        typer.Argument(
            metavar="SQL", help="'create index NAME on TABLE (…)', as for psql; any kind of index."
        ),
    ],
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
    sql: Sql = False,
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = "3s",
    statement_timeout: StatementTimeout = "1h",
    output: OutputFormat = Format.TEXT,
) -> None:
    """Create an index on a table and every leaf of it, while reads and writes go on.

    The partitioned table declares it, each leaf builds it CONCURRENTLY and is attached. Indexes of the same
    definition that leaves have already are taken over. After a failure, run the same command: it goes on from there.
    """
    from audit_toolkit.cli import indexes_output
    from audit_toolkit.indexes import IndexRequest, Timeouts, missing_steps
    from audit_toolkit.indexes import create as create_index

    request = IndexRequest.parse(statement)
    timeouts = Timeouts(
        lock=as_timeout(lock_timeout, "--lock-timeout"),
        statement=as_timeout(statement_timeout, "--statement-timeout"),
    )
    address = find_address(dsn, config)
    with _alone(address, audit_schema, needed=not (sql or dry_run)) as connection:
        if sql or dry_run:
            _show(timeouts.plan(missing_steps(request, connection)), sql=sql, output=output)
            return
        with indexes_output.telling(address) as listener:
            number = create_index(request, connection, timeouts, listener)
    if output is Format.JSON:
        print(json.dumps({"index": request.name, "steps": number, "valid": True}))
    else:
        print(f"{request.name} is valid on every leaf" + ("" if number else ", and was before"))


def progress(
    dsn: Dsn = None,
    config: AlembicConfig = None,
    watch: Annotated[
        float, typer.Option(metavar="SECONDS", help="How often a live view looks again.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one view and end.")] = False,
    output: OutputFormat = Format.TEXT,
) -> None:
    """Show the builds that are running: phase, per cent, rate, and which session they wait for.

    Live on a terminal until nothing runs; elsewhere, and as JSON, one view.
    """
    from audit_toolkit.cli import indexes_output
    from audit_toolkit.indexes import read_builds

    with open_database(dsn, config) as connection:
        builds = read_builds(connection)
        if output is Format.JSON:
            print(json.dumps({"builds": [build.as_dict() for build in builds]}, indent=2))
        elif once or not sys.stdout.isatty():
            indexes_output.print_builds(builds)
        else:
            indexes_output.watch_builds(lambda: read_builds(connection), watch)


def _scope(
    audit_schema: str, schema: str | None, tables: list[str] | None, everything: bool
) -> Scope:
    from audit_toolkit.errors import UsageError
    from audit_toolkit.indexes import Scope

    if (schema is not None) + bool(tables) + everything > 1:
        raise UsageError(
            "--all, --schema and --table exclude each other", hint="use one of them, or none"
        )
    if tables:
        return Scope(tables=tuple(tables))
    return Scope(everything=True) if everything else Scope(schema=schema or audit_schema)


@contextmanager
def _alone(address: str, schema: str, *, needed: bool) -> Iterator[psycopg.Connection[Any]]:
    """A connection; where something is to be changed, no other run of the toolkit is under way."""
    from contextlib import nullcontext

    from audit_toolkit.connection import connect
    from audit_toolkit.plan import single_flight

    with (
        single_flight(address, schema) if needed else nullcontext(),
        connect(address, purpose="indexes") as connection,
    ):
        yield connection


def _show(plan: Plan, *, sql: bool, output: Format) -> None:
    from audit_toolkit.cli import indexes_output

    indexes_output.print_plan(plan, sql=sql, as_json=output is Format.JSON)
