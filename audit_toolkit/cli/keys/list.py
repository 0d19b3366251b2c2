"""`audit keys list`: list the public keys that sealed this trail."""

from __future__ import annotations

import json

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.connection import fetch
from audit_toolkit.templates import render


def list_keys(
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """List the public keys that sealed this trail.

    They are what the database says: compare them with those that you kept.
    """
    with open_database(dsn, config) as connection:
        rows = fetch(connection, render("seals/keys", schema=audit_schema))
    if output is Format.JSON:
        keys = [
            {
                "public_key": row["vkey"],
                "introduced": row["introduction"] is not None,
                "first_used_at": row["first_used_at"].isoformat(),
            }
            for row in rows
        ]
        print(json.dumps({"keys": keys}, indent=2))
        return
    for row in rows:
        introduced = "introduced by the key before" if row["introduction"] else "the first key"
        print(
            f"{row['vkey']}\n    first used {row['first_used_at']:%Y-%m-%d %H:%M:%S %Z}, {introduced}"
        )
    if not rows:
        print("nothing was sealed yet")
