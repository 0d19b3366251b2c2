"""`audit indexes create`: create an index on a table and all its partitions."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from audit_toolkit.cli.database import find_address
from audit_toolkit.cli.indexes import output as shown
from audit_toolkit.cli.indexes.common import (
    DryRun,
    LockTimeout,
    Sql,
    StatementTimeout,
    alone,
    show_plan,
)
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.timeouts import as_timeout
from audit_toolkit.indexes import IndexRequest, Timeouts, missing_steps
from audit_toolkit.indexes import create as create_index


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
    """Create an index on a table and all its partitions.

    Reads and writes go on: the partitioned table declares the index, each partition builds it
    CONCURRENTLY and is attached. Indexes of the same definition that partitions have already are
    reused. If it fails, run the same command again to continue.
    """
    request = IndexRequest.parse(statement)
    timeouts = Timeouts(
        lock=as_timeout(lock_timeout, "--lock-timeout"),
        statement=as_timeout(statement_timeout, "--statement-timeout"),
    )
    address = find_address(dsn, config)
    with alone(address, audit_schema, needed=not (sql or dry_run)) as connection:
        if sql or dry_run:
            show_plan(timeouts.plan(missing_steps(request, connection)), sql=sql, output=output)
            return
        with shown.telling(address) as listener:
            plan = create_index(request, connection, timeouts, listener)
    if output is Format.JSON:
        # "steps" came before "plan", and stays what it was.
        answer = {"index": request.name, "steps": len(plan.steps), "valid": True}
        print(json.dumps(answer | {"plan": plan.as_dict()}))
    else:
        print(f"{request.name} is valid on all partitions" + ("" if plan else ", and was before"))
