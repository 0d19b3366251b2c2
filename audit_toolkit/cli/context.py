"""`audit context` and `audit psql`: try the context, and a console whose changes carry it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat
from audit_toolkit.errors import AuditError, UsageError

if TYPE_CHECKING:
    from audit_toolkit.attribution.console import Seen


def context(
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="What to claim, as in actor=user:42.",
            show_default=False,
        ),
    ] = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Try the context: what a connection would send, and what the server sees of it.

    Changes nothing: the transaction in which it is tried only reads.
    """
    from audit_toolkit.attribution.console import read_seen
    from audit_toolkit.attribution.current import current_document, nested
    from audit_toolkit.cli.database import open_database

    with nested(dict(_parse(text) for text in values or ())):
        with open_database(dsn, config) as connection:
            seen = read_seen(connection)
        _print(current_document(), seen, output)


def psql(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- ARGUMENTS]",
            help="Passed on to psql, as in: -- -f fix.sql",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Why, as in 'ticket 123'. Needed.", show_default=False),
    ] = "",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Open psql; every change made in it carries your login, the reason and an id of the console.

    Connects to the server itself: PgBouncer refuses what this needs. Ends as psql ends.
    """
    from audit_toolkit.attribution.console import console_claims, console_environment
    from audit_toolkit.cli.database import find_address
    from audit_toolkit.cli.output import visible

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


def _parse(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{text!a} is not KEY=VALUE", hint="write: audit context actor=user:42")
    return key, value


def _without_password(address: str) -> tuple[str, str | None]:
    # A command line can be read by everybody on the machine, an environment cannot.
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parameters = conninfo_to_dict(address)
    password = parameters.pop("password", None)
    parameters.setdefault("application_name", "audit-toolkit/psql")
    return make_conninfo("", **parameters), None if password is None else str(password)


def _print(sent: str, seen: Seen, output: Format) -> None:
    from audit_toolkit.cli.output import visible

    known = {
        "context": seen.context,
        "session_user_name": seen.session_user_name,
        "role_name": seen.role_name,
        "application_name": seen.application_name,
        "client_addr": seen.client_addr,
    }
    if output is Format.JSON:
        print(json.dumps({"sends": json.loads(sent or "null"), "server_sees": known}))
        return
    print(f"sends:       {visible(sent) or 'nothing'}")
    print("server sees:")
    for name, value in known.items():
        print(f"  {name:<18} {'-' if value is None else visible(value)}")
