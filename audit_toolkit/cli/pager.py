"""Long text on a terminal, shown by the user's pager as git does."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from audit_toolkit.cli.exits import Terminated

_DEFAULT = "less"
_LESS = "FRX"
"""As git sets it: end at once where all fits on a screen, keep colours, leave the text there."""


def pager() -> list[str] | None:
    """The command of the pager: AUDIT_PAGER, else PAGER, else less; None for none."""
    chosen = os.environ.get("AUDIT_PAGER", os.environ.get("PAGER", _DEFAULT))
    words = shlex.split(chosen)
    return None if not words or words == ["cat"] else words


@contextmanager
def paged(*, wanted: bool = True) -> Iterator[None]:
    """Let what is printed go through the pager, if stdout is a terminal."""
    command = pager() if wanted and sys.stdout.isatty() else None
    process = _start(command) if command else None
    if process is None or process.stdin is None:
        yield
        return
    terminal = sys.stdout
    sys.stdout = _ForTerminal(process.stdin, encoding=terminal.encoding, errors=terminal.errors)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # the reader has seen enough
    finally:
        _close(sys.stdout)
        sys.stdout = terminal
        _wait(process)


class _ForTerminal(io.TextIOWrapper):
    """What is written to it is read on a terminal, so it may have colours."""

    def isatty(self) -> bool:
        return True


def _start(command: list[str]) -> subprocess.Popen[bytes] | None:
    environment = {"LESS": _LESS, "LV": "-c"} | os.environ
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
    except OSError:  # no such program: without a pager then
        return None


def _close(file: io.TextIOBase) -> None:
    with suppress(BrokenPipeError):
        file.close()


def _wait(process: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            process.wait()
        except Terminated:
            raise
        except KeyboardInterrupt:  # the pager handles it, and keeps running
            continue
        return
