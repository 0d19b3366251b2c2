"""Keys that seals are signed with: a file that only its owner can read, or a command that signs.

The first line of a file is the private key as Go's `note` package writes it, PRIVATE+KEY+name+id+base64. After
rotations introductions follow: notes that name a key and the next one, signed by the former. The file is
outside of the database, and so it is what says which former keys can be believed.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import shlex
import stat
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.seals.checkpoints import (
    ED25519,
    Note,
    NoteError,
    PublicKey,
    cryptography,
    write_note,
)

_PREFIX = "PRIVATE+KEY+"
_INTRODUCES = "audit-toolkit: the first of these keys is followed by the second"
_LINES = 5
"""Of the note of an introduction."""
SIGNER_TIMEOUT = 60


class Signer(Protocol):
    """What signs the text of a note."""

    @property
    def public(self) -> PublicKey:
        """The key that verifies it."""

    @property
    def introductions(self) -> tuple[str, ...]:
        """The notes by which former keys introduced the next ones, down to this one."""

    def sign(self, text: str) -> bytes:
        """The 64 bytes of an Ed25519 signature."""


@dataclass(frozen=True, slots=True, repr=False)
class FileKey:
    """A private key that was read from a file."""

    name: str
    seed: bytes
    introductions: tuple[str, ...] = ()

    @property
    def public(self) -> PublicKey:
        """The key that verifies it."""
        raw = cryptography("hazmat.primitives.serialization")
        public = self._private().public_key()
        return PublicKey(self.name, public.public_bytes(raw.Encoding.Raw, raw.PublicFormat.Raw))

    def _private(self) -> Any:
        module = cryptography("hazmat.primitives.asymmetric.ed25519")
        return module.Ed25519PrivateKey.from_private_bytes(self.seed)

    def sign(self, text: str) -> bytes:
        """The signature of a text."""
        signature: bytes = self._private().sign(text.encode())
        return signature

    def __str__(self) -> str:
        data = base64.b64encode(ED25519 + self.seed).decode()
        first = f"{_PREFIX}{self.name}+{self.public.id.hex()}+{data}\n"
        return first + "".join(self.introductions)


@dataclass(frozen=True, slots=True)
class CommandSigner:
    """A command that gets the text on its standard input and writes the signature, in base64 or as 64 bytes."""

    command: str
    public: PublicKey
    introductions: tuple[str, ...] = ()

    def sign(self, text: str) -> bytes:
        """The signature of a text, verified; raises `AuditError` when the command fails."""
        hint = "it is given the text on standard input, and writes an Ed25519 signature in base64"
        try:
            answer = subprocess.run(
                shlex.split(self.command),
                input=text.encode(),
                capture_output=True,
                check=False,
                timeout=SIGNER_TIMEOUT,
            )
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:
            raise AuditError(f"the signer {self.command!r} failed: {error}", hint=hint) from error
        if answer.returncode:
            said = answer.stderr.decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"exit code {answer.returncode}"
            raise AuditError(f"the signer {self.command!r} failed: {why}", hint=hint)
        signature = answer.stdout
        if len(signature) != 64:
            try:
                signature = base64.b64decode(signature.strip(), validate=True)
            except (binascii.Error, ValueError):
                signature = b""
        if not self.public.verifies(text, signature):
            raise AuditError(
                f"what the signer {self.command!r} wrote is not a signature by {self.public}",
                hint=hint,
            )
        return signature


def new_key(name: str) -> FileKey:
    """A new key for a log of that name; raises `UsageError` for a name that a note cannot hold."""
    if not name or not name.isprintable() or "+" in name or any(c.isspace() for c in name):
        raise UsageError(
            f"{name!r} cannot be the name of a key",
            hint="use a name like a URL without its scheme: example.com/orders-audit",
        )
    return FileKey(name, secrets.token_bytes(32))


def introduce(signer: Signer, successor: PublicKey) -> str:
    """The note by which a key introduces the next one of the same log."""
    text = f"{_INTRODUCES}\n{signer.public}\n{successor}\n"
    return write_note(text, signer.public, signer.sign(text))


def successor_of(introduction: str) -> tuple[PublicKey, PublicKey]:
    """Who introduces whom, where the note is signed by the former; raises `AuditError` for anything else."""
    note = Note.parse(introduction)
    lines = note.text.split("\n")
    if len(lines) != _LINES - 1 or lines[0] != _INTRODUCES:
        raise NoteError("it introduces no key")
    former, successor = PublicKey.parse(lines[1]), PublicKey.parse(lines[2])
    note.signed_by([former])
    if former.name != successor.name:
        raise NoteError("it introduces a key of another log")
    return former, successor


def _pairs(introductions: Iterable[str]) -> list[tuple[PublicKey, PublicKey]]:
    found = []
    for introduction in introductions:
        with suppress(AuditError):
            found.append(successor_of(introduction))
    return found


def trusted_keys(
    keys: Iterable[PublicKey], introductions: Iterable[str] = ()
) -> tuple[PublicKey, ...]:
    """These keys, and all that they introduced, one after the other."""
    trusted = list(dict.fromkeys(keys))
    pairs = _pairs(introductions)
    for key in trusted:  # which grows meanwhile
        trusted += [new for old, new in pairs if old == key and new not in trusted]
    return tuple(trusted)


def keys_of(signer: Signer) -> tuple[PublicKey, ...]:
    """A signer's key, and the former ones that lead to it by the introductions that are kept with it."""
    found = [signer.public]
    pairs = _pairs(signer.introductions)
    for key in found:  # which grows meanwhile
        found += [old for old, new in pairs if new == key and old not in found]
    return tuple(found)


