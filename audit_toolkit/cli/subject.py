"""`audit subject`: export all that the trail holds of a person."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from audit_toolkit.archive import PersonArchive
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.output import print_events_as_csv, print_events_as_json, visible
from audit_toolkit.findings import FINDINGS
from audit_toolkit.trail import events_of_person
from audit_toolkit.wal.health import has_unread

_UNREAD = "changes that are still in the WAL: start the worker, which reads them, and export again: audit capture run"


class SubjectFormat(StrEnum):
    """How the export is written."""

    JSON = "json"
    CSV = "csv"


def subject(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The audited table.")],
    key: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY",
            help="The primary key: one value per column, or one JSON array; after -- if it starts "
            "with a dash.",
        ),
    ],
    archive: Annotated[
        str | None,
        typer.Option(
            "--archive",
            metavar="URL",
            envvar="AUDIT_ARCHIVE",
            help="Where the archive is now, if it was moved.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        SubjectFormat, typer.Option("--format", help="Output format.")
    ] = SubjectFormat.JSON,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Export everything the trail has about a person.

    The events of the row and of every row that ever referred to it by foreign keys, directly or through other
    rows, oldest first, from the database and from the archives that it recorded. Exits with code 3 if events may be
    missing: what could not be read is named.
    """
    with open_database(dsn, config) as connection:
        unread = (_UNREAD,) if has_unread(connection, audit_schema) else ()
        past = PersonArchive.open(connection, audit_schema, archive)
        events = events_of_person(connection, table, tuple(key), schema=audit_schema, past=past)
    missing = (*past.missing, *unread)
    if output is SubjectFormat.CSV:
        print_events_as_csv(iter(events), guarded=True)
    else:
        print_events_as_json(iter(events), missing=missing)
    for one in missing:
        print(f"not included: {visible(one)}", file=sys.stderr)
    if missing:
        raise typer.Exit(FINDINGS)
