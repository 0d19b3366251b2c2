"""`audit archive run`: archive all detached partitions, and verify the files."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from audit_toolkit.cli.archive.common import (
    Url,
)
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.partition_run import (
    Iceberg,
    Rotation,
    print_outcomes,
    reach_archive,
    register_archive,
    with_archive,
)
from audit_toolkit.partitions import Policy, Stage, succeeded


def run(
    archive: Url,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Also archive partitions that were archived before, and rewrite what was "
            "exported.",
        ),
    ] = False,
    iceberg: Iceberg = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Archive all detached partitions, and verify the files.

    Drops nothing.
    """
    options = Rotation(
        dsn=dsn, config=config, audit_schema=audit_schema, archive=archive, iceberg=iceberg
    )
    with options.open_alone() as opened, with_archive(options, opened):
        opened.policy = Policy(archived_only=True, archive_again=again)
        outcomes = opened.stage(Stage.ARCHIVE) + reach_archive(opened, archive)
        outcomes += register_archive(options, opened)
    if output is Format.JSON:
        print(json.dumps({"outcomes": [outcome.as_dict() for outcome in outcomes]}, indent=2))
    else:
        print_outcomes(outcomes)
    if not succeeded(outcomes):
        raise typer.Exit(1)
