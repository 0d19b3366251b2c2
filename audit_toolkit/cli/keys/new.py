"""`audit keys new`: create a key pair to sign seals with."""

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
        typer.Option(metavar="NAME", help="Name of the trail in its checkpoints, without spaces."),
    ] = "audit-trail",
    output: OutputFormat = Format.TEXT,
) -> None:
    """Create a key pair to sign seals with.

    Keep the private key on the machine that seals, and nowhere else. Give FILE.pub, written beside it, to those
    who verify.
    """
    made = new_key(name)
    write_key(key, made)
    print_made(key, str(made.public), output)
