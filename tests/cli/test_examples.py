"""Every command shows in its help how it is used, by commands that it would take."""

from __future__ import annotations

import shlex

import typer.main

from audit_toolkit.cli import times
from audit_toolkit.cli.app import app
from audit_toolkit.cli.examples import EXAMPLES
from tests.cli.commands import commands

TIMES = ("at", "since", "until", "begin", "end")


def test_every_command_has_examples_that_it_takes() -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert set(found) == set(EXAMPLES), "cli/examples.py has the examples of each command"
    for words, command in found.items():
        assert 1 <= len(EXAMPLES[words]) <= 4
        for example in EXAMPLES[words]:
            assert f"\n  {example}" in command.epilog
            typed = shlex.split(example.partition(" > ")[0])
            own = ["audit", *words.split()]
            assert typed[: len(own)] == own
            with command.make_context(words, typed[len(own) :]) as context:
                for one in command.params:
                    text = context.params.get(one.name)
                    if one.name in TIMES and one.metavar != "CHECKPOINT" and isinstance(text, str):
                        times.parse_moment(text, f"--{one.name}")


def test_help_shows_them_line_by_line() -> None:
    command = dict(commands(typer.main.get_command(app)))["history"]
    with command.make_context("history", ["orders"]) as context:
        lines = command.get_help(context).splitlines()
    at = lines.index("  Examples:")
    assert lines[at + 1 :] == [f"    {example}" for example in EXAMPLES["history"]]
