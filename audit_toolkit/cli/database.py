"""The database that a command is about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit.errors import ProjectError

if TYPE_CHECKING:
    import psycopg

_INI_FILES = (Path("alembic.ini"), Path("migrations/alembic.ini"))
_SETTINGS = (*_INI_FILES, Path("pyproject.toml"), Path("audit.toml"))


@contextmanager
def open_database(dsn: str | None, config: Path | None) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the database of `--dsn`, the environment, or the project of `--config`.

    Raises `ProjectError` for a project that is there and cannot be read: any other database than
    its own would be the wrong one.
    """
    from logging import NullHandler, getLogger

    from audit_toolkit.connection import connect

    # Where a connection is lost, psycopg logs that the rollback failed, too, which without a handler goes to stderr.
    if not (log := getLogger("psycopg")).handlers:
        log.addHandler(NullHandler())
    with connect(find_address(dsn, config)) as connection:
        yield connection


def find_address(dsn: str | None, config: Path | None) -> str:
    """The address of that database; empty for what libpq's environment says."""
    from audit_toolkit.connection import choose_dsn

    return choose_dsn(dsn) or choose_dsn(None, project_url=_project_url(config))


def _project_url(config: Path | None) -> str | None:
    if not (config or "ALEMBIC_CONFIG" in os.environ or any(file.is_file() for file in _SETTINGS)):
        return None  # without Alembic, whose import takes longer than most commands
    from audit_toolkit.migrations.project import find_address as address_of_project

    try:
        return address_of_project(config)
    except ProjectError:
        if config or "ALEMBIC_CONFIG" in os.environ or any(ini.is_file() for ini in _INI_FILES):
            raise
        return None  # no project: libpq's environment decides
