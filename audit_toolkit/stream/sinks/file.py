"""A file of JSON lines, flushed to the disk before a batch counts as delivered, and rotated by size.

file:events.jsonl   file:/var/log/audit/events.jsonl?rotate=100000000
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from audit_toolkit.errors import UsageError
from audit_toolkit.stream.messages import Message, Outcome
from audit_toolkit.stream.sinks.base import Address

_TAIL_BYTES = 1 << 20


class FileSink:
    """Appends a line for each message."""

    def __init__(self, path: Path, rotate: int = 0) -> None:
        self._path = path
        self._rotate = rotate
        self._file = self._open()

    def send(self, messages: Sequence[Message]) -> Outcome:
        """Append the messages, and have them on the disk."""
        place = self._file.tell()
        try:
            self._file.write(b"".join(message.body + b"\n" for message in messages))
            self._file.flush()
            os.fsync(self._file.fileno())
            if self._rotate and self._file.tell() >= self._rotate:
                self._turn()
        except OSError as error:
            # Half a line would spoil the next one.
            self._file.close()
            self._file = self._open(place)
            return Outcome(done=0, error=f"{self._path}: {error.strerror}")
        return Outcome(done=len(messages))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self, until: int | None = None) -> BinaryIO:
        """The file, behind its last whole line: a crash may have left half of one."""
        try:
            file = self._path.open("ab+")
            if until is not None:
                file.truncate(until)
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - _TAIL_BYTES)
            file.seek(start)
            tail = file.read()
            if tail and not tail.endswith(b"\n"):
                file.truncate(start + tail.rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
        except OSError as error:
            raise UsageError(
                f"{str(self._path)!a} cannot be written: {error.strerror}",
                hint="name a file in a directory that is there and may be written to",
            ) from error
        return file

    def _turn(self) -> None:
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        self._file.close()
        self._path.rename(self._path.with_name(f"{self._path.stem}.{moment}{self._path.suffix}"))
        self._file = self._open()


def open_sink(address: Address) -> FileSink:
    """The sink of `file:PATH`; `rotate=BYTES` begins a new file from that size on."""
    path = unquote(address.path)
    if not path or address.place not in ("", "localhost"):
        raise UsageError("the address names no file", hint="write file:/path/to/events.jsonl")
    rotate = address.option("rotate", "0")
    if not rotate.isdigit():
        raise UsageError(f"rotate={rotate} is no number of bytes", hint="as in rotate=100000000")
    return FileSink(Path(path), int(rotate))
