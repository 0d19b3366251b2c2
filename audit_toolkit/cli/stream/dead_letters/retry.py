"""`audit stream dead-letters retry`."""

from __future__ import annotations

import sys

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.stream.common import Name
from audit_toolkit.cli.stream.dead_letters.common import Events, require_letters
from audit_toolkit.plurals import counted
from audit_toolkit.stream import retry_letters as retry


def retry_letters(
    name: Name,
    event: Events = None,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Deliver dead letters again."""
    with open_database(dsn, config) as connection:
        number = retry(connection, name, event, schema=audit_schema)
        require_letters(connection, name, event, number, audit_schema)
    print(f"{counted(number, 'dead letter')} will be delivered again", file=sys.stderr)
