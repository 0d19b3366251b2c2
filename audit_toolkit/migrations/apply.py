"""Applying revisions: Alembic runs them through the project's env.py; its failures become ours."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout

from alembic import command
from alembic.util import CommandError
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, OperationalError

from audit_toolkit.connection import describe_failure, first_line, import_psycopg
from audit_toolkit.errors import (
    AuditError,
    BusyError,
    ConnectError,
    PermissionDeniedError,
    ProjectError,
)
from audit_toolkit.migrations.project import FLASK_UPGRADE, Project, command_options


def apply_revisions(project: Project, revision: str, *, dsn: str | None) -> None:
    """Bring the database up to `revision`, as `alembic upgrade` does.

    `dsn` is handed to env.py as `sqlalchemy.url` of the configuration; None leaves what is there.
    Raises `BusyError`, `ConnectError`, `PermissionDeniedError`, `ProjectError` or `AuditError`, and
    says what to do next; what ran in a transaction that failed is rolled back.
    """
    project.config.cmd_opts = command_options("upgrade", revision)
    if dsn is not None:
        project.config.set_main_option("sqlalchemy.url", _sqlalchemy_url(dsn).replace("%", "%%"))
    try:
        with redirect_stdout(sys.stderr):
            command.upgrade(project.config, revision)
    except AuditError:
        raise
    except Exception as error:
        again = f"{project.upgrade_command} {revision}"
        if project.upgrade_command.startswith(FLASK_UPGRADE) and "context" in str(error):
            raise ProjectError(
                "env.py of the project only runs within its Flask application", hint=f"run: {again}"
            ) from error
        raise _translated(error, again) from error


def _sqlalchemy_url(dsn: str) -> str:
    """A libpq connection string as SQLAlchemy takes it, for psycopg, which is always installed."""
    parameters = import_psycopg().conninfo.conninfo_to_dict(dsn)
    return URL.create("postgresql+psycopg", query=parameters).render_as_string(hide_password=False)


def _translated(error: Exception, again: str) -> AuditError:
    """The error that says what went wrong: in the database, on the way there, or in env.py."""
    hint = f"when that is fixed, run: {again}"
    for cause in _causes(error):
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        if isinstance(state, str):
            return _by_state(state, cause, again, hint)
        if isinstance(cause, OperationalError | ConnectionError | TimeoutError | socket.gaierror):
            orig = getattr(cause, "orig", cause)
            return ConnectError(f"alembic cannot connect: {describe_failure(orig)}", hint=hint)
        if isinstance(cause, NoSuchModuleError):
            return ProjectError(
                "env.py of the project has no database address",
                hint=f"set sqlalchemy.url in alembic.ini, or the variable that env.py reads; {hint}",
            )
    if isinstance(error, CommandError):
        return ProjectError(f"alembic: {error}", hint=hint)
    return AuditError(
        f"alembic upgrade failed: {type(error).__name__}: {first_line(error)}", hint=hint
    )


def _by_state(state: str, error: Exception, again: str, hint: str) -> AuditError:
    message = first_line(error)
    if state in ("55P03", "40P01"):
        return BusyError(
            f"could not obtain a lock within lock_timeout: {message}",
            hint="a long transaction holds the table (see pg_stat_activity); try again later: "
            f"{again}",
        )
    if state in ("42501", "25006"):
        return PermissionDeniedError(f"the server refused: {message}", hint=hint)
    if state.startswith(("08", "28", "3D", "57P")):
        return ConnectError(f"alembic cannot connect: {message}", hint=hint)
    said = getattr(getattr(error, "diag", None), "message_hint", None)
    reason = getattr(getattr(error, "diag", None), "message_detail", None) if not said else None
    advice = "; ".join(part.rstrip(".") for part in (said or reason, hint) if part)
    return AuditError(f"alembic upgrade failed: {message}", hint=advice)


def _causes(error: BaseException | None) -> Iterator[Exception]:
    """What was raised, outermost first; before it, the driver's error that SQLAlchemy wrapped."""
    while isinstance(error, Exception):
        if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
            yield error.orig
        yield error
        error = error.__cause__ or error.__context__
