"""What `baseline`, `pause` and `resume` share: the table that they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.capture import Target
from audit_toolkit.catalog import find_relation, read_installed, read_table
from audit_toolkit.cli.remedies import runs_here
from audit_toolkit.config import TableRule
from audit_toolkit.errors import UsageError
from audit_toolkit.remedies import install_command

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from audit_toolkit.catalog import Installed

    Connection = psycopg.Connection[Any]


Table = Annotated[str, typer.Option("--table", "-t", metavar="TABLE", help="The audited table.")]


Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Reason to record in the trail.")
]


def installed_capture(connection: Connection, name: str, schema: str) -> Installed:
    """The capture of a table; raises `UsageError` where there is none."""
    table = find_relation(connection, name).name
    found = [i for i in read_installed(connection, schema) if i.table == table]
    if not found:
        raise UsageError(
            f"{table} is not audited", hint=f"audit it first: audit install --table {name}"
        )
    return found[0]


def install_again(installed: Installed, schema: str, config: Path | None) -> str:
    """The command that installs that capture again."""
    command = install_command(installed.table, installed.options) + " --upgrade"
    return runs_here(command, config, schema)


def audited_target(connection: Connection, name: str, schema: str) -> Target:
    """An audited table with the rule that it was installed with."""
    installed = installed_capture(connection, name, schema)
    table = read_table(connection, find_relation(connection, name))
    rule = TableRule.from_dict(installed.options)
    return Target(table=table, rule=rule, function_name=installed.function)
