"""`audit guard status`."""

from __future__ import annotations

import json

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.completeness.guard import guard_findings, read_guard
from audit_toolkit.findings import FINDINGS
from audit_toolkit.trail.rows.lookup import require_readable_trail


def status(
    output: OutputFormat = Format.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Show whether the guard is on.

    Exits with code 3 if it was enabled and its event triggers are missing or disabled.
    """
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
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
