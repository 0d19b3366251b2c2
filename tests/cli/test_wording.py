"""What users read is plain English: help texts, errors, findings and SQL in the field's words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from audit_toolkit.cli.app import app

PROJECT = Path(__file__).parents[2]
LONGEST = 60  # characters, so that no list of commands cuts a sentence
NOT_VERBS = ("A", "All", "An", "How", "Old", "The", "This", "What", "Who")

OLD_WORDS = re.compile(
    r"\b(leaf|leaves of|mend|mends|mended|nothing twice|likewise|was not to be had|per cent)\b"
    r"|(?<!there )\b(is|are) no (?!longer\b|more\b|less\b|such\b)\w+|\b1 findings\b"
    r"|\bthe tail\b|\bswitched (off|on)\b|\bat the begin\b|\bto be rid of\b",
    re.IGNORECASE,
)
"""What was written before and reads like a translation; `leaf` stays in code, where a tree is meant."""


def every_command(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    yield " ".join(("audit", *words)), command.load() if hasattr(command, "load") else command
    for name, below in getattr(command, "commands", {}).items():
        yield from every_command(below, (*words, name))


COMMANDS = dict(every_command(typer.main.get_command(app)))


@pytest.mark.parametrize("words", COMMANDS)
def test_help_begins_with_one_short_imperative_sentence(words: str) -> None:
    first = (COMMANDS[words].help or "").strip().splitlines()[0]
    assert len(first) < LONGEST
    assert first.endswith(".")
    assert first.split()[0] not in NOT_VERBS


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_says_what_it_does(words: str) -> None:
    for parameter in COMMANDS[words].params:
        said = getattr(parameter, "help", None)
        assert said, f"{words} {parameter.name} has no help"
        assert said[0] in "-'" or not said[0].islower(), said
        assert said.endswith((".", "]", "…")), said


def literals(file: Path) -> Iterator[tuple[int, str]]:
    """The texts of a module that are not docstrings: they may reach a user."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    notes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
            yield node.lineno, node.value


def test_texts_use_the_words_of_the_field() -> None:
    found = [
        f"{file.relative_to(PROJECT)}:{line}: {text.strip()}"
        for file in sorted(PROJECT.joinpath("audit_toolkit").rglob("*.py"))
        for line, text in literals(file)
        if " " in text.strip() and OLD_WORDS.search(text)
    ]
    assert not found, "\n".join(found)


# There a leaf is one of a tree of hashes, and a tail what --follow shows.
DOCS_OF_TREES = ("attacks.md", "performance.md", "seals.md")


def test_the_docs_use_them_too() -> None:
    pages = [PROJECT / "README.md", *sorted(PROJECT.joinpath("docs").glob("*.md"))]
    found = [
        f"{page.name}:{number}: {line}"
        for page in pages
        if page.name not in DOCS_OF_TREES
        for number, line in enumerate(page.read_text("utf-8").splitlines(), 1)
        if OLD_WORDS.search(line)
    ]
    assert not found, "\n".join(found)


def test_comments_that_a_dba_reads_use_them_too() -> None:
    """Those of rendered SQL, and of queries as the server's log shows them."""
    found = [
        f"{file.relative_to(PROJECT)}: {comment.strip()}"
        for file in sorted(PROJECT.joinpath("sql_templates").rglob("*.sql*"))
        for comment in re.findall(
            r"--.*", re.sub(r"\{#.*?#\}", "", file.read_text("utf-8"), flags=re.DOTALL)
        )
        if OLD_WORDS.search(comment)
    ]
    assert not found, "\n".join(found)
