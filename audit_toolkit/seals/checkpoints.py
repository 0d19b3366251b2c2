"""Signed notes and checkpoints, as C2SP writes them (c2sp.org/signed-note, c2sp.org/tlog-checkpoint).

A note is a text, an empty line, and signatures. A checkpoint is a note of three lines: the name of the log, the
number of events, the root of their tree; and one of ours: up to which event that was, and when.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit_toolkit.errors import AuditError, MissingExtraError, UsageError

ED25519 = b"\x01"
_SIGNATURE = re.compile(r"— (?P<name>[^\s+]+) (?P<data>[A-Za-z0-9+/]+={0,2})")
_UP_TO = re.compile(r"up to event (?P<id>-?\d+) at (?P<time>\S+)")


class NoteError(AuditError):
    """A note that is none, or is not signed by a key that is trusted."""


def _is_foreign(c: str) -> bool:
    """Whether no note may have this character: a control character, or half of one."""
    return (c < " " and c != "\n") or "\ud800" <= c <= "\udfff"


def _decode(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError("it is not base64") from error
    if base64.b64encode(found).decode() != text:
        raise NoteError("it is not base64 as it is written")
    return found


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 key that notes are signed with, and the name of the log that it signs for."""

    name: str
    key: bytes

    @property
    def id(self) -> bytes:
        """The four bytes that a signature begins with."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.key).digest()[:4]

    def __str__(self) -> str:
        data = base64.b64encode(ED25519 + self.key).decode()
        return f"{self.name}+{self.id.hex()}+{data}"

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read `name+id+base64`; raises `UsageError` for anything else."""
        name, _, rest = text.strip().partition("+")
        hashed, _, data = rest.partition("+")
        try:
            content = _decode(data)
        except NoteError:
            content = b""
        found = cls(name, content[1:])
        if content[:1] != ED25519 or len(content) != 33 or found.id.hex() != hashed or not name:
            raise UsageError(
                f"{text.strip()[:80]!r} is not a public key of a seal",
                hint="a public key is one line, name+id+base64, as `audit keys list` prints it",
            )
        return found

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether a text was signed with this key."""
        module = cryptography("hazmat.primitives.asymmetric.ed25519")
        invalid = cryptography("exceptions").InvalidSignature
        try:
            module.Ed25519PublicKey.from_public_bytes(self.key).verify(signature, text.encode())
        except (invalid, ValueError):
            return False
        return True


def cryptography(module: str) -> Any:
    """A module of `cryptography`, or a `MissingExtraError` that says how to get it."""
    from importlib import import_module

    try:
        return import_module(f"cryptography.{module}")
    except ImportError as error:
        raise MissingExtraError(
            "seals need the package cryptography", hint="pip install 'audit-toolkit[seals]'"
        ) from error


@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signatures, as (name, key id and signature)."""

    text: str
    signatures: tuple[tuple[str, bytes], ...]

    @classmethod
    def parse(cls, note: str) -> Note:
        """Read a note; raises `NoteError` for what is none."""
        text, separator, rest = note.rpartition("\n\n")
        if not separator or not rest.endswith("\n") or any(map(_is_foreign, note)):
            raise NoteError("it is not a signed note")
        signatures = []
        for line in rest.removesuffix("\n").split("\n"):
            found = _SIGNATURE.fullmatch(line)
            if not found:
                raise NoteError("a line of it is not a signature")
            signatures.append((found["name"], _decode(found["data"])))
        return cls(text + "\n", tuple(signatures))

    def signed_by(self, keys: Iterable[PublicKey]) -> PublicKey:
        """The first of these keys that signed it; raises `NoteError` where none did.

        A signature that names one of them and is wrong makes the whole note wrong.
        """
        by_id = {(key.name, key.id): key for key in keys}
        signer = None
        for name, data in self.signatures:
            key = by_id.get((name, data[:4]))
            if key is None:
                continue
            if not key.verifies(self.text, data[4:]):
                raise NoteError(f"its signature by {name}+{key.id.hex()} is wrong")
            signer = signer or key
        if signer is None:
            named = ", ".join(f"{name}+{data[:4].hex()}" for name, data in self.signatures)
            raise NoteError(f"it is not signed by a key that is trusted, but by {named}")
        return signer


def write_note(text: str, key: PublicKey, signature: bytes) -> str:
    """The note of a text, which ends with a line break."""
    return f"{text}\n— {key.name} {base64.b64encode(key.id + signature).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of the tree that was signed."""

    origin: str
    size: int
    root: bytes
    up_to_id: int
    sealed_at: str
    """In UTC, as ISO 8601."""

    @property
    def text(self) -> str:
        """What is signed."""
        root = base64.b64encode(self.root).decode()
        more = f"up to event {self.up_to_id} at {self.sealed_at}"
        return f"{self.origin}\n{self.size}\n{root}\n{more}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a note; raises `NoteError` unless it is exactly what `text` gives."""
        lines = text.split("\n")
        found = _UP_TO.fullmatch(lines[3]) if len(lines) > 3 else None
        if found is None or not re.fullmatch(r"0|[1-9]\d{0,18}", lines[1]):
            raise NoteError("it is not a checkpoint of an audit trail")
        checkpoint = cls(
            origin=lines[0],
            size=int(lines[1]),
            root=_decode(lines[2]),
            up_to_id=int(found["id"]),
            sealed_at=found["time"],
        )
        if checkpoint.text != text or len(checkpoint.root) != 32:
            raise NoteError("it is not a checkpoint of an audit trail")
        return checkpoint

    @property
    def time(self) -> datetime:
        """When it was sealed, by the signer's clock."""
        return datetime.fromisoformat(self.sealed_at)


def read_checkpoint(note: str, keys: Iterable[PublicKey]) -> Checkpoint:
    """The checkpoint of a note that one of these keys signed; raises `NoteError`."""
    parsed = Note.parse(note)
    key = parsed.signed_by(keys)
    checkpoint = Checkpoint.parse(parsed.text)
    if checkpoint.origin != key.name:
        raise NoteError(f"it is of the log {checkpoint.origin!r}, and signed for {key.name!r}")
    return checkpoint
