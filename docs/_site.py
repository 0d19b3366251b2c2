"""The documentation site: the pages of this folder in their order, and the reference, which is generated.

A hook of MkDocs (`nox -s docs`). The Markdown files stay readable as they are on a code host; here their links to files
beside `docs/` become links to pages.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "sql_templates" / "functions"

BESIDE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
"""Files of the project that are pages, too."""

NAV: dict[str, tuple[str, ...]] = {
    "Start": ("index.md", "tutorial.md"),
    "How-to": (
        "context.md",
        "history.md",
        "time-travel.md",
        "undelete.md",
        "python.md",
        "alembic.md",
        "outbox.md",
        "streams.md",
        "debezium.md",
        "wal.md",
        "page.md",
        "partitions.md",
        "archive.md",
        "lake.md",
        "indexes.md",
        "moving.md",
        "seals.md",
        "gdpr.md",
        "completeness.md",
        "witness.md",
        "evidence.md",
        "deploy.md",
        "managed.md",
    ),
    "Reference": (
        "reference/cli.md",
        "reference/python.md",
        "reference/table.md",
        "reference/sql.md",
        "reference/errors.md",
        "findings.md",
    ),
    "Explanation": (
        "guarantees.md",
        "security.md",
        "attacks.md",
        "storage.md",
        "performance.md",
        "architecture.md",
    ),
    "Project": ("contributing.md", "security-policy.md", "changelog.md"),
}
"""The order of the pages. One that is not there yet is left out, one that is not named comes under "More"."""

PUBLIC_SQL = (
    "row_at",
    "table_at",
    "history",
    "names_of",
    "record_event",
    "leaves",
    "ensure_partitions",
)
"""Functions of the schema `audit` that users call."""

PYTHON = ("audit_toolkit", "audit_toolkit.trail", "audit_toolkit.errors")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that are there into their order."""
    there = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    there |= {*BESIDE.values(), *(page for page, _ in _reference())}
    named = {page for pages in NAV.values() for page in pages}
    sections = {title: [p for p in pages if p in there] for title, pages in NAV.items()}
    sections["More"] = sorted(there - named)
    config.nav = [{title: pages} for title, pages in sections.items() if pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files beside `docs/`, and the generated reference."""
    for name, page in BESIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for page, text in _reference():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links to files of the project lead to their pages."""
    for name, target in BESIDE.items():
        markdown = re.sub(rf"\]\((?:\.\./)?{re.escape(name)}", f"]({target}", markdown)
    return markdown.replace("](docs/", "](") if page.file.src_uri in BESIDE.values() else markdown


def _reference() -> Iterator[tuple[str, str]]:
    yield "reference/cli.md", "\n".join(_commands())
    yield "reference/python.md", _python()
    yield "reference/table.md", _table()
    yield "reference/sql.md", "\n".join(_sql_functions())
    yield "reference/errors.md", _errors()


def _commands() -> Iterator[str]:
    import typer.main

    from audit_toolkit.cli.app import app

    yield "# Command line\n"
    yield "Generated from the commands' own help. Data goes to stdout, messages to stderr.\n"
    yield from _help_of(typer.main.get_command(app), ("audit",))


def _help_of(command: Any, words: tuple[str, ...]) -> Iterator[str]:
    context = command.make_context(words[-1], [], resilient_parsing=True)
    context.info_name = " ".join(words)
    yield f"## {' '.join(words)}\n\n```text\n{context.command.get_help(context)}\n```\n"
    for name, below in getattr(command, "commands", {}).items():
        yield from _help_of(below, (*words, name))


def _python() -> str:
    modules = "\n\n".join(f"::: {name}" for name in PYTHON)
    return f"# Python API\n\nGenerated from docstrings.\n\n{modules}\n"


def _table() -> str:
    from audit_toolkit.schema.install import COLUMN_COMMENTS

    rows = "".join(f"| `{name}` | {text} |\n" for name, text in COLUMN_COMMENTS)
    return (
        "# The table `audit.logged_actions`\n\nIts columns, with the comments that they have in the database. "
        "[The README](../index.md#query-the-table) has an example.\n\n"
        f"| column | meaning |\n|---|---|\n{rows}"
    )


def _sql_functions() -> Iterator[str]:
    yield "# SQL functions\n\nThe schema is `audit`, or the one given with `--audit-schema`.\n"
    for name in PUBLIC_SQL:
        text = (TEMPLATES / f"{name}.sql.j2").read_text(encoding="utf-8")
        about = re.match(r"\{#-? *\w+: (.*?)-?#\}", text, re.DOTALL)
        declared = re.search(rf"\.{name}(\(.*?\))\n", text, re.DOTALL)
        if about is None or declared is None:
            raise ValueError(f"{name}.sql.j2 does not begin with what the function is for")
        arguments = re.sub(r"\s+", " ", declared[1])
        yield f"## {name}\n\n```sql\naudit.{name}{arguments}\n```\n\n{_unindented(about[1])}\n"


def _unindented(text: str) -> str:
    """The comment of a template as Markdown: deeper lines are an example."""
    lines = text.strip().splitlines()
    shown = (
        f"\n    {line.strip()}\n" if line.startswith(" " * 8) else line.strip() for line in lines
    )
    return "\n".join(shown)


def _errors() -> str:
    from audit_toolkit import errors

    tree = ast.parse((ROOT / "audit_toolkit" / "errors.py").read_text(encoding="utf-8"))
    classes = [getattr(errors, n.name) for n in tree.body if isinstance(n, ast.ClassDef)]
    rows = "".join(
        f"| `{c.__name__}` | {c.exit_code} | {(c.__doc__ or '').splitlines()[0]} |\n"
        for c in classes
    )
    return (
        "# Exit codes and errors\n\n| code | meaning |\n|---|---|\n| 0 | success |\n| 1 | failed |\n| 2 | usage |\n"
        "| 3 | findings |\n| 4 | cannot connect |\n| 5 | busy: a lock, or another run |\n\n"
        "Only `--format nagios` uses Nagios' codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.\n\n"
        "Every error has a message, a hint that names the remedy, and an exit code:\n\n"
        f"| error | exit code | raised when |\n|---|---|---|\n{rows}"
    )
