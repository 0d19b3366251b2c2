"""The models of a project, imported: which of their tables they declare to be audited."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from audit_toolkit.config import TableRule
from audit_toolkit.declaration import INFO_KEY, read_rule
from audit_toolkit.errors import UsageError
from audit_toolkit.names import NamePattern

if TYPE_CHECKING:
    import sqlalchemy as sa


def model_rules(place: str, *, source: str) -> Iterator[tuple[NamePattern, TableRule]]:
    """The declared tables of the models in `place`, with their rules.

    `place` is `package.module:Base`: a declarative base, a registry or a `MetaData`. The module is
    imported from the working directory, as `alembic` does; `source` is the file that names it.
    Raises `UsageError` where that fails, and `RuleError` for what is declared.
    """
    for table in _metadata(place, f"{source}: models").tables.values():
        if INFO_KEY in table.info:
            rule = read_rule(table.info[INFO_KEY], where=f"info of {table.fullname}")
            yield NamePattern(table.schema, table.name), rule


def _metadata(place: str, where: str) -> sa.MetaData:
    from sqlalchemy import MetaData

    name, _, path = place.partition(":")
    found = reduce(
        lambda at, part: _attribute(at, part, place, where), path.split("."), _module(name, where)
    )
    metadata = getattr(found, "metadata", found)
    if not isinstance(metadata, MetaData):
        raise UsageError(
            f"{where}: {place} is a {type(found).__name__}, and has no metadata",
            hint="name the base class of the models, a registry or a MetaData",
        )
    return metadata


def _module(name: str, where: str) -> object:
    hint = f"check that this works: python -c 'import {name}'"
    try:
        with _working_directory_first(), redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(
                f"{where}: there is no module {error.name!r}",
                hint=f"write it as it is imported from {Path.cwd()}; {hint}",
            ) from error
        raise UsageError(f"{where}: {name} cannot be imported: {error}", hint=hint) from error
    except (Exception, SystemExit) as error:
        # It is code of the user that runs here, so it can be anything.
        raise UsageError(
            f"{where}: {name} cannot be imported: {type(error).__name__}: {error}", hint=hint
        ) from error


def _attribute(found: object, name: str, place: str, where: str) -> object:
    try:
        return getattr(found, name)
    except AttributeError as error:
        known = [known for known in dir(found) if not known.startswith("_")]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        what = found.__name__ if isinstance(found, ModuleType) else type(found).__name__
        raise UsageError(
            f"{where}: {place}: {what} has no {name!r}",
            hint=f"did you mean {' or '.join(close)}?" if close else "write package.module:Base",
        ) from error


@contextmanager
def _working_directory_first() -> Iterator[None]:
    before = sys.path[:]
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before
