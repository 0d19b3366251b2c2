"""`audit access`: who can read, write, alter or silence the trail, and how."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from audit_toolkit.catalog import read_trail
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.output import visible
from audit_toolkit.errors import UsageError
from audit_toolkit.schema.access import read_access

if TYPE_CHECKING:
    from audit_toolkit.schema.access import Access

_WORDS = {
    "read": "can read the trail",
    "write": "can insert events by hand",
    "alter": "can change or drop the trail",
    "silence": "can disable capture",
}


def access(
    output: OutputFormat = Format.TEXT,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Show who can read, change or disable the trail, and how.

    Covers direct grants, membership, column grants, predefined roles, ownership, views and role
    attributes.
    """
    with open_database(dsn, config) as connection:
        if not read_trail(connection, audit_schema):
            raise UsageError(
                f"the database has no audit trail in the schema {audit_schema}",
                hint="create one: audit install --table NAME",
            )
        found = read_access(connection, audit_schema)
    if output is Format.JSON:
        print(json.dumps({"roles": [one.as_dict() for one in found]}, indent=2))
    else:
        _print(found)


def _print(found: tuple[Access, ...]) -> None:
    for power, words in _WORDS.items():
        print(f"{words}:")
        able = [one for one in found if power in one.ways]
        for one in able:
            group = "" if one.may_log_in else " (cannot log in)"
            for way in one.ways[power]:
                print(f"  {visible(one.role)}{group}: {visible(way)}")
        if not able:
            print("  nobody")
