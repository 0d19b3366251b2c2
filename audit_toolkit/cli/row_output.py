"""What `row-at`, `table-at`, `diff` and `blame` share: options and rows."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli import times
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.notes import note_name, print_warning
from audit_toolkit.cli.output import visible
from audit_toolkit.findings import FINDINGS
from audit_toolkit.trail import find_subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from audit_toolkit.trail.event import Row
    from audit_toolkit.trail.rows.lookup import Subject


Table = Annotated[str, typer.Argument(metavar="TABLE", help="The audited table.")]


Key = Annotated[
    list[str],
    typer.Argument(
        metavar="KEY",
        help="The primary key: one value per column, or one JSON array; after -- if it starts "
        "with a dash.",
    ),
]


At = Annotated[str, typer.Option("--at", metavar="TIME", help=f"The point in time: {times.HELP}.")]


def without(row: Row, hide: Collection[str] | None) -> Row:
    """A row without hidden columns."""
    return {column: value for column, value in row.items() if column not in (hide or ())}


def find_table(connection: psycopg.Connection[Any], table: str, schema: str) -> Subject:
    """The table that is meant; where it has another name now, that is said."""
    subject = find_subject(connection, table, schema=schema)
    note_name(subject)
    return subject


class Redacted:
    """Whether rows have redacted values: they are not what they were, which stderr and the exit code say."""

    def __init__(self) -> None:
        self.found = False

    def __call__(self) -> None:
        """Note that they have."""
        self.found = True

    def end(self) -> None:
        """After the rows: say so, and end with the code for findings."""
        if self.found:
            print(
                "warning: values were redacted, so these rows are not what they were; "
                "audit show N says who did it, and why",
                file=sys.stderr,
            )
            raise typer.Exit(FINDINGS)


@contextmanager
def opened(dsn: str | None, config: Any) -> Iterator[psycopg.Connection[Any]]:
    """The database, whose warnings (gaps in capture) go to stderr."""
    with open_database(dsn, config) as connection:
        connection.add_notice_handler(print_warning)
        yield connection


def print_rows_as_json(name: str, texts: Iterable[str], *, lines: bool) -> None:
    """Print rows that are JSON already: one a line, or as the array `name`."""
    # Print nothing before the first row: the query may be refused.
    begin = f'{{"{name}": ['
    number = 0
    for number, text in enumerate(texts, 1):
        if not lines:
            sys.stdout.write(",\n" if number > 1 else f"{begin}\n")
        sys.stdout.write(visible(text) + ("\n" if lines else ""))
    if not lines:
        sys.stdout.write("\n]}\n" if number else f"{begin}]}}\n")
