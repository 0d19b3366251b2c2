"""A file of JSON lines, flushed to the disk before a batch counts as delivered, and rotated by size.

file:events.jsonl   file:/var/log/audit/events.jsonl?rotate=100000000
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from audit_toolkit.errors import UsageError
from audit_toolkit.stream.messages import Message, Outcome
from audit_toolkit.stream.sinks.base import Address

_TAIL_BYTES = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FileSink:
    """Appends a line for each message. Opened with the first: until then another instance may be writing."""

    def __init__(self, path: Path, rotate: int = 0) -> None:
        self._path = path
        self._rotate = rotate
        self._opened: BinaryIO | None = None
        self._was_open = False

    def send(self, messages: Sequence[Message]) -> Outcome:
        """Append the messages, and have them on the disk."""
        try:
            file = self._opened = self._there() or self._open()
        except UsageError as error:
            if not self._was_open:
                raise
            # The address was right: the directory has gone, or can only be read for now.
            return Outcome(done=0, error=error.message, hint=error.hint)
        self._was_open = True
        place = file.tell()
        try:
            file.write(b"".join(message.body + b"\n" for message in messages))
            file.flush()
            os.fsync(file.fileno())
            if self._rotate and file.tell() >= self._rotate:
                self._turn(file)
        except OSError as error:
            # Half a line would spoil the next one.
            with suppress(OSError):  # it tries to write the rest
                file.close()
            self._opened = None
            with suppress(UsageError):  # the next attempt says so
                self._opened = self._open(place)
            hint = "free or add disk space" if error.errno in _FULL else None
            return Outcome(done=0, error=f"{self._path}: {error.strerror}", hint=hint)
        return Outcome(done=len(messages))

    def _there(self) -> BinaryIO | None:
        """The open file, as long as it is the one of that name: others may rotate, remove or empty it."""
        if self._opened is None:
            return None
        with suppress(OSError):
            opened, named = os.fstat(self._opened.fileno()), self._path.stat()
            if os.path.samestat(opened, named):
                self._opened.seek(0, os.SEEK_END)
                return self._opened
        self._opened.close()
        self._opened = None
        return None

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()

    def _open(self, until: int | None = None) -> BinaryIO:
        """The file, behind its last whole line: a crash may have left half of one."""
        try:
            is_new = not self._path.exists()
            file = self._path.open("ab+")
            if is_new:
                _sync_directory(self._path.parent)
            size = file.seek(0, os.SEEK_END)
            if until is not None and until < size:
                size = file.truncate(until)
            start = max(0, size - _TAIL_BYTES)
            file.seek(start)
            tail = file.read()
            if tail and not tail.endswith(b"\n"):
                file.truncate(start + tail.rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
        except OSError as error:
            raise _unwritable(self._path, error.strerror) from error
        return file

    def _turn(self, file: BinaryIO) -> None:
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        file.close()
        self._opened = None
        self._path.rename(self._path.with_name(f"{self._path.stem}.{moment}{self._path.suffix}"))
        self._opened = self._open()


def _sync_directory(directory: Path) -> None:
    """Have the name of a new file on the disk, too: without it its lines would be gone after a crash."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _unwritable(path: Path, reason: str | None) -> UsageError:
    return UsageError(
        f"{str(path)!a} cannot be written: {reason}",
        hint="name a file in an existing, writable directory",
    )


def open_sink(address: Address) -> FileSink:
    """The sink of `file:PATH`; `rotate=BYTES` begins a new file from that size on."""
    path = unquote(address.path)
    if not path or "\0" in path or address.place not in ("", "localhost"):
        raise UsageError("the address names no file", hint="write file:/path/to/events.jsonl")
    address.require_known("rotate")
    rotate = address.number("rotate", 0, "bytes", 100_000_000)
    try:
        is_there = Path(path).exists()
        if not Path(path).parent.is_dir():
            raise _unwritable(Path(path), "there is no such directory")
    except OSError as error:  # as for a name that is too long
        raise _unwritable(Path(path), error.strerror) from error
    if is_there and not Path(path).is_file():
        # It is read to its end and cut after a crash, and counts when it is on the disk.
        raise _unwritable(Path(path), "it is not a regular file")
    return FileSink(Path(path), rotate or 0)
