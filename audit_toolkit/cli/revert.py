"""`audit revert`: show how to undo events, or do it with --apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.attribution.current import nested
from audit_toolkit.cli import times
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema, Utc
from audit_toolkit.cli.output import show_value, visible
from audit_toolkit.cli.transaction_ids import HELP, METAVAR, parse_transaction, start_of
from audit_toolkit.cli.undo_output import (
    MOST_SHOWN,
    Apply,
    Ignore,
    Reason,
    Sql,
    actor_of,
    print_undo,
    require_one,
    say,
    who,
)
from audit_toolkit.errors import UsageError
from audit_toolkit.trail import (
    Action,
    ConflictError,
    OnConflict,
    Selection,
    apply_revert,
    find_mark,
    history,
    plan_revert,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from audit_toolkit.trail import Conflict, Undo

    Connection = psycopg.Connection[Any]


As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="WHO",
        help="Actor to record in the trail. [default: os:USER, as in audit psql]",
        show_default=False,
    ),
]


def revert(
    row: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TABLE KEY]", help="The row, for --last.", show_default=False),
    ] = None,
    event: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Undo this event. Repeatable.", show_default=False),
    ] = None,
    transaction: Annotated[
        str | None,
        typer.Option(
            metavar=METAVAR,
            help=f"Undo everything that this transaction changed; {HELP}.",
            show_default=False,
        ),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="Undo the last change of one row: --last orders 42.")
    ] = False,
    actor: Annotated[
        str | None,
        typer.Option(
            metavar="WHO",
            help="Undo everything that this actor changed, as claimed by the application; needs "
            "--since.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help=f"Undo what was changed from this time on: {times.HELP}.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Undo only what was changed before this time.", show_default=False
        ),
    ] = None,
    to_mark: Annotated[
        str | None,
        typer.Option(
            "--to-mark",
            metavar="NAME",
            help="Undo everything since this mark; see audit mark.",
            show_default=False,
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            "-t",
            metavar="TABLE",
            help="Only this table. Repeatable.",
            show_default=False,
        ),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            "--except", metavar="TABLE", help="Skip this table. Repeatable.", show_default=False
        ),
    ] = None,
    ignore: Ignore = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also put back what was changed since.")
    ] = False,
    ours: Annotated[
        bool, typer.Option("--ours", help="Leave rows that were changed since as they are.")
    ] = False,
    apply: Apply = False,
    sql: Sql = False,
    who: As = None,
    reason: Reason = None,
    output: OutputFormat = Format.TEXT,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show how to undo events, or do it with --apply.

    Only columns that the events changed are put back, newest event first, parents before children.
    Rows that changed since are shown with both versions, and refused without --force or --ours.
    A revert can itself be reverted.
    """
    require_one(apply=apply, sql=sql)
    if actor is not None and since is None and to_mark is None:
        raise UsageError("--actor needs --since", hint="add a time, such as --since 2h")
    if last != bool(row):
        raise UsageError(
            "--last and the row must be given together",
            hint="write: audit revert --last orders 42",
        )
    choice = _choice(force=force, ours=ours)
    number, start = parse_transaction(transaction, "--transaction", utc=utc)
    run: Callable[..., Undo] = apply_revert if apply else plan_revert
    with nested({"actor": actor_of(who)}), open_database(dsn, config) as connection:
        events = tuple(event or ())
        if row:
            events += (_last_change(connection, row, audit_schema),)
        selection = Selection(
            event_ids=events,
            transaction=number,
            transaction_start=start_of(connection, number, start, audit_schema),
            actor=actor,
            since=times.parse_past(since, "--since", utc=utc) if since else None,
            until=times.parse_moment(until, "--until", utc=utc) if until else None,
            after_event=_event_of_mark(connection, to_mark, audit_schema),
            tables=tuple(table or ()),
            leave_out=tuple(leave_out or ()),
        )
        try:
            undo = run(
                connection,
                selection,
                on_conflict=choice,
                ignore=tuple(ignore or ()),
                reason=reason,
                schema=audit_schema,
            )
        except ConflictError as error:
            _print_conflicts(error.conflicts)
            raise
    if undo.conflicts and not ours and output is Format.TEXT:
        _print_conflicts(undo.conflicts)
        raise ConflictError(undo.conflicts)
    print_undo(undo, output, applied=apply, sql=sql)
    if undo.conflicts and not ours:
        raise ConflictError(undo.conflicts)


def _choice(*, force: bool, ours: bool) -> OnConflict:
    if force and ours:
        raise UsageError("--force cannot be combined with --ours", hint="choose one of them")
    return OnConflict.FORCE if force else OnConflict.OURS if ours else OnConflict.REFUSE


def _event_of_mark(connection: Connection, name: str | None, schema: str) -> int | None:
    return None if name is None else find_mark(connection, name, schema=schema).event_id


def _last_change(connection: Connection, row: Sequence[str], schema: str) -> int:
    table, *key = row
    if not key:
        raise UsageError("no row given", hint="write: audit revert --last orders 42")
    changes = (Action.INSERT, Action.UPDATE, Action.DELETE)
    page = history(
        connection, table, tuple(key), actions=changes, newest_first=True, limit=1, schema=schema
    )
    for event in page:
        return event.event_id
    raise UsageError(f"the trail has no change of {table} {' '.join(key)}")


def _print_conflicts(conflicts: Sequence[Conflict]) -> None:
    """Both sides of each row, what would be put back, and who is in between."""
    for conflict in conflicts[:MOST_SHOWN]:
        say(f"{conflict.table} {visible(str(conflict.key))}")
        sides = (conflict.left, conflict.present, conflict.wanted)
        for side, row in zip(("was left as", "is now", "would be"), sides, strict=True):
            columns = conflict.columns or tuple(row or ())
            shown = (
                "no row"
                if row is None
                else ", ".join(f"{visible(c)} {show_value(row[c])}" for c in columns if c in row)
            )
            say(f"  {side:<11}  {shown}")
        for event in conflict.since:
            say(f"  {who(event)}")
