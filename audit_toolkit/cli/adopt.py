"""`audit adopt`: a trail that was restored or copied goes on where it is now."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.catalog import read_trail
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, DryRun, Dsn, TrailSchema
from audit_toolkit.cli.remedies import runs_here
from audit_toolkit.connection import translated_errors
from audit_toolkit.errors import UsageError
from audit_toolkit.plan import apply
from audit_toolkit.schema.location import (
    has_home,
    plan_adoption,
    read_boundary,
    read_ids,
    read_location,
)

if TYPE_CHECKING:
    from audit_toolkit.schema.location import Ids, TrailLocation


def adopt(
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Reason to record in the trail.")
    ],
    renumber: Annotated[
        bool,
        typer.Option(
            "--renumber",
            help="Give new ids to events captured here that reuse ids of older events.",
        ),
    ] = False,
    copy: Annotated[
        bool,
        typer.Option(
            "--copy",
            help="Record that this is a copy, such as for staging, even if nothing else shows it.",
        ),
    ] = False,
    dry_run: DryRun = False,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Continue a restored or copied trail in this database.

    Records an event (B), moves the id sequence above the highest id, and registers tables and
    triggers again. Run it by hand, not from cron: which of two copies continues is a decision.
    """
    with open_database(dsn, config) as connection, translated_errors():
        if not read_trail(connection, audit_schema):
            raise UsageError(
                f"the database has no audit trail in the schema {audit_schema}",
                hint="create one: audit install --table NAME",
            )
        if not has_home(connection, audit_schema):
            raise UsageError(
                "the trail was created by an older release, which did not record its location",
                hint=runs_here("audit upgrade --upgrade", config, audit_schema),
            )
        state = read_location(connection, audit_schema)
        ids = read_ids(connection, audit_schema, exact=True)
        plan = plan_adoption(
            state, ids, audit_schema, reason, renumber=renumber or dry_run, copy=copy
        )
        if plan is None:
            print(
                "nothing to adopt: the trail has not moved, and its ids rise (a copy of all files of a server "
                "looks the same: --copy records one)"
            )
            return
        if dry_run:
            _say_what(state, ids, copy=copy)
            return
        apply(plan, connection)
        _say_done(read_boundary(connection, audit_schema))
    print("to see what is left to do, run: audit check", file=sys.stderr)


def _say_what(state: TrailLocation, ids: Ids, *, copy: bool) -> None:
    if copy or state.moved or state.new_timeline:
        print(
            f"the trail would continue in the database {state.present.database_name} of this "
            "cluster"
        )
    if ids.need_renumbering:
        print(
            f"{ids.doubled} ids are used by several events, {ids.disordered} events have ids "
            "that were assigned again: --renumber would give them new ones"
        )
    if ids.behind:
        print(f"ids would continue at {(ids.newest_id or 0) + 1}, not at {ids.next_id}")


def _say_done(boundary: dict[str, Any]) -> None:
    print(
        f"the trail continues in the database {boundary['database']}: event {boundary['event_id']}"
    )
    for run in boundary.get("renumbered", ()):
        print(
            f"{run['events']} events got new ids: {run['from']} to {run['to']} are now "
            f"{run['from'] + run['by']} to {run['to'] + run['by']}"
        )
    if moved := boundary.get("next_id"):
        print(f"ids continue at {moved['to']}, not at {moved['from']}")
