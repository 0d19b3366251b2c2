"""What commands say on stderr as JSON, one object a line, for programs that collect logs."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO


class LogFormat(StrEnum):
    """How a command says on stderr what goes on and what went wrong."""

    TEXT = "text"
    JSON = "json"


_LEVELS = ("error", "warning", "hint", "note")
"""The words that lines of our commands begin with, each with a colon."""


class JsonLines(io.TextIOBase):
    """A text stream that writes each line as a JSON object, with its time, level and command.

    No line is lost: one that did not end is written with `close`, whatever is not ours is of level `info`.
    """

    def __init__(self, stream: TextIO, command: str) -> None:
        self._stream = stream
        self._command = command
        self._begun = ""

    def write(self, text: str) -> int:
        """Take text; its lines are written as they end."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._write_line(line)
        return len(text)

    def flush(self) -> None:
        """Pass on what ended."""
        self._stream.flush()

    def close(self) -> None:
        """Write a line that did not end; the stream below stays open."""
        self._write_line(self._begun)
        self._begun = ""
        super().close()

    def isatty(self) -> bool:
        """No: nobody wants a progress bar in a log."""
        return False

    def writable(self) -> bool:
        """Yes."""
        return True

    def _write_line(self, line: str) -> None:
        if not line.strip():
            return
        word, colon, rest = line.partition(": ")
        is_ours = bool(colon) and word in _LEVELS
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": word if is_ours else "info",
            "command": self._command,
            "message": rest if is_ours else line,
        }
        self._stream.write(json.dumps(entry) + "\n")
        self._stream.flush()
