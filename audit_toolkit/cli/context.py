"""`audit context`: show the context that a connection sends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.attribution.console import read_seen
from audit_toolkit.attribution.current import current_document, nested
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat
from audit_toolkit.cli.output import visible
from audit_toolkit.errors import UsageError

if TYPE_CHECKING:
    from audit_toolkit.attribution.console import Seen


def context(
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Context to send, as in actor=user:42.",
            show_default=False,
        ),
    ] = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Show the context that a connection sends.

    And what the server sees of it. Changes nothing: the transaction is read-only.
    """
    with nested(dict(_parse(text) for text in values or ())):
        with open_database(dsn, config) as connection:
            seen = read_seen(connection)
        _print(current_document(), seen, output)


def _parse(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(
            f"{text!a} is not KEY=VALUE", hint="use KEY=VALUE: audit context actor=user:42"
        )
    return key, value


def _print(sent: str, seen: Seen, output: Format) -> None:
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
