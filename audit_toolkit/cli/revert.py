"""`audit restore`, `audit revert` and `audit mark`: putting back what was changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli import times
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema, Utc
from audit_toolkit.cli.transaction_ids import HELP, METAVAR, parse_transaction, start_of
from audit_toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from audit_toolkit.trail import Conflict, Event, OnConflict, RowChange, Undo

    Connection = psycopg.Connection[Any]

MOST_SHOWN = 100
"""So many rows of a plan are printed for people; --sql and JSON have all."""

Apply = Annotated[bool, typer.Option("--apply", help="Do it, in one transaction.")]
Sql = Annotated[bool, typer.Option("--sql", help="Print the SQL that --apply runs.")]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why; the trail keeps it.", show_default=False),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="COLUMN",
        help="A column that is no conflict and is not put back, such as updated_at. Repeatable.",
        show_default=False,
    ),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="WHO",
        help="The actor that the trail keeps. [default: os:USER, as in audit psql]",
        show_default=False,
    ),
]


def restore(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The audited table.")],
    key: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY",
            help="The primary key: a value for each column, or one JSON array; after -- if it "
            "starts with a dash.",
        ),
    ],
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help=f"As it was then: {times.HELP}.", show_default=False),
    ] = None,
    event: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="As this event left it; of an event that deleted it, as it was before.",
            show_default=False,
        ),
    ] = None,
    with_children: Annotated[
        bool,
        typer.Option(
            "--with-children",
            help="Also the rows that referred to it then by foreign keys, and those that referred "
            "to them.",
        ),
    ] = False,
    ignore: Ignore = None,
    apply: Apply = False,
    sql: Sql = False,
    actor: Annotated[
        str | None,
        typer.Option(
            "--as",
            "--actor",
            metavar="WHO",
            help="The actor that the trail keeps. [default: os:USER, as in audit psql]",
            show_default=False,
        ),
    ] = None,
    reason: Reason = None,
    output: OutputFormat = Format.TEXT,
    utc: Utc = False,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Show what makes a row what it was, or do it with --apply.

    All that happened in the same transaction is put back by `audit revert --transaction`.
    """
    from audit_toolkit.attribution.current import nested
    from audit_toolkit.cli.database import open_database
    from audit_toolkit.trail import apply_restore, plan_restore

    _require_one(apply=apply, sql=sql)
    moment = times.parse_past(at, "--at", utc=utc) if at else None
    run = apply_restore if apply else plan_restore
    with nested({"actor": _actor(actor)}), open_database(dsn, config) as connection:
        undo = run(
            connection,
            table,
            tuple(key),
            at=moment,
            event=event,
            with_children=with_children,
            ignore=tuple(ignore or ()),
            reason=reason,
            schema=audit_schema,
        )
    _print(undo, output, applied=apply, sql=sql)


