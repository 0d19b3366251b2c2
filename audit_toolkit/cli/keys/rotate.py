"""`audit keys rotate`: replace the key; the old key signs the new one."""

from __future__ import annotations

from audit_toolkit.cli.keys.common import KeyFile, print_made
from audit_toolkit.cli.options import Format, OutputFormat
from audit_toolkit.cli.seal_options import DEFAULT_KEY
from audit_toolkit.seals import rotate_key


def rotate(key: KeyFile = DEFAULT_KEY, output: OutputFormat = Format.TEXT) -> None:
    """Replace the key; the old key signs the new one.

    audit verify also trusts the new key where it is given the old one, after the next checkpoint is sealed. Proofs
    that are made from then on need the new FILE.pub.
    """
    made = rotate_key(key)
    print_made(key, str(made.public), output)
