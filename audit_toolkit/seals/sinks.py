"""Where checkpoints go, out of reach of whoever can write the database.

    /path, file:///path         a folder: a new file for each, flushed to disk, none ever written over
    s3://bucket/path, gs://, …  a store by fsspec, likewise; with Object Lock nobody can remove one
    command:PROGRAM ARGUMENTS   a program that gets the checkpoint on its standard input

A checkpoint's file is `<name>/<number of events>.checkpoint`, and its RFC 3161 time stamp `….tsr` beside it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shlex
import subprocess
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from audit_toolkit.errors import AuditError, MissingExtraError, UsageError
from audit_toolkit.seals.checkpoints import (
    Checkpoint,
    NoteError,
    PublicKey,
    cryptography,
    read_checkpoint,
)
from audit_toolkit.seals.tiles import Tree

COMMAND = "command:"
ENDING, STAMP = ".checkpoint", ".tsr"
_LONGEST_NOTE = 2**20
"""Bytes; nothing longer is one of ours."""
TIMEOUT = 60
_NUMBER = re.compile(r"(\d{20})\.checkpoint")
_BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
_TSA_TYPE = "application/timestamp-query"


class Sink(Protocol):
    """A place for checkpoints."""

    @property
    def address(self) -> str:
        """As it was given."""

    def put(self, checkpoint: Checkpoint, note: str, stamp: bytes | None) -> None:
        """Keep a checkpoint, and its time stamp; again without harm. Raises `AuditError`."""

    def newest(self, origin: str) -> tuple[int, str] | None:
        """The largest one that it keeps, as (events, note); None where it has none, or cannot be asked."""

    def lacks_stamp(self, checkpoint: Checkpoint) -> bool:
        """Whether it could keep a time stamp of this checkpoint, and has none. Raises `AuditError`."""


def open_sink(address: str) -> Sink:
    """The sink of an address; raises `UsageError` for what is none."""
    if address.startswith(COMMAND):
        if not address.removeprefix(COMMAND).strip():
            raise UsageError(
                "--checkpoint-to command: names no program",
                hint="write it after the colon: --checkpoint-to 'command:/usr/local/bin/keep'",
            )
        return CommandSink(address)
    if "://" in address and not address.startswith("file://"):
        return StoreSink(address)
    return DirectorySink(address, Path(address.removeprefix("file://")))


def file_name(checkpoint: Checkpoint) -> str:
    """The file of a checkpoint, relative to where they are kept."""
    return f"{quote(checkpoint.origin, safe='')}/{checkpoint.size:020}{ENDING}"


def _last(names: Iterable[str]) -> tuple[int, str] | None:
    """The checkpoint of the most events among these files, as (events, file)."""
    return max(
        ((int(match[1]), name) for name in names if (match := _NUMBER.fullmatch(name))),
        default=None,
    )


def _forked(where: str, checkpoint: Checkpoint) -> AuditError:
    return AuditError(
        f"{where} is another checkpoint of {checkpoint.size} events",
        hint="the trail was restored to an earlier state, or two copies of it are being sealed: audit verify "
        "compares them",
    )


@dataclass(frozen=True, slots=True)
class DirectorySink:
    """A folder."""

    address: str
    path: Path

    def put(self, checkpoint: Checkpoint, note: str, stamp: bytes | None) -> None:
        """Write a new file and flush it to disk."""
        target = self.path / file_name(checkpoint)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._write(target, note.encode(), checkpoint)
            if stamp and not target.with_suffix(STAMP).exists():
                self._write(target.with_suffix(STAMP), stamp, checkpoint)
        except OSError as error:
            raise AuditError(
                f"cannot write {target}: {error.strerror}", hint="make room, or name another folder"
            ) from error

    def _write(self, target: Path, content: bytes, checkpoint: Checkpoint) -> None:
        if target.exists():
            if target.read_bytes() != content:
                raise _forked(str(target), checkpoint)
            return
        # A file that a killed run left half written has another name.
        new = target.with_name(f".{target.name}.{os.getpid()}")
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(new, target)
        except FileExistsError:
            raise _forked(str(target), checkpoint) from None
        finally:
            new.unlink()
        _flush_folder(target.parent)

    def newest(self, origin: str) -> tuple[int, str] | None:
        """The last file."""
        folder = self.path / quote(origin, safe="")
        found = _last(file.name for file in folder.glob(f"*{ENDING}"))
        return (found[0], _note_or_nothing(folder / found[1])) if found else None

    def lacks_stamp(self, checkpoint: Checkpoint) -> bool:
        """Whether there is no such file."""
        return not (self.path / file_name(checkpoint)).with_suffix(STAMP).exists()


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class StoreSink:
    """A bucket, by fsspec."""

    address: str

    def _open(self) -> tuple[Any, str]:
        try:
            core = import_module("fsspec").core
        except ImportError as error:
            raise MissingExtraError(
                f"{self.address} needs fsspec", hint="pip install 'audit-toolkit[archive]'"
            ) from error
        try:
            filesystem, root = core.url_to_fs(self.address)
        except ImportError as error:
            raise MissingExtraError(
                f"no driver for {self.address.split(':')[0]}://",
                hint=f"install the package that it names: {error}",
            ) from error
        except ValueError as error:
            raise UsageError(
                f"{self.address!r} is not an address for checkpoints: {error}",
                hint="write a folder, s3://bucket/path, or command:PROGRAM",
            ) from error
        return filesystem, str(root).rstrip("/")

    def put(self, checkpoint: Checkpoint, note: str, stamp: bytes | None) -> None:
        """Write a new object."""
        filesystem, root = self._open()
        path = f"{root}/{file_name(checkpoint)}"
        with _storage_errors(self.address):
            filesystem.invalidate_cache()
            if filesystem.exists(path):
                if filesystem.cat_file(path) != note.encode():
                    raise _forked(path, checkpoint)
            else:
                if _has_folders(filesystem):
                    filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
                filesystem.pipe_file(path, note.encode())
            stamped = _stamp_of(path)
            if stamp and not filesystem.exists(stamped):
                filesystem.pipe_file(stamped, stamp)

    def newest(self, origin: str) -> tuple[int, str] | None:
        """The last object."""
        filesystem, root = self._open()
        folder = f"{root}/{quote(origin, safe='')}"
        with _storage_errors(self.address):
            filesystem.invalidate_cache()
            names = filesystem.find(folder) if filesystem.exists(folder) else []
            found = _last(name.rpartition("/")[2] for name in names)
            if found is None:
                return None
            content: bytes = filesystem.cat_file(f"{folder}/{found[1]}", start=0, end=_LONGEST_NOTE)
            return found[0], content.decode(errors="replace")

    def lacks_stamp(self, checkpoint: Checkpoint) -> bool:
        """Whether there is no such object."""
        filesystem, root = self._open()
        with _storage_errors(self.address):
            return not filesystem.exists(_stamp_of(f"{root}/{file_name(checkpoint)}"))

    def notes(self) -> list[tuple[str, str]]:
        """All checkpoints that are kept there, as (where, note)."""
        filesystem, root = self._open()
        with _storage_errors(self.address):
            names = sorted(name for name in filesystem.find(root) if name.endswith(ENDING))
            read = (filesystem.cat_file(name, start=0, end=_LONGEST_NOTE) for name in names)
            notes = [content.decode(errors="replace") for content in read]
            return list(zip(names, notes, strict=True))


def _stamp_of(path: str) -> str:
    return path.removesuffix(ENDING) + STAMP


def _has_folders(filesystem: Any) -> bool:
    """Not in a bucket; and some drivers would make one, without any lock, where its name is misspelt."""
    protocols = filesystem.protocol
    return _BUCKETS.isdisjoint([protocols] if isinstance(protocols, str) else protocols)


class _storage_errors:  # noqa: N801 - it reads like a function
    """Turns what a storage driver raises, which has no base but Exception, into an `AuditError`."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, AuditError):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise AuditError(
                f"{self.address} failed: {reason}",
                hint="check that the place exists, is reachable and has room; the next run retries",
            ) from error


