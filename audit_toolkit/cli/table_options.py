"""Options of `audit install` and `audit uninstall`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from audit_toolkit.cli.revisions import (
    Run,
)
from audit_toolkit.errors import UsageError
from audit_toolkit.migrations.revision.rule_text import short
from audit_toolkit.names import QualifiedName

Names = list[str] | None


Tables = Annotated[
    Names,
    typer.Option(
        "--table", "-t", metavar="TABLE", help="The table: orders, or sales.orders. Repeatable."
    ),
]


def schema_to_sweep(
    tables: Sequence[str] | None,
    schemas: Sequence[str] | None,
    *,
    all_tables: bool,
    leave_out: Sequence[str] | None,
) -> str | None:
    """The schema of `--all-tables`; raises `UsageError` for options that contradict it."""
    if all_tables and tables:
        raise UsageError(
            "--table cannot be combined with --all-tables",
            hint="run the command once for each",
        )
    if schemas and len(schemas) > 1:
        raise UsageError(
            "--schema can be given once",
            hint="run the command for each schema, or match several: --schema 'tenant_*'",
        )
    if all_tables:
        return schemas[0] if schemas else "public"
    if schemas or leave_out:
        raise UsageError(
            "--schema and --except need --all-tables",
            hint="add --all-tables, or include the schema in the name: --table sales.orders",
        )
    return None


def history_command(run: Run, tables: Iterable[QualifiedName]) -> str:
    """The command that shows the history of what was changed."""
    names = [shlex.quote(short(table)) for table in tables]
    return " ".join(["audit history", *names[:1], *run.schema_option])
