"""`audit show` and `audit transaction`: events by their own number, not by their row."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

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
from audit_toolkit.cli.transaction_ids import HELP, METAVAR, parse_transaction, start_of
from audit_toolkit.errors import UsageError

if TYPE_CHECKING:
    from audit_toolkit.trail import Event, Selection, Subject


def show(
    event: Annotated[int, typer.Argument(metavar="EVENT", help="The number of the event.")],
    output: OutputFormat = Format.TEXT,
    hide: Hide = None,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show one event: who, when, from what to what."""
    from audit_toolkit.trail import Selection

    _print(Selection(event_ids=(event,)), output, dsn, config, audit_schema, hide or (), utc=utc)


def transaction(
    transaction: Annotated[
        str,
        typer.Argument(
            metavar="TRANSACTION",
            help=f"Its number, as `audit history` shows it, or {METAVAR}: {HELP}.",
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Look only from then on: " + times.HELP + ".",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Look only before then.", show_default=False)
    ] = None,
    output: OutputFormat = Format.TEXT,
    hide: Hide = None,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show everything that one transaction changed, in all audited tables."""
    from audit_toolkit.trail import Selection

    number, start = parse_transaction(transaction, "TRANSACTION", utc=utc)
    selection = Selection(
        transaction=number,
        transaction_start=start,
        since=times.parse_moment(since, "--since", utc=utc) if since else None,
        until=times.parse_moment(until, "--until", utc=utc) if until else None,
    )
    if not _print(selection, output, dsn, config, audit_schema, hide or (), utc=utc):
        raise UsageError(
            f"the trail has no events of transaction {transaction}",
            hint="audit history TABLE shows the transactions of its events",
        )


def _print(
    selection: Selection,
    output: Format,
    dsn: Dsn,
    config: AlembicConfig,
    schema: str,
    hide: Collection[str],
    *,
    utc: bool,
) -> int:
    from audit_toolkit.cli.database import open_database
    from audit_toolkit.cli.output import print_events_as_json
    from audit_toolkit.cli.pager import paged
    from audit_toolkit.trail import select_events, subjects_of

    with open_database(dsn, config) as connection:
        start = start_of(connection, selection.transaction, selection.transaction_start, schema)
        selection = replace(selection, transaction_start=start)
        found = select_events(connection, selection, schema=schema)
        if hide and found:
            tables = subjects_of(connection, found, schema=schema)
            known = {c for e in found for row in (e.old_row, e.new_row) for c in row or ()}
            known |= {column for subject in tables.values() for column in subject.columns}
            require_columns(hide, "--hide", known, ", ".join(sorted(map(str, tables))))
        events = [event.without(hide) for event in found]
        if output is Format.JSON:
            return print_events_as_json(events)
        subjects = list(subjects_of(connection, events, schema=schema).values())
    with paged():
        _print_by_table(events, subjects, utc=utc)
    return len(events)


def _print_by_table(events: list[Event], subjects: list[Subject], *, utc: bool) -> None:
    from audit_toolkit.cli.output import print_timeline
    from audit_toolkit.trail import table_of

    by_table = {subject.table: subject for subject in subjects}
    for number, (table, group) in enumerate(groupby(events, key=table_of)):
        if number:
            print()
        print_timeline(by_table[table], group, utc=utc)
