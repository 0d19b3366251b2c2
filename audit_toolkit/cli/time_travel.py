"""`audit row-at`, `table-at`, `diff` and `blame`: how rows were, and since when they are what they are."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli import times
from audit_toolkit.cli.columns import require_columns
from audit_toolkit.cli.options import (
    AlembicConfig,
    Dsn,
    Format,
    GuardCells,
    Hide,
    OutputFormat,
    TrailSchema,
    Utc,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from audit_toolkit.exact_json import Json
    from audit_toolkit.trail import Difference, Event
    from audit_toolkit.trail.event import Row
    from audit_toolkit.trail.rows.lookup import Subject


class RowFormat(StrEnum):
    """How rows are printed."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


Table = Annotated[str, typer.Argument(metavar="TABLE", help="The audited table.")]
Key = Annotated[
    list[str],
    typer.Argument(
        metavar="KEY",
        help="The primary key: a value for each column, or one JSON array; behind -- if it begins "
        "with a dash.",
    ),
]
At = Annotated[str, typer.Option("--at", metavar="TIME", help=f"The moment: {times.HELP}.")]


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
    """Show a row as it was at a moment, in the columns that the table has now."""
    from audit_toolkit import exact_json, trail

    moment = times.parse_past(at, "--at", utc=utc)
    with _opened(dsn, config) as connection:
        row = trail.row_at(connection, table, tuple(key), moment, schema=audit_schema)
        columns = _found(connection, table, audit_schema).columns
    require_columns(hide, "--hide", columns, table)
    if row is not None:
        row = _without(row, hide)
        columns = tuple(column for column in columns if column in row)
    if output is Format.JSON:
        print(exact_json.dumps({"row": row}, ascii_only=True))
    elif row is None:
        print(
            f"note: there was no such row at {times.show_moment(moment, utc=utc)}",
            file=sys.stderr,
        )
    else:
        _print_row({column: row[column] for column in columns} if columns else row)


