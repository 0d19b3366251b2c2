"""Revision files read without running them: what they import need not be installed.

A revision says what it is by assignments of literals: `revision`, `down_revision`, our `AUDIT_RECORD`
and SQL. Those are taken; anything else of the file is not looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

from alembic import util

from audit_toolkit.errors import ProjectError


def read_literals(path: Path) -> dict[str, Any]:
    """What a Python file assigns to names at its top level, as far as they are literals.

    Raises `ProjectError` for a file that is no Python.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ProjectError(f"{path} cannot be read: {error}", hint="fix the file") from error
    return dict(_assignments(tree))


def _assignments(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        try:
            yield name, ast.literal_eval(value)
        except (ValueError, TypeError):
            continue  # a computed value is not known without running the file


def static_module(path: Path) -> ModuleType:
    """The file as a module that holds its literals alone."""
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    module.__doc__ = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    vars(module).update(read_literals(path))
    return module


@contextmanager
def revisions_not_run() -> Iterator[None]:
    """A block in which Alembic takes revision files as `static_module` reads them."""
    before = util.load_python_file

    def load(directory: str | PathLike[str], filename: str | PathLike[str]) -> ModuleType:
        return static_module(Path(directory, filename))

    # Alembic has no setting for it. Whatever it loads in the block are revisions: env.py is not run here.
    util.load_python_file = load  # type: ignore[assignment]  # the names of its parameters
    try:
        yield
    finally:
        util.load_python_file = before
