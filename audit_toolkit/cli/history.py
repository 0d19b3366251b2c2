"""`audit history`: what the trail knows of all tables, of some, of one, or of one of its rows."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli import times
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.event_formats import EventFormat, Shown, print_as
from audit_toolkit.cli.next_page import next_page
from audit_toolkit.cli.notes import (
    note,
    note_name,
    nothing_found,
    print_warning,
    warn_of_columns,
)
from audit_toolkit.cli.options import AlembicConfig, Dsn, GuardCells, Hide, TrailSchema, Utc
from audit_toolkit.cli.pager import paged
from audit_toolkit.cli.transaction_ids import HELP, METAVAR, parse_transaction, start_of
from audit_toolkit.errors import UsageError
from audit_toolkit.trail import Action, Filter
from audit_toolkit.trail.history.pages import require_event_of
from audit_toolkit.trail.history.read import find_scope, stream_page, with_range
from audit_toolkit.trail.history.transactions import require_one_transaction
from audit_toolkit.trail.rows.lookup import Subject, warn_of_absence

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.trail.rows.lookup import Scope

    Connection = psycopg.Connection[Any]

TABLE_LIMIT = 100
"""How many events of a whole table are printed as text when nobody says how many."""


def history(
    ctx: typer.Context,
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE",
            help="The table; dropped tables work too. Default: all tables.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY",
            help="The primary key of one row: one value per column, or one JSON array; after -- "
            "if it starts with a dash. Default: the whole table.",
            show_default=False,
        ),
    ] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            "-t",
            metavar="TABLE",
            help="Show events of this table. Repeatable.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help=f"Only events from this time on: {times.HELP}.", show_default=False
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only events before this time.", show_default=False),
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACTION",
            help="Only events of this kind: insert, update, delete, truncate, snapshot, gap or "
            "event (of the application), or its first letter. Repeatable.",
            show_default=False,
        ),
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option(
            metavar="WHO",
            help="Only events by this actor: as claimed by the application, otherwise the login "
            "role.",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only events with this value in their context. Repeatable: all must match.",
            show_default=False,
        ),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="Only events by this role, as login role or through SET ROLE.",
            show_default=False,
        ),
    ] = None,
    transaction: Annotated[
        str | None,
        typer.Option(
            metavar=METAVAR, help=f"Only events of this transaction; {HELP}.", show_default=False
        ),
    ] = None,
    changed: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Only events that changed this column.", show_default=False
        ),
    ] = None,
    from_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Only rows with this key or a higher one, compared by type. For several columns: "
            "one JSON array, or once per column.",
            show_default=False,
        ),
    ] = None,
    to_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="Only rows with this key or a lower one.", show_default=False
        ),
    ] = None,
    newest_first: Annotated[
        bool, typer.Option("--newest-first", help="Show the newest event first.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Show the newest N events, or the oldest N with --after alone; 0 for all. "
            f"Default: all for one row and for other formats than text, else {TABLE_LIMIT}.",
            show_default=False,
        ),
    ] = None,
    before: Annotated[
        int | None,
        typer.Option(
            metavar="EVENT",
            min=0,
            help="Only events before this one: the previous page.",
            show_default=False,
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            metavar="EVENT",
            min=0,
            help="Only events after this one: the next page.",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Keep printing new events as their order becomes final, until Ctrl-C. --limit "
            "and --after say where to start.",
        ),
    ] = False,
    cursor: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Save the position of --follow in this file and resume from it: each event is "
            "printed at least once.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[EventFormat, typer.Option("--format", help="Output format.")] = (
        EventFormat.TEXT
    ),
    hide: Hide = None,
    guard_cells: GuardCells = False,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show who changed what and when, oldest event first.

    Of one row, one table, several tables, or all. The history of a row follows changes of its key.
    Times are local; in JSON and CSV they are UTC.
    """
    if guard_cells and output is not EventFormat.CSV:
        raise UsageError("--guard-cells needs --format csv", hint="add --format csv")
    shown = Shown(hidden=frozenset(hide or ()), utc=utc, guarded=guard_cells)
    if follow:
        _require_followable(until, before, newest_first=newest_first, output=output)
    elif cursor is not None:
        raise UsageError("--cursor needs --follow", hint="add --follow")
    if table is not None and tables:
        raise UsageError(
            f"{table} cannot be combined with --table", hint="name all tables with --table"
        )
    number, start = parse_transaction(transaction, "--transaction", utc=utc)
    names = tables or ([] if table is None else [table])
    cut = limit is None and not key and output is EventFormat.TEXT and cursor is None
    wanted = Filter(
        since=times.parse_moment(since, "--since", utc=utc) if since is not None else None,
        until=times.parse_moment(until, "--until", utc=utc) if until is not None else None,
        actions=frozenset(parse_action(text) for text in action or ()),
        limit=TABLE_LIMIT if cut else limit or None,
        actor=actor,
        context=tuple(parse_claim(text) for text in context or ()),
        role=role,
        transaction=number,
        transaction_start=start,
        changed=changed,
        newest_first=newest_first,
        before=before,
        after=after,
    )
    with open_database(dsn, config) as connection:
        subject = find_scope(connection, names, tuple(key) if key else None, schema=audit_schema)
        wanted = with_range(connection, subject, wanted, _whole(from_key), _whole(to_key))
        for event_id in (before, after):
            require_event_of(connection, subject, event_id)
        wanted = _of_one_transaction(connection, wanted, audit_schema)
        note_name(subject)
        if isinstance(subject, Subject):
            connection.add_notice_handler(print_warning)
            warn_of_absence(connection, subject)
        warn_of_columns(subject, (changed, *(hide or ())))
        if follow:
            from audit_toolkit.cli.follow import Tail

            Tail(connection, subject, wanted, cursor).print(output, shown)
            return
        _print_history(ctx, connection, subject, wanted, shown, cut=cut)


