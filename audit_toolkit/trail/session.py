"""From a SQLAlchemy session to what the verbs of this package take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import import_psycopg
from audit_toolkit.errors import UsageError

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session


def psycopg_connection(session: Session | Connection) -> psycopg.Connection[Any]:
    """The psycopg connection of a session's (or connection's) transaction, for the verbs here.

    What they change is part of that transaction: commit the session, and expire what it holds.
    Raises `UsageError` for another driver than psycopg 3.
    """
    from sqlalchemy.orm import Session

    connection = session.connection() if isinstance(session, Session) else session
    driver: Any = connection.connection.driver_connection
    if not isinstance(driver, import_psycopg().Connection):
        raise UsageError(
            f"the trail is read with psycopg 3, not with {connection.dialect.driver}",
            hint="use create_engine('postgresql+psycopg://…')",
        )
    found: psycopg.Connection[Any] = driver
    return found