def table_at(
    table: Table,
    at: At,
    output: Annotated[RowFormat, typer.Option("--format", help="How to print.")] = RowFormat.CSV,
    hide: Hide = None,
    guard_cells: GuardCells = False,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Print all rows that a table had at a moment, in no order, in the columns that it has now."""
    from audit_toolkit import exact_json
    from audit_toolkit.spreadsheet import guard_lines
    from audit_toolkit.trail import copy_table_at, stream_table_at

    moment = times.parse_past(at, "--at", utc=utc)
    with _opened(dsn, config) as connection:
        subject = _found(connection, table, audit_schema)
        require_columns(hide, "--hide", subject.columns, subject.table)
        if output is RowFormat.CSV:
            # To a file or program the values go as they are; a terminal would obey some of them.
            shown = _visible_lines if sys.stdout.isatty() else str
            # Closed here: a COPY still running when the connection ends would be waited for.
            with closing(copy_table_at(connection, subject, moment, hide or ())) as copied:
                parts = (part.decode() for part in copied)
                for text in guard_lines(parts) if guard_cells else parts:
                    sys.stdout.write(shown(text))
            return
        with closing(stream_table_at(connection, subject, moment)) as images:
            shown_rows = (
                exact_json.dumps(_without(exact_json.loads(i), hide)) if hide else i for i in images
            )
            _print_json("rows", shown_rows, lines=output is RowFormat.JSONL)


def _without(row: Row, hide: Collection[str] | None) -> Row:
    return {column: value for column, value in row.items() if column not in (hide or ())}


def _hidden(found: Iterator[Difference], hide: Collection[str]) -> Iterator[Difference]:
    """The differences that are left without these columns."""
    for difference in found:
        before, after = (
            None if row is None else _without(row, hide)
            for row in (difference.before, difference.after)
        )
        left = replace(difference, before=before, after=after)
        if left.changed or before is None or after is None:
            yield left


def _visible_lines(text: str) -> str:
    from audit_toolkit.cli.output import visible

    return "\n".join(map(visible, text.split("\n")))


def diff(
    table: Table,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help=f"From: {times.HELP}.")],
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="Up to then.")] = "now",
    output: OutputFormat = Format.TEXT,
    hide: Hide = None,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show the rows of a table that were others at the end of a time than at its beginning.

    What changed and changed back is no difference; `audit history` shows it.
    """
    from audit_toolkit import exact_json, trail
    from audit_toolkit.cli.notes import warn_of_columns
    from audit_toolkit.cli.pager import paged

    begin = times.parse_past(since, "--from", utc=utc)
    end = times.parse_past(until, "--to", utc=utc)
    with (
        _opened(dsn, config) as connection,
        closing(trail.diff(connection, table, begin, end, schema=audit_schema)) as found,
    ):
        warn_of_columns(_found(connection, table, audit_schema), hide or ())
        differences = _hidden(found, hide) if hide else found
        if output is Format.JSON:
            _print_json("rows", (exact_json.dumps(d.as_dict()) for d in differences), lines=False)
        else:
            with paged():
                _print_differences(differences)


def blame(
    table: Table,
    key: Key,
    output: OutputFormat = Format.TEXT,
    hide: Hide = None,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show for each column of a row its present value, and who gave it that and when."""
    from audit_toolkit import exact_json
    from audit_toolkit.trail.blame import find_blame

    with _opened(dsn, config) as connection:
        _found(connection, table, audit_schema)
        found = find_blame(connection, table, tuple(key), schema=audit_schema)
    require_columns(hide, "--hide", [origin.column for origin in found.origins], table)
    origins = [origin for origin in found.origins if origin.column not in (hide or ())]
    for gap in found.gaps:
        _say_gap(gap, utc=utc)
    if found.gone is not None:
        verb = "truncated away" if found.gone.row_key is None else "deleted"
        said = f"the row was {verb} ({_said(found.gone, utc=utc)}); these are its last values"
        print(f"note: {said}", file=sys.stderr)
    if output is Format.JSON:
        gone = found.gone and found.gone.event_id
        columns: list[Json] = [o.as_dict() for o in origins]
        print(exact_json.dumps({"columns": columns, "gone_event_id": gone}, ascii_only=True))
        return
    from audit_toolkit.cli.output import show_value, visible

    width = max((len(visible(o.column)) for o in origins), default=0)
    for origin in origins:
        said = "not known" if origin.event is None else _said(origin.event, utc=utc)
        print(f"{visible(origin.column):<{width}}  {show_value(origin.value)}  ({said})")


def _say_gap(gap: Event, *, utc: bool) -> None:
    from audit_toolkit.cli.output import visible

    capture = visible(str((gap.new_row or {}).get("capture", "off")))
    when = times.show_moment(gap.action_tstamp, utc=utc)
    print(f"warning: capture was {capture} at {when} (event {gap.event_id})", file=sys.stderr)


def _said(event: Any, *, utc: bool) -> str:
    from audit_toolkit.cli.output import visible

    when = times.show_moment(event.action_tstamp, utc=utc)
    return f"{visible(event.actor)}, {when}, event {event.event_id}"


def _found(connection: psycopg.Connection[Any], table: str, schema: str) -> Subject:
    """The table that is meant; where it has another name now, that is said."""
    from audit_toolkit.cli.notes import note_name
    from audit_toolkit.trail import find_subject

    subject = find_subject(connection, table, schema=schema)
    note_name(subject)
    return subject


@contextmanager
def _opened(dsn: str | None, config: Any) -> Iterator[psycopg.Connection[Any]]:
    """The database, whose warnings (gaps in capture) go to stderr."""
    from audit_toolkit.cli.database import open_database
    from audit_toolkit.cli.notes import print_warning

    with open_database(dsn, config) as connection:
        connection.add_notice_handler(print_warning)
        yield connection


def _print_json(name: str, texts: Iterable[str], *, lines: bool) -> None:
    from audit_toolkit.cli.output import visible

    # Nothing before the first is there: the question may be refused.
    begin = f'{{"{name}": ['
    number = 0
    for number, text in enumerate(texts, 1):
        if not lines:
            sys.stdout.write(",\n" if number > 1 else f"{begin}\n")
        sys.stdout.write(visible(text) + ("\n" if lines else ""))
    if not lines:
        sys.stdout.write("\n]}\n" if number else f"{begin}]}}\n")


def _print_row(row: Row) -> None:
    from audit_toolkit.cli.output import show_value, visible

    width = max((len(visible(column)) for column in row), default=0)
    for column, value in row.items():
        print(f"{visible(column):<{width}}  {show_value(value)}")


def _print_differences(differences: Iterator[Difference]) -> None:
    from audit_toolkit.cli.output import show_value, visible

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
        print("note: no row is another than it was", file=sys.stderr)


def _print_change(column: str, before: Json, after: Json) -> None:
    from audit_toolkit.cli.output import arrow
    from audit_toolkit.cli.values import describe_change

    for change in describe_change(column, before, after):
        if change.old is not None and change.new is not None:
            print(f"  {change.label}: {change.old} {arrow()} {change.new}")
        else:
            sign, text, _ = change.one_side
            print(f"  {change.label}: {sign}{text}" if text else f"  {change.label}")
