"""env.py of a project: what it says in its text, and what it makes of the project when it runs.

It runs only where its text says that it changes what we have to know, in a process of its own and as for
`alembic upgrade --sql`: without a database.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit.errors import ProjectError

if TYPE_CHECKING:
    from alembic.config import Config

IMPORT_LINE = "import audit_toolkit.alembic  # noqa: F401"
_TIMEOUT = 60
_CHANGES = re.compile(r"version_locations|script_location|version_table|context\s*\.\s*script\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The project as env.py leaves it."""

    scripts: Path
    version_locations: tuple[Path, ...]
    version_table: str | None
    """None where env.py ended before it had said so."""
    version_schema: str | None
    failure: str | None
    """Why it ended early; None where it did not."""


def changes_the_project(env: Path) -> bool:
    """Whether the text of env.py has to do with where revisions are, or are recorded."""
    return bool(_CHANGES.search(_text(env)))


def run_environment(config: Config) -> Environment:
    """Run env.py of the project of `config` in another process, with no database.

    Raises `ProjectError` where that process comes to no end.
    """
    given = {
        "ini": str(config.config_file_name or ""),
        "toml": str(getattr(config, "toml_file_name", None) or ""),
        "section": config.config_ini_section,
        "script_location": config.get_alembic_option("script_location"),
    }
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory, "answer.json")
        try:
            done = subprocess.run(
                [sys.executable, "-B", "-m", "audit_toolkit.migrations.env_probe", str(answer)],
                input=json.dumps(given),
                capture_output=True,
                encoding="utf-8",
                timeout=_TIMEOUT,
                check=False,
            )
            found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            said = done.stderr.strip().splitlines()[-1:] if "done" in locals() else [str(error)]
            raise ProjectError(
                f"env.py of the project cannot be run: {' '.join(said)}",
                hint="use --version-path DIRECTORY instead of env.py, and --no-env so as not to "
                "run it",
            ) from error
    return Environment(
        scripts=Path(found["scripts"]),
        version_locations=tuple(map(Path, found["version_locations"])),
        version_table=found["version_table"],
        version_schema=found["version_schema"],
        failure=found["failure"],
    )


def import_advice(env: Path) -> str | None:
    """What env.py lacks to protect the trail from autogenerate, in words; None where it is right."""
    tree = _parsed(env)
    if tree is None:
        return None
    imported = min(_import_lines(tree), default=None)
    if imported is None:
        return f"does not import audit_toolkit.alembic; add as its first line:\n  {IMPORT_LINE}"
    runs = min(_run_lines(tree), default=None)
    if runs is not None and imported > runs:
        return (
            f"imports audit_toolkit.alembic in line {imported}, after the migrations have run "
            f"in line {runs}; move it to the top"
        )
    return None


def add_import(env: Path) -> bool:
    """Write the import into env.py, above all other; whether that was needed.

    Raises `ProjectError` for a file that is no Python.
    """
    if import_advice(env) is None:
        return False
    text = _text(env)
    tree = _parsed(env)
    if tree is None:
        raise ProjectError(f"{env} is not valid Python", hint="fix the file")
    first = next((node for node in tree.body if not _goes_first(node)), None)
    lines = text.splitlines(keepends=True)
    place = first.lineno - 1 if first else len(lines)
    lines.insert(place, f"{IMPORT_LINE}\n")
    env.write_text("".join(lines), encoding="utf-8")
    return True


def _goes_first(node: ast.stmt) -> bool:
    """Whether Python wants the statement above ours: a docstring, an import from the future."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())) | ast.ImportFrom(module="__future__"):
            return True
        case _:
            return False


def _import_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                names_us = any(alias.name == "audit_toolkit.alembic" for alias in names)
            case ast.ImportFrom(module="audit_toolkit", names=names):
                names_us = any(alias.name == "alembic" for alias in names)
            case ast.ImportFrom(module="audit_toolkit.alembic"):
                names_us = True
            case _:
                continue
        if names_us:
            yield node.lineno


def _run_lines(tree: ast.Module) -> Iterator[int]:
    """The lines at the top level that run the migrations: a call there, be it below an `if`."""
    runners = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(
            isinstance(inner, ast.Attribute | ast.Name)
            and getattr(inner, "attr", getattr(inner, "id", "")) == "run_migrations"
            for inner in ast.walk(node)
        )
    } | {"run_migrations", "run_migrations_online", "run_migrations_offline"}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call):
                function = inner.func
                if getattr(function, "attr", getattr(function, "id", "")) in runners:
                    yield inner.lineno


def _parsed(env: Path) -> ast.Module | None:
    try:
        return ast.parse(_text(env))
    except (SyntaxError, ValueError):
        return None


def _text(env: Path) -> str:
    try:
        return env.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
