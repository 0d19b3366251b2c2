"""From what an older toolkit installed to what this one installs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_relations, read_trail
from audit_toolkit.catalog.trail import read_trail_objects
from audit_toolkit.config import Interval, TrailSettings
from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.install import plan_trail
from audit_toolkit.install.drift import audited_tables
from audit_toolkit.install.drift_trail import trail_findings
from audit_toolkit.migrations.changes import Change, capture_revision
from audit_toolkit.migrations.record import Record, State
from audit_toolkit.migrations.source import Revision, Script
from audit_toolkit.migrations.survey import Wish, plan_changes, survey
from audit_toolkit.migrations.wording import trail_name
from audit_toolkit.plan import Step
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What is older than this toolkit."""

    revisions: tuple[Revision, ...]
    changes: tuple[Change, ...]


def plan_renewal(connection: psycopg.Connection[Any], state: State) -> Renewal:
    """The revisions that bring a trail and its captures to what this toolkit renders; often none.

    Reads catalogues only. Raises `UsageError` where there is no trail.
    """
    schema = state.schema
    trail = read_trail(connection, schema)
    if not trail:
        raise UsageError(
            f"there is no audit trail {trail_name(schema)} to upgrade",
            hint="audit install --table NAME, or name its schema with --audit-schema",
        )
    objects, relations = read_trail_objects(connection, schema), read_relations(connection)
    present = {relation.name for relation in relations}
    wish = Wish(names=tuple(str(name) for name in audited_tables(objects) if name in present))
    changes = plan_changes(wish, survey(connection, relations, wish, schema), state, applied=True)
    needed = tuple(change for change in changes if change.needed)
    revisions: list[Revision] = []
    if any(finding.kind == "schema_outdated" for finding in trail_findings(objects)):
        settings = TrailSettings(schema=schema, interval=Interval(trail["interval"]))
        rows = fetch(connection, query("function_definitions"), {"schema": schema})
        revisions.append(renewed_trail(settings, [row["definition"].strip() for row in rows]))
    if needed:
        revisions.append(capture_revision(needed, schema))
    return Renewal(revisions=tuple(revisions), changes=needed)


def renewed_trail(settings: TrailSettings, former_functions: Sequence[str]) -> Revision:
    """The revision that makes the functions of a trail anew; its downgrade puts the former back."""
    restored = Step(why="The functions as they were before", statements=tuple(former_functions))
    return Revision(
        message="audit: upgrade the trail",
        summary=(
            f"Brings {trail_name(settings.schema)} and its functions to this version of the toolkit.",
            "The downgrade puts the former functions back; what was added stays.",
        ),
        record=Record(schema=settings.schema),
        upgrade=(Script(name="UPGRADE_TRAIL", steps=plan_trail(settings).steps),),
        downgrade=(Script(name="FORMER_TRAIL", steps=(restored,)),),
    )
