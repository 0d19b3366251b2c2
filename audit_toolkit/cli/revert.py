"""`audit restore` and `audit revert`: putting back what was changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli import moments
from audit_toolkit.cli.options import AlembicConfig, Dsn, Format, OutputFormat, TrailSchema
from audit_toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from audit_toolkit.trail import Conflict, OnConflict, Undo

    Connection = psycopg.Connection[Any]


Apply = Annotated[
    bool, typer.Option("--apply", help="Run the SQL in one transaction, instead of printing it.")
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why; the trail keeps it.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(restore)
    app.command()(revert)


def restore(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The audited table.")],
    key: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY",
            help="The primary key: a value for each column, or one JSON array; behind -- if it "
            "begins with a dash.",
        ),
    ],
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help=f"As it was then: {moments.HELP}.", show_default=False),
    ] = None,
    event: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="As this event left it; of an event that deleted it, as it was before.",
            show_default=False,
        ),
    ] = None,
    apply: Apply = False,
    reason: Reason = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Print the SQL that makes a row what it was, or run it with --apply.

    What else happened in the same transaction, such as its children's deletion, is put back by
    `audit revert --transaction`.
    """
    from audit_toolkit.cli.database import open_database
    from audit_toolkit.trail import apply_restore, plan_restore

    moment = moments.parse_moment(at, "--at") if at else None
    run = apply_restore if apply else plan_restore
    with open_database(dsn, config) as connection:
        undo = run(
            connection,
            table,
            tuple(key),
            at=moment,
            event=event,
            reason=reason,
            schema=audit_schema,
        )
    _print(undo, output, applied=apply)


def revert(
    event: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="This event. Repeatable.", show_default=False),
    ] = None,
    transaction: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="All that this transaction changed.", show_default=False
        ),
    ] = None,
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
            metavar="TIME", help=f"Only from then on: {moments.HELP}.", show_default=False
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only before then.", show_default=False)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Put back also what was changed since.")
    ] = False,
    ours: Annotated[
        bool, typer.Option("--ours", help="Leave rows that were changed since as they are.")
    ] = False,
    apply: Apply = False,
    reason: Reason = None,
    output: OutputFormat = Format.TEXT,
    dsn: Dsn = None,
    config: AlembicConfig = None,
    audit_schema: TrailSchema = "audit",
) -> None:
    """Print the SQL that takes events back, or run it with --apply; a revert can be reverted.

    Only columns that the events changed are put back, parents before children. Rows that were
    changed since are shown with both sides, and refused without --force or --ours.
    """
    from audit_toolkit.cli.database import open_database
    from audit_toolkit.trail import ConflictError, Selection, apply_revert, plan_revert

    if actor is not None and since is None:
        raise UsageError("--actor needs --since", hint="say from when on: --since 2h")
    choice = _choice(force=force, ours=ours)
    selection = Selection(
        event_ids=tuple(event or ()),
        transaction=transaction,
        actor=actor,
        since=moments.parse_moment(since, "--since") if since else None,
        until=moments.parse_moment(until, "--until") if until else None,
    )
    run: Callable[..., Undo] = apply_revert if apply else plan_revert
    with open_database(dsn, config) as connection:
        try:
            undo = run(
                connection, selection, on_conflict=choice, reason=reason, schema=audit_schema
            )
        except ConflictError as error:
            _print_conflicts(error.conflicts)
            raise
    if undo.conflicts and not ours and output is Format.TEXT:
        _print_conflicts(undo.conflicts)
        raise ConflictError(undo.conflicts)
    _print(undo, output, applied=apply)
    if undo.conflicts and not ours:
        raise ConflictError(undo.conflicts)


def _choice(*, force: bool, ours: bool) -> OnConflict:
    from audit_toolkit.trail import OnConflict

    if force and ours:
        raise UsageError("--force and --ours contradict each other", hint="choose one of them")
    return OnConflict.FORCE if force else OnConflict.OURS if ours else OnConflict.REFUSE


def _print(undo: Undo, output: Format, *, applied: bool) -> None:
    from audit_toolkit.trail import exact

    if output is Format.JSON:
        print(exact.dumps({"applied": applied, **undo.as_dict()}, ascii_only=True))
    elif not undo.plan:
        print("note: there is nothing to put back", file=sys.stderr)
    elif applied:
        print(f"put back {undo.rows} row{'' if undo.rows == 1 else 's'}", file=sys.stderr)
    else:
        print(undo.plan.as_sql(), end="")
        print("note: nothing was changed; --apply runs this", file=sys.stderr)
    if undo.conflicts and output is Format.TEXT:
        print(f"note: {len(undo.conflicts)} changed since, left as they are", file=sys.stderr)


def _print_conflicts(conflicts: Sequence[Conflict]) -> None:
    """Both sides of each row, and what would be put back."""
    from audit_toolkit.cli.output import show_value, visible

    for conflict in conflicts:
        print(f"{conflict.table} {visible(str(conflict.key))}", file=sys.stderr)
        sides = (conflict.left, conflict.present, conflict.wanted)
        for side, row in zip(("was left as", "is now", "would be"), sides, strict=True):
            shown = (
                "no row"
                if row is None
                else ", ".join(f"{visible(c)} {show_value(v)}" for c, v in row.items())
            )
            print(f"  {side:<11}  {shown}", file=sys.stderr)
