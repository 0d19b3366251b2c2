"""What can go wrong, as one tree; the command line turns each into two lines and an exit code.

    AuditError                      1  the command failed
    ├── UsageError                  2  asked for something that cannot be
    │   ├── UnknownTableError          no such table (with the nearest names)
    │   ├── UnsupportedTableError      a view, a system table, …: cannot be audited
    │   ├── RuleError                  options that contradict the table or each other
    │   ├── ContextError               a context that cannot be stored, or a write that cannot carry it
    │   └── ProjectError               no Alembic project, several heads, …
    ├── ConnectError                4  no connection to the server
    │   └── LostError                  there was one, and it ended
    ├── BusyError                   5  a lock could not be obtained in time, or another run is in progress
    ├── RedactedError               1  a value that is asked for was redacted
    ├── PermissionDeniedError       1  the role may not do this
    ├── ServerVersionError          1  the server is too old
    ├── ServerStartError            1  the throwaway server did not start
    ├── MissingExtraError           1  an optional dependency is not installed
    └── TemplateError               1  a template printed a value that nobody quoted

Exit code 3 (findings) is no error: a command that finds something ends with it after printing the findings.
"""

from __future__ import annotations

from typing import ClassVar


class AuditError(Exception):
    """Base of all errors of this package: a message, and a hint that names the remedy."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")


class UsageError(AuditError):
    """The request cannot be fulfilled as it was made."""

    exit_code = 2


class UnknownTableError(UsageError):
    """The database has no table of that name."""


class UnsupportedTableError(UsageError):
    """The relation exists but cannot be audited; the message says why."""


class RuleError(UsageError):
    """Options that contradict each other or the table they are for."""


class ContextError(UsageError):
    """A context that the trail cannot store, or a write that cannot carry it."""


class ProjectError(UsageError):
    """The Alembic project is missing, or leaves open where a revision should go."""


class ConnectError(AuditError):
    """The server did not answer, or refused the login."""

    exit_code = 4


class LostError(ConnectError):
    """The server, or something on the way to it, ended the connection."""


class BusyError(AuditError):
    """A lock could not be had within the lock timeout, or another run holds it."""

    exit_code = 5


class RedactedError(AuditError):
    """A row has a redacted value, and so is not what it was."""


class PermissionDeniedError(AuditError):
    """The role lacks a privilege."""


class ServerVersionError(AuditError):
    """The server is older than what the toolkit supports."""


class ServerStartError(AuditError):
    """The throwaway PostgreSQL could not be started."""


class MissingExtraError(AuditError):
    """An optional dependency is not installed; the hint names the `pip install`."""


class TemplateError(AuditError):
    """A SQL template printed a value that passed no quoting filter."""
