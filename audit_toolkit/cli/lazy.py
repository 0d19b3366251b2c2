"""Commands that are named and described before they are imported: `audit --help` imports none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
import typer.core
import typer.main

from audit_toolkit.cli.coercion import coerced_plainly

Loaded = Callable[[str, Any], None]
"""Called with the words and the command when one was imported."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the table of commands."""

    words: str
    """What is typed after `audit`: `partitions check`."""
    target: str
    """Where it is, below `audit_toolkit.cli`: `partitions.check:check`."""
    help: str
    """The first line of its help."""


class LazyCommand(typer.core.TyperCommand):
    """Stands for a command until it is typed."""

    def __init__(self, entry: Entry, examples: Callable[[str], str], loaded: Loaded) -> None:
        name = entry.words.rpartition(" ")[2]
        super().__init__(name, help=entry.help, short_help=entry.help, rich_markup_mode=None)
        self.entry = entry
        self._examples = examples
        self._loaded = loaded

    def load(self) -> Any:
        """The command itself."""
        module, _, function = self.entry.target.partition(":")
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        callback = getattr(import_module(f"audit_toolkit.cli.{module}"), function)
        single.command(self.name, cls=_Command, epilog=self._examples(self.entry.words))(callback)
        command = typer.main.get_command(single)
        self._loaded(self.entry.words, command)
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read a command line, as the command itself reads it."""
        return self.load().make_context(*args, **kwargs)


class _Command(typer.core.TyperCommand):
    def get_params(self, ctx: Any) -> Any:
        return coerced_plainly(super().get_params(ctx))


def lazy_commands(
    table: Iterable[Entry],
    groups: dict[str, str],
    examples: Callable[[str], str],
    loaded: Loaded,
) -> dict[str, Any]:
    """The commands and groups of a table by name; `groups` has the help of each group."""
    found: dict[str, Any] = {}
    for entry in table:
        *path, name = entry.words.split()
        commands = found
        for depth, word in enumerate(path):
            if word not in commands:
                commands[word] = _group(word, groups[" ".join(path[: depth + 1])])
            commands = commands[word].commands
        commands[name] = LazyCommand(entry, examples, loaded)
    return found


def _group(name: str, text: str) -> typer.core.TyperGroup:
    return typer.core.TyperGroup(
        name=name, help=text, short_help=text, no_args_is_help=True, rich_markup_mode=None
    )
