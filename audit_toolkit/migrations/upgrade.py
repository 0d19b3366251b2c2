"""From what an older toolkit installed to what this one installs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_toolkit.capture.drift import audited_tables
from audit_toolkit.catalog import Relation, parse_comment
from audit_toolkit.catalog.trail import TrailObjects, read_trail_objects
from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.migrations.changes import Change, capture_revision, together
from audit_toolkit.migrations.compare import (
    CaptureRequest,
    check_conditions,
    plan_changes,
    read_capture_state,
)
from audit_toolkit.migrations.revision.record import Record, RecordedState
from audit_toolkit.migrations.revision.rule_text import trail_name
from audit_toolkit.migrations.revision.text import Revision, Script
from audit_toolkit.names import QualifiedName
from audit_toolkit.plan import Plan, Step
from audit_toolkit.remedies import UPGRADE_PACKAGE
from audit_toolkit.schema.drift import schema_findings
from audit_toolkit.schema.install import plan_trail_upgrade, relabel_trail
from audit_toolkit.schema.trail_drift import trail_findings
from audit_toolkit.templates import query, render_statements
from audit_toolkit.version import __version__, is_newer

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradePlan:
    """What is to be brought to this version of the toolkit."""

    schema: str
    former_trail: Step | None
    """What puts the trail back that an older toolkit made; None for a trail of this version."""
    changes: tuple[Change, ...]
    """The tables whose capture this version renders otherwise, or that lost some of it."""

    def __bool__(self) -> bool:
        return self.former_trail is not None or bool(self.changes)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The steps, the trail's first."""
        trail = (plan_trail_upgrade(self.schema),) if self.former_trail else ()
        return (*trail, *(change.plan() for change in self.changes))

    def revision(self, message: str | None = None) -> Revision:
        """All of it as one revision; its downgrade puts back what was there."""
        parts = [*self._trail_revision()]
        if self.changes:
            parts.append(capture_revision(self.changes, self.schema))
        return together(parts, message or f"audit: upgrade to {__version__}")

    def _trail_revision(self) -> Iterator[Revision]:
        if self.former_trail is None:
            return
        name = trail_name(self.schema)
        yield Revision(
            message="",
            summary=(
                f"Upgrades {name} and its functions to version {__version__} of the toolkit.",
                (
                    "Events are not touched. The downgrade restores the former functions; what "
                    "was added stays."
                ),
            ),
            record=Record(schema=self.schema),
            upgrade=(Script(name="UPGRADE_TRAIL", steps=plan_trail_upgrade(self.schema).steps),),
            downgrade=(Script(name="FORMER_TRAIL", steps=(self.former_trail,)),),
        )


def plan_upgrade(
    connection: Connection, relations: list[Relation], state: RecordedState
) -> UpgradePlan:
    """What a trail and its captures lack to be what this toolkit renders; often nothing.

    Reads catalogues only. The database has to be at the head of the project that `state` is from.
    Raises `UsageError` where there is no trail.
    """
    schema = state.schema
    objects = read_trail_objects(connection, schema, whole=True)
    kinds = {f.kind for f in (*trail_findings(objects), *schema_findings(objects))}
    if kinds & {"trail_missing", "comment_changed"}:
        raise UsageError(
            f"there is no audit trail {trail_name(schema)} to upgrade",
            hint="run audit install --table NAME, or name its schema with --audit-schema",
        )
    _refuse_newer(objects)
    present = {relation.name for relation in relations}
    request = CaptureRequest(
        names=tuple(name.plain for name in audited_tables(objects) if name in present)
    )
    changes = plan_changes(
        request, read_capture_state(connection, relations, request, schema), state, applied=True
    )
    check_conditions(connection, changes)
    needed = tuple(_optional(change, state) for change in changes if change.needed)
    return UpgradePlan(
        schema=schema,
        former_trail=_former_trail(connection, objects) if "schema_outdated" in kinds else None,
        changes=needed,
    )


def _optional(change: Change, state: RecordedState) -> Change:
    """What the project does not record, as capture of a tenant that an application made, is not everywhere."""
    elsewhere = bool(state.captures) and change.table not in state.captures
    renamed = change.former and change.former.made_for in state.captures
    return replace(change, optional=True) if elsewhere and not renamed else change


def _refuse_newer(objects: TrailObjects) -> None:
    comments = [t.comment for t in objects.tables] + [f.comment for f in objects.functions]
    for version in {parse_comment(comment).get("version", "0") for comment in comments}:
        if is_newer(version):
            raise UsageError(
                f"the trail was created by audit-toolkit {version}; this is {__version__}",
                hint=f"upgrade the package: {UPGRADE_PACKAGE}",
            )


def _former_trail(connection: Connection, objects: TrailObjects) -> Step:
    schema = objects.schema
    functions = [
        statement
        for row in fetch(connection, query("function_definitions"), {"schema": schema})
        for statement in render_statements("migrations/former_function", **row)
    ]
    ours = [t for t in objects.tables if parse_comment(t.comment) and not t.is_leaf]
    comments = [
        statement
        for table in ours
        if table.name != "logged_actions"
        for statement in render_statements(
            "migrations/former_comment",
            table=QualifiedName(schema, table.name),
            comment=table.comment,
        )
    ]
    (trail,) = (table for table in ours if table.name == "logged_actions")
    return Step(
        why="The functions as they were before, and what installed them",
        statements=(
            *functions,
            *comments,
            *relabel_trail(schema, trail.comment or "").statements,
        ),
    )
