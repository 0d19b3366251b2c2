"""`audit stream dead-letters drop`."""

from __future__ import annotations

import sys

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.stream.common import Name
from audit_toolkit.cli.stream.dead_letters.common import Events, require_letters
from audit_toolkit.plurals import counted
from audit_toolkit.stream import forget_letters


def drop_letters(
    name: Name,
    event: Events = None,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Discard dead letters; their events stay in the trail."""
    with open_database(dsn, config) as connection:
        number = forget_letters(connection, name, event, schema=audit_schema)
        require_letters(connection, name, event, number, audit_schema)
    print(f"{counted(number, 'dead letter')} given up", file=sys.stderr)
