"""What people see of the context: as the server sees it, and in a psql whose changes carry it."""

from __future__ import annotations

import getpass
import json
import os
import pwd
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.attribution.attach import apply_context
from audit_toolkit.attribution.current import current_document
from audit_toolkit.attribution.values import Json, as_document
from audit_toolkit.connection import fetch
from audit_toolkit.errors import ContextError
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the server sees: the columns of an event that say who."""

    context: str | None
    """What was claimed, as text; it may be anything, if others set it."""
    session_user_name: str
    role_name: str | None
    application_name: str | None
    client_addr: str | None


def read_seen(connection: psycopg.Connection[Any]) -> Seen:
    """Send the current context, if there is any, and read what the server sees; nothing is changed.

    Two round trips, and those of a transaction.
    """
    with connection.transaction():
        if current_document():
            apply_context(connection)
        return Seen(**fetch(connection, query("context_seen"))[0])


def console_claims(reason: str) -> dict[str, Json]:
    """Who is at this console, and why; raises `ContextError` without a reason."""
    if not reason.strip():
        raise ContextError(
            "a console needs a reason, which its changes carry",
            hint='add a reason: audit psql --reason "ticket 123"',
        )
    claims: dict[str, Json] = {
        "actor": os_actor(),
        "reason": reason.strip(),
        "source": "psql",
        "host": socket.gethostname(),
        "console": uuid.uuid4().hex[:12],
    }
    if behind := os.environ.get("SUDO_USER"):
        claims["sudo_user"] = behind
    return claims


def console_environment(
    claims: Mapping[str, Json], environment: Mapping[str, str]
) -> dict[str, str]:
    r"""The environment in which libpq opens every connection with these claims.

    They are a setting of the session, given as it starts: `\c` in psql takes them along, and
    PgBouncer, which would hand the session to others, refuses it.
    """
    # As ASCII, since the server takes options before it knows the client's encoding.
    text = json.dumps(json.loads(as_document(claims)), separators=(",", ":"))
    escaped = text.replace("\\", "\\\\").replace(" ", "\\ ")
    options = f"{environment.get('PGOPTIONS', '')} -c audit.context={escaped}"
    return {**environment, "PGOPTIONS": options.strip()}


def os_actor() -> str:
    """Who runs this: the account of the operating system."""
    return f"os:{operating_system_user()}"


def operating_system_user() -> str:
    """The account that runs this, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        return getpass.getuser() if "USER" in os.environ else str(os.getuid())
