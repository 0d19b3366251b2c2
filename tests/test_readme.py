"""README and docs tell the truth: their commands exist, their SQL runs."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from tests.plugins.trail import Trail
from tests.terminal_pictures import PICTURES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    """The words of every command line `audit …` that the page shows."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    shown = re.findall(r"```(?:sh|console|bash)\n(.*?)```|`(audit [^`\n]+)`", text, re.DOTALL)
    lines = [line for block, inline in shown for line in (block or inline).splitlines()]
    found = (re.search(r"(?:^|[ /])audit ([a-z].*)", line.split(" #")[0]) for line in lines)
    return [re.split(r"\s+", match[1].split("&&")[0].strip()) for match in found if match]


@cache
def help_of(*command: str) -> str:
    """What `audit COMMAND --help` prints; empty where there is no such command."""
    answer = CliRunner().invoke(app, [*command, "--help"])
    return answer.stdout if answer.exit_code == 0 else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    for words in commands(page):
        name = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)]
        usage = help_of(*name[:2]) or help_of(*name[:1])
        assert usage, f"{page.name}: there is no command: audit {' '.join(words)}"
        for option in (word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)):
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", usage), (
                f"{page.name}: audit {' '.join(words)}: there is no {option}"
            )


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_the_terminal_show_commands_that_exist(name: str) -> None:
    """`nox -s terminal-pictures` takes them anew."""
    _, command, *words = PICTURES[name].split()
    usage = help_of(command)
    assert usage
    assert all(option in usage for option in words if option.startswith("-"))
    drawn = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    assert PICTURES[name].replace(" ", "&#160;") in drawn
    assert "font-face" not in drawn
    assert any(f"pictures/{name}.svg" in page.read_text(encoding="utf-8") for page in PAGES)


def test_the_sql_of_the_readme_runs(trail: Trail) -> None:
    trail.execute("create table orders (id int primary key, status text)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 'paid')")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    trail.execute(blocks[0])
    [_, refunded] = trail.execute(blocks[1])
    assert refunded[1:] == ("U", "user:42", "paid", "refunded")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().splitlines()
    assert script[-1] in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()


def test_the_files_that_architecture_names_are_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    _, _, table = text.partition("## Where is the code that …?")
    named = re.findall(r"\| `([\w/]+\.py)` \|", table)
    assert len(named) >= 30
    assert [file for file in named if not (ROOT / "audit_toolkit" / file).is_file()] == []
