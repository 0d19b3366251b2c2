"""What commands say on stderr as JSON, one object a line, for programs that collect logs."""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO


class LogFormat(StrEnum):
    """How a command says on stderr what goes on and what went wrong."""

    TEXT = "text"
    JSON = "json"


_LEVELS = ("error", "warning", "hint", "note")
"""The words that lines of our commands begin with, each with a colon."""


@contextmanager
def logging_as_json(command: str) -> Iterator[None]:
    """A program whose stderr is JSON lines: what it prints, warnings, what is logged to nobody, and how it crashes."""
    import logging

    lines = JsonLines(sys.stderr, command)

    class Logged(logging.Handler):
        """What libraries and the user's code log where no handler is set."""

        def emit(self, record: logging.LogRecord) -> None:
            lines.entry(record.levelname.lower(), record.getMessage(), _traceback(record.exc_info))

    def show_warning(
        message: Warning | str, category: type[Warning], *_: object, **__: object
    ) -> None:
        lines.entry("warning", f"{category.__name__}: {message}")

    before = sys.stderr, warnings.showwarning, logging.lastResort
    sys.stderr = lines
    warnings.showwarning = show_warning
    logging.lastResort = Logged(logging.WARNING)
    try:
        yield
    except Exception as error:
        lines.entry(
            "error",
            f"{type(error).__name__}: {error}",
            _traceback((type(error), error, error.__traceback__)),
        )
        raise SystemExit(1) from error
    finally:
        lines.close()
        sys.stderr, warnings.showwarning, logging.lastResort = before


def _traceback(info: Any) -> str | None:
    if not info or info[0] is None:
        return None
    import traceback

    return "".join(traceback.format_exception(*info))


class JsonLines(io.TextIOBase):
    """A text stream that writes each line as a JSON object, with its time, level and command.

    Lines that were written together with one that begins with a level belong to it. No line is lost: one that did not
    end is written with `close`, whatever is not ours is of level `info`.
    """

    def __init__(self, stream: TextIO, command: str) -> None:
        self._stream = stream
        self._command = command
        self._begun = ""

    def write(self, text: str) -> int:
        """Take text; its lines are written as they end."""
        self._begun += text
        if text.endswith("\n"):
            self._write_begun()
        return len(text)

    def entry(self, level: str, message: str, traceback: str | None = None) -> None:
        """Write one object."""
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "command": self._command,
            "message": message,
        }
        if traceback:
            entry["traceback"] = traceback
        self._stream.write(json.dumps(entry) + "\n")
        self._stream.flush()

    def flush(self) -> None:
        """Pass on what ended."""
        self._stream.flush()

    def close(self) -> None:
        """Write a line that did not end; the stream below stays open."""
        self._write_begun()
        super().close()

    def isatty(self) -> bool:
        """No: nobody wants a progress bar in a log."""
        return False

    def writable(self) -> bool:
        """Yes."""
        return True

    def _write_begun(self) -> None:
        level, message = "info", ""
        for line in [*self._begun.split("\n"), ""]:
            word, colon, rest = line.partition(": ")
            is_ours = bool(colon) and word in _LEVELS
            if level != "info" and line.strip() and not is_ours:
                message += f"\n{line}"
                continue
            if message.strip():
                self.entry(level, message)
            level, message = (word, rest) if is_ours else ("info", line)
        self._begun = ""
