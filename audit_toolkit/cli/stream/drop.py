"""`audit stream drop`."""

from __future__ import annotations

import sys

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.cli.stream.common import Name
from audit_toolkit.stream import drop as drop_consumer


def drop(
    name: Name,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Delete a consumer, its position and dead letters."""
    with open_database(dsn, config) as connection:
        drop_consumer(connection, name, schema=audit_schema)
    print(visible(f"{name} is forgotten"), file=sys.stderr)