def _of_one_transaction(connection: Connection, wanted: Filter, schema: str) -> Filter:
    """The filter with the exact beginning of its transaction, which no other may share the number of."""
    number, start = wanted.transaction, wanted.transaction_start
    if number is not None and start is None:
        require_one_transaction(connection, number, schema, since=wanted.since, until=wanted.until)
    return replace(wanted, transaction_start=start_of(connection, number, start, schema))


def _require_followable(
    until: str | None, before: int | None, *, newest_first: bool, output: EventFormat
) -> None:
    contradictions = {
        "--until": until is not None,
        "--before": before is not None,
        "--newest-first": newest_first,
    }
    for option, given in contradictions.items():
        if given:
            raise UsageError(
                f"{option} cannot be combined with --follow, which has no end",
                hint="leave out one of them; --limit and --after say where to start",
            )
    if output is EventFormat.JSON:
        raise UsageError(
            "--format json cannot be combined with --follow: its list would never end",
            hint="use --format jsonl: one event per line",
        )


def _whole(key: list[str] | None) -> tuple[str, ...] | None:
    return tuple(key) if key else None


def _print_history(
    ctx: typer.Context,
    connection: Connection,
    subject: Scope,
    wanted: Filter,
    shown: Shown,
    *,
    cut: bool,
) -> None:
    output = ctx.params["output"]

    page, stream = stream_page(connection, subject, wanted)

    number = None  # of the events, if the pager took them all
    with closing(stream) as events, paged(wanted=output is EventFormat.TEXT):
        number = print_as(output, subject, events, shown)
    if number == 0:
        note(nothing_found(connection, subject))
        return
    if cut and page.border is not None:
        which = "oldest" if wanted.oldest_of else "newest"
        note(f"showing the {which} {TABLE_LIMIT} events of {subject.table}; --limit 0 shows all")
    if output is EventFormat.TEXT and page.border is not None:
        age, option = ("newer", "--after") if wanted.oldest_of else ("older", "--before")
        note(f"{age} events: {next_page(ctx, option, page.border, wanted.limit)}")


def parse_action(text: str) -> Action:
    """The kind of event that somebody named. Raises `UsageError` for none."""
    for action in Action:
        if text.upper() in (action.name, action.value):
            return action
    raise UsageError(
        f"--action: {text!a} is not a valid kind of event",
        hint="choose one of " + ", ".join(action.name.lower() for action in Action),
    )


def parse_claim(text: str) -> tuple[str, str]:
    """What a context is to say, as somebody typed it. Raises `UsageError` without a sign of equality."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(
            f"--context: {text!a} is not KEY=VALUE", hint="use KEY=VALUE: --context tenant=42"
        )
    return key, value
