"""`audit keys new`: make a new key to seal with."""

from __future__ import annotations

from typing import Annotated

import typer

from audit_toolkit.cli.keys.common import KeyFile, print_made
from audit_toolkit.cli.options import Format, OutputFormat
from audit_toolkit.cli.seal_options import DEFAULT_KEY
from audit_toolkit.seals import new_key, write_key


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
    made = new_key(name)
    write_key(key, made)
    print_made(key, str(made.public), output)
