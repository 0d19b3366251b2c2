"""What the commands about seals share: whose key, and where checkpoints are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.errors import UsageError
from audit_toolkit.seals import CommandSigner, read_key, read_public

if TYPE_CHECKING:
    from audit_toolkit.seals import PublicKey, Signer

KEY_VARIABLE = "AUDIT_SEAL_KEY"
DEFAULT_KEY = Path("audit-seal.key")

Key = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        envvar=KEY_VARIABLE,
        help="File of the private key; with --signer, of the public key.",
        show_default=False,
    ),
]
SignerCommand = Annotated[
    str | None,
    typer.Option(
        "--signer",
        metavar="COMMAND",
        envvar="AUDIT_SEAL_SIGNER",
        help="Sign with this program: it reads the text on stdin and writes an Ed25519 signature to stdout.",
        show_default=False,
    ),
]
CheckpointTo = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint-to",
        metavar="PLACE",
        envvar="AUDIT_CHECKPOINT_TO",
        help="Store each checkpoint here: a folder, s3://bucket/path, command:PROGRAM. Repeatable.",
        show_default=False,
    ),
]
Timestamp = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="AUDIT_TIMESTAMP",
        help="Time-stamp each checkpoint with this RFC 3161 authority; the stamp is stored beside it.",
        show_default=False,
    ),
]
PublicKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="A trusted public key, kept outside the database. Repeatable.",
        show_default=False,
    ),
]


def find_key(key: Path | None) -> Path | None:
    """The key of --key, of the project's seal_key, or of this directory."""
    from audit_toolkit.declaration import find_declarations

    declared = find_declarations() if key is None else None
    if declared and declared.seal_key:
        return declared.seal_key
    return DEFAULT_KEY if key is None and DEFAULT_KEY.is_file() else key


def find_places(places: list[str] | None) -> list[str]:
    """Where checkpoints are kept: --checkpoint-to, or the project's checkpoint_to."""
    from audit_toolkit.declaration import find_declarations

    declared = None if places else find_declarations()
    return list(declared.checkpoint_to) if declared else places or []


def find_signer(key: Path | None, command: str | None) -> Signer:
    """The signer of these options; raises `UsageError` where none is named."""
    found = find_key(key)
    if found is None:
        raise UsageError(
            "no key to sign seals with is given",
            hint=f"create one: audit keys new --key FILE; then give --key FILE, {KEY_VARIABLE}, or seal_key in "
            "[tool.audit_toolkit]",
        )
    if command:
        return CommandSigner(command, read_public(found)[0])
    return read_key(found)


def read_public_keys(files: list[Path] | None) -> tuple[PublicKey, ...]:
    """The public keys of these files."""
    return tuple(key for file in files or () for key in read_public(file))