@dataclass(frozen=True, slots=True)
class CommandSink:
    """A program."""

    address: str

    def put(self, checkpoint: Checkpoint, note: str, stamp: bytes | None) -> None:  # noqa: ARG002
        """Run it with the checkpoint on its standard input."""
        command = self.address.removeprefix(COMMAND)
        environment = {
            "AUDIT_CHECKPOINT_NAME": checkpoint.origin,
            "AUDIT_CHECKPOINT_SIZE": str(checkpoint.size),
        }
        try:
            answer = subprocess.run(
                shlex.split(command),
                input=note.encode(),
                capture_output=True,
                check=False,
                timeout=TIMEOUT,
                env={**os.environ, **environment},
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise AuditError(
                f"{self.address} failed: {error}", hint="the next run retries"
            ) from error
        if answer.returncode:
            said = answer.stderr.decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"exit code {answer.returncode}"
            raise AuditError(f"{self.address} failed: {why}", hint="the next run retries")

    def newest(self, origin: str) -> tuple[int, str] | None:  # noqa: ARG002 - nobody can be asked
        """Nobody can be asked."""
        return None

    def lacks_stamp(self, checkpoint: Checkpoint) -> bool:  # noqa: ARG002
        """It gets none."""
        return False


def read_outside(addresses: Iterable[str]) -> list[tuple[str, str]]:
    """All checkpoints of these folders, stores and files, as (where, note); raises `UsageError` where there is none."""
    found: list[tuple[str, str]] = []
    for address in addresses:
        if "://" in address and not address.startswith("file://"):
            notes = StoreSink(address).notes()
        else:
            notes = _notes_of(Path(address.removeprefix("file://")))
        if not notes:
            raise UsageError(
                f"there is no checkpoint in {address}",
                hint="name the folder that audit seal --checkpoint-to writes to",
            )
        found += notes
    return found


def _notes_of(path: Path) -> list[tuple[str, str]]:
    if not path.is_dir():
        try:
            return [(str(path), _read_note(path))]
        except FileNotFoundError as error:
            raise UsageError(
                f"there is no folder or file {path}",
                hint="audit seal --checkpoint-to makes the folder with the first checkpoint; before that, verify "
                "without --checkpoints",
            ) from error
        except OSError as error:
            raise UsageError(
                f"cannot read {path}: {error.strerror}",
                hint="name the folder that audit seal --checkpoint-to writes to",
            ) from error
    files = [file for file in sorted(path.rglob(f"*{ENDING}")) if not file.name.startswith(".")]
    return [(str(file), _note_or_nothing(file)) for file in files]


def _note_or_nothing(file: Path) -> str:
    """What is there; nothing, which is no note and so a finding, of what cannot be read."""
    try:
        return _read_note(file) if file.is_file() else ""
    except OSError:
        return ""


def _read_note(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(_LONGEST_NOTE).decode("utf-8", errors="replace")


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([tag, size]) + content if size < 128 else bytes([tag, 0x81, size]) + content


def time_stamp(url: str, note: str) -> bytes:
    """The answer of an RFC 3161 time-stamping authority about a checkpoint, as it came; raises `AuditError`.

    That it was granted for this very note is seen here; `openssl ts -verify` sees who signed it.
    """
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"--timestamp: {url!r} is not the address of a time-stamping authority")
    hashed = hashlib.sha256(note.encode()).digest()
    sha256 = bytes.fromhex("0609608648016503040201") + b"\x05\x00"
    imprint = _der(0x30, _der(0x30, sha256) + _der(0x04, hashed))
    nonce = _der(0x02, bytes([0x40 | secrets.randbits(6)]) + secrets.token_bytes(7))
    question = _der(0x30, b"\x02\x01\x01" + imprint + nonce + b"\x01\x01\xff")
    request = urllib.request.Request(  # noqa: S310 - http and https alone
        url, data=question, headers={"Content-Type": _TSA_TYPE}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            content: bytes = answer.read(1 << 20)
    except (OSError, ValueError, HTTPException) as error:
        raise AuditError(
            f"the time-stamping authority {url} failed: {error}", hint="the next run retries"
        ) from error
    status = re.match(
        rb"\x30(?:[\x00-\x7f]|\x81.|\x82..|\x83...)\x30.\x02\x01(.)", content, re.DOTALL
    )
    if not status or status[1] not in (b"\0", b"\1") or hashed not in content:
        raise AuditError(
            f"the time-stamping authority {url} refused the time stamp",
            hint="ask it by hand: openssl ts -query -data FILE -sha256 -cert",
        )
    if nonce not in content:
        raise AuditError(
            f"the time-stamping authority {url} answered another question than this one",
            hint="something between here and there keeps its answers, such as a proxy",
        )
    _require_valid_certificate(url, content)
    return content


def _require_valid_certificate(url: str, answer: bytes) -> None:
    """Raise `AuditError` for a time stamp that was signed when the certificate of the authority had expired.

    By the authority's own clock. Whether somebody trusts the certificate is not for us to say.
    """
    pkcs7 = cryptography("hazmat.primitives.serialization.pkcs7")
    x509, oids = cryptography("x509"), cryptography("x509.oid")
    signed_at = re.search(rb"\x18[\x0f-\x19](\d{14})(?:\.\d+)?Z", answer)
    certificates = []
    with suppress(ValueError, IndexError):  # an answer may come without them
        certificates = pkcs7.load_der_pkcs7_certificates(_after_status(answer))
    if signed_at is None or not certificates:
        return
    moment = datetime.strptime(signed_at[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    for certificate in certificates:
        with suppress(x509.ExtensionNotFound):
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            expired = certificate.not_valid_after_utc
            if oids.ExtendedKeyUsageOID.TIME_STAMPING in usage and expired < moment:
                raise AuditError(
                    f"the time-stamping authority {url} signed with a certificate that expired on {expired:%Y-%m-%d}",
                    hint="such a time stamp proves nothing: tell the authority, or use another one",
                )


def _after_status(answer: bytes) -> bytes:
    """The signed part of an answer in DER, which comes behind its status."""
    begin = _content_of(answer, 0)[0]
    return answer[_content_of(answer, begin)[1] :]


def _content_of(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of an element in DER begins and ends."""
    size, begin = data[at + 1], at + 2
    if size >= 128:
        begin += size - 128
        size = int.from_bytes(data[at + 2 : begin], "big")
    return begin, begin + size


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What became of a checkpoint at one sink."""

    address: str
    size: int | None
    """Of the last checkpoint that it has, as far as is known."""
    failed: str | None = None
    hint: str | None = None
    """What to do about a failure."""


def deliver(
    sinks: Sequence[Sink],
    checkpoint: Checkpoint,
    note: str,
    known: dict[str, int | None],
    timestamp: str | None = None,
) -> list[Delivered]:
    """Hand a checkpoint to every sink that does not have it yet; what fails keeps no other from having it."""
    missing = [
        sink
        for sink in sinks
        if (known.get(sink.address) or 0) < checkpoint.size
        or (timestamp and _lacks_stamp(sink, checkpoint))
    ]
    found = [
        Delivered(address=sink.address, size=known[sink.address])
        for sink in sinks
        if sink not in missing
    ]
    stamp = None
    if timestamp and missing:
        try:
            stamp = time_stamp(timestamp, note)
        except AuditError as error:
            found.append(_failed(timestamp, None, error))
    for sink in missing:
        try:
            sink.put(checkpoint, note, stamp)
            found.append(Delivered(address=sink.address, size=checkpoint.size))
        except AuditError as error:
            found.append(_failed(sink.address, known.get(sink.address), error))
    return found


def _lacks_stamp(sink: Sink, checkpoint: Checkpoint) -> bool:
    """As an authority may have failed before; a place that cannot be asked fails again when it gets the checkpoint."""
    try:
        return sink.lacks_stamp(checkpoint)
    except AuditError:
        return True


def _failed(address: str, size: int | None, error: AuditError) -> Delivered:
    return Delivered(address=address, size=size, failed=error.message, hint=error.hint)


def _require_valid(where: str, size: int, note: str, keys: Sequence[PublicKey]) -> None:
    try:
        read_checkpoint(note, keys)
    except NoteError as wrong:
        raise AuditError(
            f"{where} has a file for {size} events that is not a checkpoint of this key: {wrong.message}",
            hint="audit verify names it; find out who put it there, and move it out of the folder",
        ) from wrong


def require_continued(
    sinks: Iterable[Sink], origin: str, size: int, keys: Sequence[PublicKey], tree: Tree | None
) -> dict[str, int | None]:
    """How many events the last checkpoint of each sink has, by its address; those that cannot be asked are left out.

    Raises `AuditError` where it is not one of this tree, of so many events.

    That of a larger one says that the database was put back to an earlier state, or that a copy of it is ahead; one of
    another root, that a copy is sealed there. Without a tree, roots are not compared. What is no valid checkpoint is
    left to `audit verify`.
    """
    kept: dict[str, int | None] = {}
    for sink in sinks:
        if isinstance(sink, CommandSink):
            continue
        try:
            newest = sink.newest(origin)
        except AuditError:
            continue
        largest, note = newest or (0, "")
        kept[sink.address] = largest
        if largest > size:
            _require_valid(sink.address, largest, note, keys)
            raise AuditError(
                f"{sink.address} has a checkpoint of {largest} events, and the database has sealed {size}",
                hint="the database was restored to an earlier state, or a copy of it is sealed to the same place, and "
                "sealing it would hide that: audit verify shows what differs; then move the checkpoints that are ahead "
                "out of the folder",
            )
        if tree is None:
            continue
        with suppress(NoteError):
            checkpoint = read_checkpoint(note, keys)
            if checkpoint.size <= size and tree.root(checkpoint.size) != checkpoint.root:
                raise AuditError(
                    f"{sink.address} has a checkpoint of {checkpoint.size} events that is not of this trail",
                    hint="a copy of the database is sealed to the same place, or the trail was restored and then went "
                    "on: audit verify compares them; seal each copy to a place of its own",
                )
    return kept
