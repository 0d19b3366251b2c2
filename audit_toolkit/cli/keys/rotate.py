"""`audit keys rotate`: replace the key; the old key signs the new one."""

from __future__ import annotations

from audit_toolkit.cli.keys.common import KeyFile, print_made
from audit_toolkit.cli.options import Format, OutputFormat
from audit_toolkit.cli.seal_options import DEFAULT_KEY
from audit_toolkit.seals import rotate_key


def rotate(key: KeyFile = DEFAULT_KEY, output: OutputFormat = Format.TEXT) -> None:
    """Replace the key; the old key signs the new one.

    Verifiers that trust the old public key also trust the new one after the next checkpoint is sealed.
    """
    made = rotate_key(key)
    print_made(key, str(made.public), output)
