"""`audit stream dead-letters list`."""

from __future__ import annotations

import json
import sys

from audit_toolkit.cli import times
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema, Utc
from audit_toolkit.cli.output import visible
from audit_toolkit.cli.stream.common import Name
from audit_toolkit.plurals import counted
from audit_toolkit.stream import find_consumer, read_letters


def list_letters(
    name: Name,
    output: OutputFormat = Format.TEXT,
    utc: Utc = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """List the dead letters of a consumer, oldest first."""
    with open_database(dsn, config) as connection:
        find_consumer(connection, name, schema=audit_schema)
        found = read_letters(connection, name, schema=audit_schema)
    if output is Format.JSON:
        print(json.dumps([letter.as_dict() for letter in found], indent=2))
        return
    for letter in found:
        row = f"{letter.schema_name}.{letter.table_name} {letter.row_key or ''}".rstrip()
        when = times.show_moment(letter.refused_at, utc=utc)
        due = "; will be delivered again" if letter.is_due else ""
        print(visible(f"event {letter.event_id}  {row}  {when}"))
        tried = f"refused {counted(letter.tries, 'time')}: " if letter.tries else ""
        print(visible(f"  {tried}{letter.reason}{due}"))
    if not found:
        print(visible(f"{name} has no dead letters"), file=sys.stderr)
