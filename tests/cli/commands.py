"""Every command of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield " ".join(words), command.load()
        return
    for name, below in command.commands.items():
        yield from commands(below, (*words, name))