def write_key(path: Path, key: FileKey, *, replace: bool = False) -> None:
    """Write a key to a file that only its owner can read, and the public ones beside it, as `FILE.pub`.

    Raises `UsageError` where there is one and it is not to be replaced.
    """
    new = path.with_name(path.name + ".new")
    try:
        if replace:
            new.unlink(missing_ok=True)
        elif path.exists():
            raise FileExistsError
        target = new if replace else path
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(str(key))
            file.flush()
            os.fsync(file.fileno())
        if replace:
            new.replace(path)
        public_path(path).write_text("".join(f"{one}\n" for one in keys_of(key)), encoding="utf-8")
    except FileExistsError:
        raise UsageError(
            f"{path} exists", hint="audit keys rotate replaces a key; or name another --key"
        ) from None
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        raise AuditError(
            f"cannot write {path}: {error.strerror}",
            hint=f"create its folder: mkdir -p {shlex.quote(str(path.parent))}"
            if is_missing
            else "name a file that you may write: --key FILE",
        ) from error


def rotate_key(path: Path) -> FileKey:
    """Replace the key of a file by a new one, which the former introduces; returns the new one."""
    former = read_key(path)
    key = new_key(former.name)
    introductions = (*former.introductions, introduce(former, key.public))
    key = FileKey(key.name, key.seed, introductions)
    write_key(path, key, replace=True)
    return key


def public_path(path: Path) -> Path:
    """Where the public half of a key is."""
    return path.with_name(path.name + ".pub")


def read_key(path: Path) -> FileKey:
    """The private key of a file; raises `UsageError` where there is none, or others can read it."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"there is no key {path}", hint=f"create one: audit keys new --key {path}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the key {path}: {_why(error)}") from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise UsageError(
            f"the key {path} can be read by others than its owner",
            hint=f"chmod 600 {shlex.quote(str(path))}",
        )
    first, *lines = text.splitlines() or [""]
    introductions = tuple(
        "".join(f"{line}\n" for line in lines[start : start + _LINES])
        for start in range(0, len(lines), _LINES)
    )
    name, _, rest = first.removeprefix(_PREFIX).partition("+")
    hashed, _, data = rest.partition("+")
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not first.startswith(_PREFIX) or len(content) != 33 or content[:1] != ED25519 or not name:
        raise UsageError(
            f"{path} is not a private key of a seal", hint="create one: audit keys new --key FILE"
        )
    key = FileKey(name, content[1:], introductions)
    if key.public.id.hex() != hashed:
        raise UsageError(f"the private key {path} is damaged", hint="restore it from a backup")
    return key


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else "it is not UTF-8 text"


def read_public(path: Path) -> tuple[PublicKey, ...]:
    """The public keys of a file, one a line, or of a private key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the public key {path}: {_why(error)}",
            hint="name the file that audit keys new wrote: FILE.pub",
        ) from error
    if text.startswith(_PREFIX):
        return keys_of(read_key(path))
    keys = tuple(PublicKey.parse(line) for line in text.splitlines() if line.strip())
    if not keys:
        raise UsageError(f"{path} has no public key", hint="audit keys list prints it")
    return keys
