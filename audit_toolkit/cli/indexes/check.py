"""`audit indexes check`: find invalid, missing, duplicate and unused indexes."""

from __future__ import annotations

from typing import Annotated

import typer

from audit_toolkit.cli.check_output import CheckFormat, FailOn, ReportFormat, end_with
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.indexes.common import (
    All,
    Schema,
    Tables,
    scope_of,
)
from audit_toolkit.cli.monitoring import TIMEOUT, Timeout, impatient
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.findings import Severity
from audit_toolkit.indexes import diagnose, index_report, plan_repairs, read_catalogue


def check(
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
    schema: Schema = None,
    table: Tables = None,
    everything: All = False,
    unused_after: Annotated[
        float,
        typer.Option(
            metavar="DAYS", help="Report an index as unused after this long without a scan."
        ),
    ] = 30,
    fail_on: FailOn = Severity.WARNING,
    timeout: Timeout = TIMEOUT,
    output: CheckFormat = ReportFormat.TEXT,
) -> None:
    """Find invalid, missing, duplicate and unused indexes.

    Prints the cause and the remedy of each. An index that is being built is not reported. Exits with
    code 3 on findings; with --format nagios 0, 1, 2, 3 as Nagios expects.
    """
    with open_database(dsn, config) as connection, impatient(connection, audit_schema, timeout):
        catalogue = read_catalogue(connection, scope_of(audit_schema, schema, table, everything))
    repairs = plan_repairs(diagnose(catalogue, unused_after=unused_after), catalogue)
    end_with(index_report(repairs, len(catalogue.indexes)), output, fail_on)
