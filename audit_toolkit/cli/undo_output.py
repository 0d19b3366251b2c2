"""What `restore` and `revert` share: options, and how an undo is printed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit import exact_json
from audit_toolkit.attribution.console import os_actor
from audit_toolkit.cli.options import Format
from audit_toolkit.cli.output import arrow, show_value, show_values, visible
from audit_toolkit.errors import UsageError
from audit_toolkit.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_toolkit.trail import Event, RowChange, Undo


MOST_SHOWN = 100
"""So many rows of a plan are printed for people; --sql and JSON have all."""


Apply = Annotated[bool, typer.Option("--apply", help="Do it, in one transaction.")]


Sql = Annotated[bool, typer.Option("--sql", help="Print the SQL that --apply runs.")]


Reason = Annotated[
    str | None,
    typer.Option(
        "--reason", metavar="TEXT", help="Reason to record in the trail.", show_default=False
    ),
]


Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="COLUMN",
        help="A column such as updated_at that is neither compared nor restored. Repeatable.",
        show_default=False,
    ),
]


def actor_of(given: str | None) -> str:
    """Who undoes it: the one that was given, or the login of this machine."""
    return given or os_actor()


def require_one(*, apply: bool, sql: bool) -> None:
    """Raise `UsageError` where both `--apply` and `--sql` are given."""
    if apply and sql:
        raise UsageError(
            "--sql prints what --apply runs, so they cannot be combined",
            hint="review it with --sql first, then run it with --apply",
        )


def print_undo(undo: Undo, output: Format, *, applied: bool, sql: bool) -> None:
    """Print an undo: what it changes, and what conflicts."""
    if output is Format.JSON:
        print(exact_json.dumps({"applied": applied, **undo.as_dict()}, ascii_only=True))
        return
    if not undo.plan:
        say("note: nothing to put back")
    elif applied:
        say(f"put back {counted(undo.rows, 'row')} in transaction {undo.transaction}")
        if undo.recorded:
            say(f"to undo that: audit revert --transaction {undo.transaction} --apply")
    elif sql:
        print(undo.plan.as_sql(), end="")
        say("note: nothing was changed; --apply runs this")
    else:
        print_changes(undo.changes)
        say(
            f"note: nothing was changed; --apply puts back {counted(undo.rows, 'row')}, --sql prints the SQL"
        )
    for note in undo.notes:
        say(f"note: {note}")
    if undo.conflicts:
        say(f"note: {len(undo.conflicts)} changed since, left as they are")


def print_changes(changes: Sequence[RowChange]) -> None:
    """Of each row, what becomes what, and who else changed it since."""
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
        for line in values_of(change):
            print(f"  {line}")
        for event in change.since:
            print(f"  {who(event)}")
    if len(changes) > MOST_SHOWN:
        print(
            f"and {counted(len(changes) - MOST_SHOWN, 'row')} more; --sql and --format json have all"
        )


def values_of(change: RowChange) -> list[str]:
    """What a change does to each column."""
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


def who(event: Event) -> str:
    """Who made an event."""
    columns = ", ".join(visible(column) for column in event.changed)
    return f"since then: {visible(event.actor)}, event {event.event_id} ({columns})"


def say(text: str) -> None:
    """Say something beside the output."""
    print(text, file=sys.stderr)
