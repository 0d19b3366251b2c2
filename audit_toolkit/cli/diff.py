"""`audit diff`: show which rows changed between two points in time."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit import exact_json, trail
from audit_toolkit.cli import times
from audit_toolkit.cli.notes import warn_of_columns
from audit_toolkit.cli.options import (
    AlembicConfig,
    Dsn,
    Format,
    Hide,
    OutputFormat,
    TrailSchema,
    Utc,
)
from audit_toolkit.cli.output import arrow, show_value, visible
from audit_toolkit.cli.pager import paged
from audit_toolkit.cli.row_output import (
    Table,
    find_table,
    opened,
    print_rows_as_json,
    without,
)
from audit_toolkit.cli.values import describe_change

if TYPE_CHECKING:
    from audit_toolkit.exact_json import Json
    from audit_toolkit.trail import Difference


def _hidden(found: Iterator[Difference], hide: Collection[str]) -> Iterator[Difference]:
    """The differences that are left without these columns."""
    for difference in found:
        before, after = (
            None if row is None else without(row, hide)
            for row in (difference.before, difference.after)
        )
        left = replace(difference, before=before, after=after)
        if left.changed or before is None or after is None:
            yield left


def diff(
    table: Table,
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help=f"Start of the period: {times.HELP}.")
    ],
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="End of the period.")] = "now",
    output: OutputFormat = Format.TEXT,
    hide: Hide = None,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show which rows changed between two points in time.

    A change that was undone within the period is not a difference; `audit history` shows it.
    """
    begin = times.parse_past(since, "--from", utc=utc)
    end = times.parse_past(until, "--to", utc=utc)
    with (
        opened(dsn, config) as connection,
        closing(trail.diff(connection, table, begin, end, schema=audit_schema)) as found,
    ):
        warn_of_columns(find_table(connection, table, audit_schema), hide or ())
        differences = _hidden(found, hide) if hide else found
        if output is Format.JSON:
            print_rows_as_json(
                "rows", (exact_json.dumps(d.as_dict()) for d in differences), lines=False
            )
        else:
            with paged():
                _print_differences(differences)


def _print_differences(differences: Iterator[Difference]) -> None:
    found = False
    for difference in differences:
        found = True
        kind = str(difference.as_dict()["kind"])
        print(f"{visible(difference.key)} {kind}")
        for column, (before, after) in difference.changed.items():
            if kind == "changed":
                _print_change(visible(column), before, after)
            else:
                value = after if kind == "inserted" else before
                print(f"  {visible(column)}: {show_value(value)}")
    if not found:
        print("note: no row changed", file=sys.stderr)


def _print_change(column: str, before: Json, after: Json) -> None:
    for change in describe_change(column, before, after):
        if change.old is not None and change.new is not None:
            print(f"  {change.label}: {change.old} {arrow()} {change.new}")
        else:
            sign, text, _ = change.one_side
            print(f"  {change.label}: {sign}{text}" if text else f"  {change.label}")
