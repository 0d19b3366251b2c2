"""`audit psql`: open psql; changes carry your login and the reason."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Annotated

import typer

from audit_toolkit.attribution.console import console_claims, console_environment
from audit_toolkit.cli.database import find_address
from audit_toolkit.cli.options import AlembicConfig, Dsn
from audit_toolkit.cli.output import visible
from audit_toolkit.errors import AuditError


def psql(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- ARGUMENTS]",
            help="Arguments for psql, such as -- -f fix.sql.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Reason to record, as in 'ticket 123'. Required.",
            show_default=False,
        ),
    ] = "",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Open psql; changes carry your login and the reason.

    They also carry an id of the session. Connects to the server itself: PgBouncer does not allow what
    this needs. Exits as psql does.
    """
    claims = console_claims(reason)
    environment = console_environment(claims, os.environ)
    program = shutil.which("psql")
    if program is None:
        raise AuditError(
            "psql is not installed", hint="install it (Debian: apt-get install postgresql-client)"
        )
    address, password = _without_password(find_address(dsn, config))
    if password:
        environment["PGPASSWORD"] = password
    for key in ("actor", "reason", "console"):
        print(f"{key}: {visible(str(claims[key]))}", file=sys.stderr)
    command = [program, *(["-d", address] if address else []), *(arguments or ())]
    sys.stderr.flush()
    os.execve(program, command, environment)  # noqa: S606 - psql takes over this process


def _without_password(address: str) -> tuple[str, str | None]:
    # A command line can be read by everybody on the machine, an environment cannot.
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parameters = conninfo_to_dict(address)
    password = parameters.pop("password", None)
    parameters.setdefault("application_name", "audit-toolkit/psql")
    return make_conninfo("", **parameters), None if password is None else str(password)