def revert(
    row: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TABLE KEY]", help="For --last: the row.", show_default=False),
    ] = None,
    event: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="This event. Repeatable.", show_default=False),
    ] = None,
    transaction: Annotated[
        str | None,
        typer.Option(
            metavar=METAVAR,
            help=f"All that this transaction changed; {HELP}.",
            show_default=False,
        ),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="The last change of one row: --last orders 42.")
    ] = False,
    actor: Annotated[
        str | None,
        typer.Option(
            metavar="WHO",
            help="All that this actor changed, as the application claimed; needs --since.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help=f"All that was changed from then on: {times.HELP}.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only before then.", show_default=False)
    ] = None,
    to_mark: Annotated[
        str | None,
        typer.Option(
            "--to-mark",
            metavar="NAME",
            help="All that was changed since this mark: see audit mark.",
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
            "--except", metavar="TABLE", help="But not this table. Repeatable.", show_default=False
        ),
    ] = None,
    ignore: Ignore = None,
    force: Annotated[
        bool, typer.Option("--force", help="Put back also what was changed since.")
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
    """Show what takes events back, or do it with --apply; a revert can be reverted.

    Only columns that the events changed are put back, newest event first, parents before children.
    Rows that were changed since are shown with both sides, and refused without --force or --ours.
    """
    from audit_toolkit.attribution.current import nested
    from audit_toolkit.cli.database import open_database
    from audit_toolkit.trail import ConflictError, Selection, apply_revert, plan_revert

    _require_one(apply=apply, sql=sql)
    if actor is not None and since is None and to_mark is None:
        raise UsageError("--actor needs --since", hint="say from when on: --since 2h")
    if last != bool(row):
        raise UsageError(
            "--last and the row of which it is belong together",
            hint="write: audit revert --last orders 42",
        )
    choice = _choice(force=force, ours=ours)
    number, start = parse_transaction(transaction, "--transaction", utc=utc)
    run: Callable[..., Undo] = apply_revert if apply else plan_revert
    with nested({"actor": _actor(who)}), open_database(dsn, config) as connection:
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
    _print(undo, output, applied=apply, sql=sql)
    if undo.conflicts and not ours:
        raise ConflictError(undo.conflicts)


def mark(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call this moment.")],
    actor: Annotated[
        str | None,
        typer.Option(
            "--as",
            "--actor",
            metavar="WHO",
            help="The actor that the trail keeps. [default: os:USER, as in audit psql]",
            show_default=False,
        ),
    ] = None,
    reason: Reason = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Give this moment a name in the trail, to which `audit revert --to-mark` goes back.

    Only the owner of the trail may. Changes that are under way fall before it or after it, one by one.
    """
    from audit_toolkit import exact_json
    from audit_toolkit.attribution.current import nested
    from audit_toolkit.cli.database import open_database
    from audit_toolkit.cli.output import visible
    from audit_toolkit.trail import set_mark

    claims = {"actor": _actor(actor), "reason": reason}
    with nested(claims), open_database(dsn, config) as connection:
        made = set_mark(connection, name, schema=audit_schema)
    if output is Format.JSON:
        print(exact_json.dumps({"mark": made.name, "event_id": made.event_id}, ascii_only=True))
    else:
        print(f"marked {visible(made.name)}: event {made.event_id}", file=sys.stderr)


# -- what is meant ------------------------------------------------------------------------------------


def _actor(given: str | None) -> str:
    from audit_toolkit.attribution.console import os_actor

    return given or os_actor()


def _require_one(*, apply: bool, sql: bool) -> None:
    if apply and sql:
        raise UsageError(
            "--sql prints what --apply runs: only one of them can be given",
            hint="look at it with --sql first, then run it with --apply",
        )


def _choice(*, force: bool, ours: bool) -> OnConflict:
    from audit_toolkit.trail import OnConflict

    if force and ours:
        raise UsageError("--force and --ours contradict each other", hint="choose one of them")
    return OnConflict.FORCE if force else OnConflict.OURS if ours else OnConflict.REFUSE


def _event_of_mark(connection: Connection, name: str | None, schema: str) -> int | None:
    from audit_toolkit.trail import find_mark

    return None if name is None else find_mark(connection, name, schema=schema).event_id


def _last_change(connection: Connection, row: Sequence[str], schema: str) -> int:
    from audit_toolkit.trail import Action, history

    table, *key = row
    if not key:
        raise UsageError("no row is named", hint="write: audit revert --last orders 42")
    changes = (Action.INSERT, Action.UPDATE, Action.DELETE)
    page = history(
        connection, table, tuple(key), actions=changes, newest_first=True, limit=1, schema=schema
    )
    for event in page:
        return event.event_id
    raise UsageError(f"the trail has no change of {table} {' '.join(key)}")


# -- printing -----------------------------------------------------------------------------------------


def _print(undo: Undo, output: Format, *, applied: bool, sql: bool) -> None:
    from audit_toolkit import exact_json

    if output is Format.JSON:
        print(exact_json.dumps({"applied": applied, **undo.as_dict()}, ascii_only=True))
        return
    if not undo.plan:
        _say("note: there is nothing to put back")
    elif applied:
        _say(f"put back {_rows(undo.rows)} in transaction {undo.transaction}")
        _say(f"to take that back: audit revert --transaction {undo.transaction} --apply")
    elif sql:
        print(undo.plan.as_sql(), end="")
        _say("note: nothing was changed; --apply runs this")
    else:
        _print_changes(undo.changes)
        _say(
            f"note: nothing was changed; --apply puts back {_rows(undo.rows)}, --sql prints the SQL"
        )
    for note in undo.notes:
        _say(f"note: {note}")
    if undo.conflicts:
        _say(f"note: {len(undo.conflicts)} changed since, left as they are")


def _print_changes(changes: Sequence[RowChange]) -> None:
    """Of each row, what becomes what, and who else changed it since."""
    from audit_toolkit.cli.output import visible

    for change in changes[:MOST_SHOWN]:
        what = (
            "inserted again"
            if change.before is None
            else "deleted"
            if change.after is None
            else "put back"
        )
        key = "" if change.key is None else f" {visible(change.key)}"
        print(f"{visible(str(change.table))}{key}: {what}")
        for line in _values(change):
            print(f"  {line}")
        for event in change.since:
            print(f"  {_who(event)}")
    if len(changes) > MOST_SHOWN:
        print(f"and {_rows(len(changes) - MOST_SHOWN)} more; --sql and --format json have all")


def _values(change: RowChange) -> list[str]:
    from audit_toolkit.cli.output import arrow, show_value, show_values, visible

    before, after = change.before or {}, change.after or {}
    columns = list(after or before)
    width = max(map(len, map(visible, columns)), default=0)
    both = bool(change.before is not None and change.after is not None)
    return [
        f"{visible(c):<{width}}  "
        + (
            f" {arrow()} ".join(show_values(before.get(c), after[c]))
            if both
            else show_value((after or before)[c])
        )
        for c in columns
    ]


def _who(event: Event) -> str:
    from audit_toolkit.cli.output import visible

    columns = ", ".join(visible(column) for column in event.changed)
    return f"since then: {visible(event.actor)}, event {event.event_id} ({columns})"


def _print_conflicts(conflicts: Sequence[Conflict]) -> None:
    """Both sides of each row, what would be put back, and who is in between."""
    from audit_toolkit.cli.output import show_value, visible

    for conflict in conflicts[:MOST_SHOWN]:
        _say(f"{conflict.table} {visible(str(conflict.key))}")
        sides = (conflict.left, conflict.present, conflict.wanted)
        for side, row in zip(("was left as", "is now", "would be"), sides, strict=True):
            columns = conflict.columns or tuple(row or ())
            shown = (
                "no row"
                if row is None
                else ", ".join(f"{visible(c)} {show_value(row[c])}" for c in columns if c in row)
            )
            _say(f"  {side:<11}  {shown}")
        for event in conflict.since:
            _say(f"  {_who(event)}")


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
