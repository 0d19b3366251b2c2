"""`audit witness drop`."""

from __future__ import annotations

import sys

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.errors import BusyError, UsageError
from audit_toolkit.trail.rows.lookup import require_readable_trail
from audit_toolkit.witness import Names, read_server, read_state
from audit_toolkit.witness import drop as drop_witness
from audit_toolkit.witness.instance import running_instance


def drop(
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Drop the slot and the publications of the witness.

    What it found stays in the trail.
    """
    with open_database(dsn, config) as connection:
        require_readable_trail(connection, audit_schema)
        names = Names.of(connection, audit_schema)
        server = read_server(connection, names)
        if not (server.has_slot or server.publication or read_state(connection, audit_schema)):
            raise no_witness(audit_schema)
        if pid := running_instance(connection, audit_schema):
            raise BusyError(
                f"the witness is running (pid {pid})", hint="end audit witness run first"
            )
        drop_witness(connection, names, server)
    print(f"dropped the slot {names.slot} and the publications of the witness", file=sys.stderr)


def no_witness(schema: str) -> UsageError:
    """There is none, and how to have one."""
    return UsageError(
        f"the trail in the schema {schema} has no witness", hint="audit witness run creates one"
    )
