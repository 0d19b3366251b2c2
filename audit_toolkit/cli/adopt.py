"""`audit adopt`: a trail that was restored or copied goes on where it is now."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, DryRun, Dsn, TrailSchema
from audit_toolkit.cli.remedies import runs_here

if TYPE_CHECKING:
    from audit_toolkit.schema.location import Ids, State


def adopt(
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; the trail keeps it.")
    ],
    renumber: Annotated[
        bool,
        typer.Option(
            "--renumber",
            help="Events that were captured here with ids of older events get new ids.",
        ),
    ] = False,
    dry_run: DryRun = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Make a trail that was restored or copied go on in this cluster and database.

    It writes an event (B) that says so, lets ids go on above the highest, and notes the tables and triggers anew. A
    person runs it, not cron: which of two copies goes on is a decision.
    """
    from audit_toolkit.catalog import read_trail
    from audit_toolkit.connection import translated_errors
    from audit_toolkit.errors import UsageError
    from audit_toolkit.plan import apply
    from audit_toolkit.schema.location import (
        has_home,
        plan_adoption,
        read_boundary,
        read_ids,
        read_state,
    )

    with open_database(dsn, config) as connection, translated_errors():
        if not read_trail(connection, audit_schema):
            raise UsageError(
                f"the database has no audit trail in the schema {audit_schema}",
                hint="create one: audit install --table NAME",
            )
        if not has_home(connection, audit_schema):
            raise UsageError(
                "an older release made the trail, which does not note where it is",
                hint=runs_here("audit upgrade --upgrade", config, audit_schema),
            )
        state = read_state(connection, audit_schema)
        ids = read_ids(connection, audit_schema, exact=True)
        plan = plan_adoption(state, ids, audit_schema, reason, renumber=renumber or dry_run)
        if plan is None:
            print("nothing to adopt: the trail is where it was, and its ids rise")
            return
        if dry_run:
            _say_what(state, ids)
            return
        apply(plan, connection)
        _say_done(read_boundary(connection, audit_schema))
    print("see what is left to do: audit check", file=sys.stderr)


def _say_what(state: State, ids: Ids) -> None:
    if state.moved or state.new_timeline:
        print(
            f"the trail would go on in the database {state.present.database_name} of this cluster"
        )
    if ids.need_renumbering:
        print(
            f"{ids.doubled} ids stand for several events, {ids.disordered} events have ids that were "
            "given again: they would get new ones with --renumber"
        )
    if ids.behind:
        print(f"ids would go on at {(ids.newest_id or 0) + 1}, not at {ids.next_id}")


def _say_done(boundary: dict[str, Any]) -> None:
    print(f"the trail goes on in the database {boundary['database']}: event {boundary['event_id']}")
    for run in boundary.get("renumbered", ()):
        print(
            f"{run['events']} events got new ids: {run['from']} to {run['to']} are now "
            f"{run['from'] + run['by']} to {run['to'] + run['by']}"
        )
    if moved := boundary.get("next_id"):
        print(f"ids go on at {moved['to']}, not at {moved['from']}")
