"""`audit indexes fix`: repair what `check` finds; reads and writes go on."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from audit_toolkit.cli.database import find_address
from audit_toolkit.cli.indexes import output as shown
from audit_toolkit.cli.indexes.common import (
    All,
    DryRun,
    LockTimeout,
    Schema,
    Sql,
    StatementTimeout,
    Tables,
    alone,
    scope_of,
    show_plan,
)
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.timeouts import as_timeout
from audit_toolkit.findings import FINDINGS
from audit_toolkit.indexes import (
    Timeouts,
    Unfinished,
    diagnose,
    index_report,
    plan_repairs,
    read_catalogue,
    refuse_while_building,
    repair,
)


class UnfinishedChoice(StrEnum):
    """What becomes of an index that a create or a drop left behind."""

    LEAVE = "leave"
    REBUILD = "rebuild"
    DROP = "drop"


def fix(
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
    schema: Schema = None,
    table: Tables = None,
    everything: All = False,
    unfinished: Annotated[
        UnfinishedChoice,
        typer.Option(help="What to do with an index left by a failed create or a cancelled drop."),
    ] = UnfinishedChoice.LEAVE,
    sql: Sql = False,
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = "3s",
    statement_timeout: StatementTimeout = "1h",
    output: OutputFormat = Format.TEXT,
) -> None:
    """Repair what `check` finds; reads and writes go on.

    Safe to re-run after any failure. Never drops what a constraint relies on. Exits with code 3 if
    something remains that needs a decision.
    """
    scope = scope_of(audit_schema, schema, table, everything)
    timeouts = Timeouts(
        lock=as_timeout(lock_timeout, "--lock-timeout"),
        statement=as_timeout(statement_timeout, "--statement-timeout"),
    )
    choice = Unfinished(unfinished.value)
    address = find_address(dsn, config)
    with alone(address, audit_schema, needed=not (sql or dry_run)) as connection:
        catalogue = read_catalogue(connection, scope)
        findings = diagnose(catalogue, unused_after=float("inf"))
        repairs = plan_repairs(findings, catalogue, choice)
        plan = timeouts.plan([step for each in repairs for step in each.steps])
        if sql or dry_run:
            show_plan(plan, sql=sql, output=output)
            return
        refuse_while_building(findings)
        with shown.telling(address) as listener:
            failures = repair(repairs, connection, timeouts, listener)
        catalogue = read_catalogue(connection, scope)
        left = plan_repairs(diagnose(catalogue, unused_after=float("inf")), catalogue, choice)
    report = index_report(left, len(catalogue.indexes), "indexes fix")
    shown.print_outcome(plan, failures, report, as_json=output is Format.JSON)
    if failures:
        # Exit code 5 (busy) only if waiting is enough for all of them.
        raise typer.Exit(min(failure.error.exit_code for failure in failures))
    if report.failing():
        raise typer.Exit(FINDINGS)
