"""Pictures of the terminal, from the shop of `audit demo`: `python -m tests.terminal_pictures DIRECTORY`."""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from audit_toolkit.demo.cluster import throwaway_cluster
from audit_toolkit.demo.story import tell

PICTURES = {
    "terminal-history": "audit history orders 1",
    "terminal-blame": "audit blame orders 1",
    "terminal-undo": "audit revert --last orders 1",
}
"""File and command."""
WIDTH = 100
FONT_OF_THE_WEB = re.compile(r"\s*@font-face \{.*?\}\n", re.DOTALL)


def main(folder: Path) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    with throwaway_cluster() as cluster, tempfile.TemporaryDirectory() as project:
        tell(cluster, Path(project), lambda _line: None)
        for name, command in PICTURES.items():
            shown = on_terminal(command, Path(project), {"DATABASE_URL": cluster.dsn("shop")})
            (folder / f"{name}.svg").write_text(picture(command, shown), encoding="utf-8")


def on_terminal(command: str, directory: Path, environment: Mapping[str, str]) -> str:
    """What the command writes to a terminal of this width."""
    _, *words = shlex.split(command)
    pid, number = pty.fork()
    if pid == 0:  # pragma: no cover - another process
        os.chdir(directory)
        terminal = {"TERM": "xterm-256color", "COLUMNS": str(WIDTH), "AUDIT_PAGER": "", "TZ": "UTC"}
        os.environ.update(terminal | dict(environment))
        os.execv(sys.executable, [sys.executable, "-m", "audit_toolkit", *words])  # noqa: S606
    with open(number, "rb", buffering=0) as terminal_output:  # noqa: PTH123
        written = b""
        while part := read(terminal_output):
            written += part
    os.waitpid(pid, 0)
    return written.decode().replace("\r\n", "\n")


def read(terminal: io.RawIOBase) -> bytes:
    """The next bytes, none at the end."""
    try:
        return terminal.read(65536) or b""
    except OSError:  # Linux says so where the other end is closed
        return b""


def picture(command: str, shown: str) -> str:
    """It as SVG, with the command as its title; no font is fetched from elsewhere."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"$ {command}\n{shown}".rstrip()))
    svg = console.export_svg(title=command, theme=MONOKAI, unique_id="terminal")
    return FONT_OF_THE_WEB.sub("", svg) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
