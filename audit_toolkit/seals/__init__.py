"""Seals: the events as one Merkle tree, whose signed root, kept elsewhere, shows every later change of the past."""

from audit_toolkit.seals.checkpoints import Checkpoint, Note, PublicKey, read_checkpoint
from audit_toolkit.seals.keys import (
    CommandSigner,
    FileKey,
    Signer,
    keys_of,
    new_key,
    public_path,
    read_key,
    read_public,
    rotate_key,
    write_key,
)
from audit_toolkit.seals.redaction import RedactionSigner
from audit_toolkit.seals.run import SealRun, read_state, run_seal
from audit_toolkit.seals.seal import Sealed, read_known_keys, read_newest, seal
from audit_toolkit.seals.sinks import Delivered, Sink, open_sink, read_outside
from audit_toolkit.seals.verify import GoneEvents, Report, redaction_digest, verify, verify_within

__all__ = [
    "Checkpoint",
    "CommandSigner",
    "Delivered",
    "FileKey",
    "GoneEvents",
    "Note",
    "PublicKey",
    "RedactionSigner",
    "Report",
    "SealRun",
    "Sealed",
    "Signer",
    "Sink",
    "keys_of",
    "new_key",
    "open_sink",
    "public_path",
    "read_checkpoint",
    "read_key",
    "read_known_keys",
    "read_newest",
    "read_outside",
    "read_public",
    "read_state",
    "redaction_digest",
    "rotate_key",
    "run_seal",
    "seal",
    "verify",
    "verify_within",
    "write_key",
]
