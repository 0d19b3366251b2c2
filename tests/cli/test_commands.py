"""The table of commands: what it says is so, and none is imported before it is typed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest
import typer
import typer.main
from typer.testing import CliRunner

from audit_toolkit.cli.app import COMMANDS, GROUPS, app
from audit_toolkit.cli.lazy import Entry


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.words)
def test_the_table_says_what_the_command_says(entry: Entry) -> None:
    module, _, function = entry.target.partition(":")
    command = getattr(import_module(f"audit_toolkit.cli.{module}"), function)
    assert (inspect.getdoc(command) or "").partition("\n")[0] == entry.help
    shown = CliRunner().invoke(app, [*entry.words.split(), "--help"], env={"COLUMNS": "200"})
    assert (shown.exit_code, " ".join(shown.stdout.split()).count(entry.help)) == (0, 1)


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.words)
def test_an_option_means_one_thing(entry: Entry) -> None:
    """Of two parameters with one name, one would never be heard."""
    single = typer.Typer(add_completion=False)
    module, _, function = entry.target.partition(":")
    single.command()(getattr(import_module(f"audit_toolkit.cli.{module}"), function))
    command = typer.main.get_command(single)
    names = [name for one in command.params for name in (*one.opts, *one.secondary_opts)]
    assert sorted(set(names)) == sorted(names)


def test_help_names_every_command_and_group() -> None:
    shown = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    for entry in COMMANDS:
        if " " not in entry.words:
            assert f" {entry.words} {entry.help}" in shown
    for name, text in GROUPS.items():
        if " " not in name:
            assert f" {name} {text}" in shown


@pytest.mark.parametrize("typed", [["--help"], ["partitions", "--help"], ["--version"]])
def test_help_imports_no_command(typed: list[str]) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from audit_toolkit.cli.app import app;"
        f"assert CliRunner().invoke(app, {typed}).exit_code == 0; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    modules = {f"audit_toolkit.cli.{entry.target.partition(':')[0]}" for entry in COMMANDS}
    assert modules & set(done.stdout.split()) == set()
