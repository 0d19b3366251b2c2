"""What the commands of `audit keys` share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from audit_toolkit.cli.options import Format
from audit_toolkit.cli.seal_options import KEY_VARIABLE
from audit_toolkit.seals import public_path

KeyFile = Annotated[
    Path,
    typer.Option("--key", metavar="FILE", envvar=KEY_VARIABLE, help="File of the private key."),
]


def print_made(path: Path, public: str, output: Format) -> None:
    """Say what was made, and where it is."""
    if output is Format.JSON:
        values = {"key": str(path), "public_file": str(public_path(path)), "public_key": public}
        print(json.dumps(values, indent=2))
        return
    print(f"private key  {path}  (keep it off the database's machine)")
    print(f"public key   {public_path(path)}  (give it to whoever verifies)")
    print(f"             {public}")
