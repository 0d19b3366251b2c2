"""`audit table-at`: print all rows that a table had at a point in time."""

from __future__ import annotations

import sys
from contextlib import closing
from enum import StrEnum
from typing import Annotated

import typer

from audit_toolkit import exact_json
from audit_toolkit.cli import times
from audit_toolkit.cli.columns import require_columns
from audit_toolkit.cli.options import (
    AlembicConfig,
    Dsn,
    GuardCells,
    Hide,
    TrailSchema,
    Utc,
)
from audit_toolkit.cli.output import visible
from audit_toolkit.cli.row_output import (
    At,
    Redacted,
    Table,
    find_table,
    opened,
    print_rows_as_json,
    without,
)
from audit_toolkit.spreadsheet import guard_lines
from audit_toolkit.trail import copy_table_at, stream_table_at


class RowFormat(StrEnum):
    """How rows are printed."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


def table_at(
    table: Table,
    at: At,
    output: Annotated[RowFormat, typer.Option("--format", help="Output format.")] = RowFormat.CSV,
    hide: Hide = None,
    guard_cells: GuardCells = False,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Print all rows that a table had at a point in time.

    In no particular order, in the columns that the table has now. Redacted values are shown as such, with exit code 3.
    """
    redacted = Redacted()
    moment = times.parse_past(at, "--at", utc=utc)
    with opened(dsn, config) as connection:
        subject = find_table(connection, table, audit_schema)
        require_columns(hide, "--hide", subject.columns, subject.table)
        if output is RowFormat.CSV:
            # Files and programs get the values unchanged; a terminal would interpret some of them.
            shown = _visible_lines if sys.stdout.isatty() else str
            # Closed here: a COPY still running when the connection ends would be waited for.
            with closing(
                copy_table_at(connection, subject, moment, hide or (), redacted)
            ) as copied:
                parts = (part.decode() for part in copied)
                for text in guard_lines(parts) if guard_cells else parts:
                    sys.stdout.write(shown(text))
            redacted.end()
            return
        with closing(stream_table_at(connection, subject, moment, redacted)) as images:
            shown_rows = (
                exact_json.dumps(without(exact_json.loads(i), hide)) if hide else i for i in images
            )
            print_rows_as_json("rows", shown_rows, lines=output is RowFormat.JSONL)
    redacted.end()


def _visible_lines(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))
