"""What the database answers to a change that we make: our error, with its own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from audit_toolkit.connection import first_line, import_psycopg, translated_errors
from audit_toolkit.errors import AuditError, BusyError, ConnectError


@contextmanager
def database_errors(what: str) -> Iterator[None]:
    """Turn whatever the server refuses into an `AuditError` that says what could not be done, and why."""
    errors = import_psycopg()
    try:
        with translated_errors():
            yield
    except errors.Error as error:
        message = f"could not {what}: {first_line(error)}"
        state = error.sqlstate
        if state is None:
            raise ConnectError(message, hint="nothing was changed; run it again") from error
        if state in ("40001", "40003"):
            raise BusyError(message, hint="nothing was changed; run it again") from error
        said = [error.diag.message_detail, error.diag.message_hint]
        hint = " ".join(line.strip() for line in said if line)
        raise AuditError(message, hint=hint or f"nothing was changed (SQLSTATE {state})") from error
