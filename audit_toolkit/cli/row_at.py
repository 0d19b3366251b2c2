"""`audit row-at`: show a row as it was at a point in time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from audit_toolkit import exact_json, trail
from audit_toolkit.cli import times
from audit_toolkit.cli.columns import require_columns
from audit_toolkit.cli.options import (
    AlembicConfig,
    Dsn,
    Format,
    Hide,
    OutputFormat,
    TrailSchema,
    Utc,
)
from audit_toolkit.cli.output import show_value, visible
from audit_toolkit.cli.row_output import (
    At,
    Key,
    Redacted,
    Table,
    find_table,
    opened,
    without,
)

if TYPE_CHECKING:
    from audit_toolkit.trail.event import Row


def row_at(
    table: Table,
    key: Key,
    at: At,
    output: OutputFormat = Format.TEXT,
    hide: Hide = None,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show a row as it was at a point in time.

    In the columns that the table has now. Redacted values are shown as such, with exit code 3.
    """
    redacted = Redacted()
    moment = times.parse_past(at, "--at", utc=utc)
    with opened(dsn, config) as connection:
        row = trail.row_at(
            connection, table, tuple(key), moment, schema=audit_schema, on_redacted=redacted
        )
        columns = find_table(connection, table, audit_schema).columns
    require_columns(hide, "--hide", columns, table)
    if row is not None:
        row = without(row, hide)
        columns = tuple(column for column in columns if column in row)
    if output is Format.JSON:
        print(exact_json.dumps({"row": row}, ascii_only=True))
    elif row is None:
        print(
            f"note: the row did not exist at {times.show_moment(moment, utc=utc)}",
            file=sys.stderr,
        )
    else:
        _print_row({column: row[column] for column in columns} if columns else row)
    redacted.end()


def _print_row(row: Row) -> None:
    width = max((len(visible(column)) for column in row), default=0)
    for column, value in row.items():
        print(f"{visible(column):<{width}}  {show_value(value)}")
