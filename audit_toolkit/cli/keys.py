"""`audit keys`: the keys that seals are signed with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.cli.seal_options import DEFAULT_KEY, KEY_VARIABLE

KeyFile = Annotated[
    Path,
    typer.Option("--key", metavar="FILE", envvar=KEY_VARIABLE, help="The file of the private key."),
]


def new(
    key: KeyFile = DEFAULT_KEY,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="The name of the trail in its checkpoints, without spaces."
        ),
    ] = "audit-trail",
    output: OutputFormat = Format.TEXT,
) -> None:
    """Make a new key to seal with.

    The private key is for the machine that seals and for nobody else; FILE.pub beside it is for whoever verifies.
    """
    from audit_toolkit.seals import new_key, write_key

    made = new_key(name)
    write_key(key, made)
    _print_made(key, str(made.public), output)


def rotate(key: KeyFile = DEFAULT_KEY, output: OutputFormat = Format.TEXT) -> None:
    """Replace the key; the former one signs the new one.

    Whoever trusts the former public key trusts the new one, too, once the next checkpoint is sealed.
    """
    from audit_toolkit.seals import rotate_key

    made = rotate_key(key)
    _print_made(key, str(made.public), output)


def _print_made(path: Path, public: str, output: Format) -> None:
    from audit_toolkit.seals import public_path

    if output is Format.JSON:
        values = {"key": str(path), "public_file": str(public_path(path)), "public_key": public}
        print(json.dumps(values, indent=2))
        return
    print(f"private key  {path}  (keep it off the database's machine)")
    print(f"public key   {public_path(path)}  (give it to whoever verifies)")
    print(f"             {public}")


def list_keys(
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """List the public keys that sealed this trail.

    They are what the database says: compare them with those that you kept.
    """
    from audit_toolkit.cli.database import open_database
    from audit_toolkit.connection import fetch
    from audit_toolkit.templates import render

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
