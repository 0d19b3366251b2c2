"""`audit archive restore`: restore an archived partition into PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from audit_toolkit.archive import find_manifest, read_expected, restore_leaf
from audit_toolkit.cli.archive.common import (
    Url,
    open_store,
    progress_bar,
)
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.partition_run import (
    Rotation,
)
from audit_toolkit.plurals import counted


def restore(
    leaf: Annotated[
        str,
        typer.Argument(
            metavar="PARTITION", help="The partition, as `audit archive list` names it."
        ),
    ],
    archive: Url,
    name: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="Restore it under another name.", show_default=False
        ),
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DATABASE",
            help="Restore what this other database archived (`audit archive list --format json` "
            "shows the names), or what this one has no record of.",
            show_default=False,
        ),
    ] = None,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Restore an archived partition into PostgreSQL.

    It is compared with its digest, and left detached and on hold. `audit partitions attach PARTITION`
    then makes it part of the trail.
    """
    store = open_store(archive)
    options = Rotation(dsn=dsn, config=config, audit_schema=audit_schema)
    with options.open_alone() as opened:
        expected = read_expected(opened.connection, audit_schema)
        names = {record.name for record in expected.recorded if record.leaf == leaf}
        manifest = find_manifest(store, leaf, place, names)
        with progress_bar(manifest.events) as advance:
            table = restore_leaf(
                opened.connection,
                store,
                audit_schema,
                manifest,
                now=datetime.now(UTC),
                name=name,
                foreign=place is not None,
                progress=advance,
            )
    print(f"{table}: {counted(manifest.events, 'event')} restored as they were archived")
