"""Drift of the trail itself: its tables, their grants, its functions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from audit_toolkit.catalog import parse_comment
from audit_toolkit.catalog.trail import TrailObjects
from audit_toolkit.config import TrailSettings
from audit_toolkit.install.findings import (
    UPGRADE_DATABASE,
    UPGRADE_PACKAGE,
    Finding,
    Severity,
    function_body,
    lock_down_findings,
    psql_command,
)
from audit_toolkit.install.trail import DEFINERS, plan_trail, trail_hash
from audit_toolkit.names import quote_identifier
from audit_toolkit.version import __version__, is_newer


def trail_findings(objects: TrailObjects) -> Iterator[Finding]:
    """What is wrong with the trail."""
    schema = quote_identifier(objects.schema)
    parent = next((table for table in objects.tables if table.name == "logged_actions"), None)
    if parent is None or not parse_comment(parent.comment):
        yield Finding(
            kind="trail_missing",
            severity=Severity.ERROR,
            object=f"{schema}.logged_actions",
            detail="the database has no audit trail"
            if parent is None
            else "it was not made by audit-toolkit",
            remedy="audit install --table TABLE --upgrade",
        )
        return
    yield from _table_findings(objects, parent.owner)
    recorded = parse_comment(parent.comment)
    is_present = recorded.get("hash") == trail_hash(objects.schema)
    if not is_present:
        yield _outdated(
            f"{schema}.logged_actions",
            f"version {recorded['version']} made it, and this one makes it otherwise",
            made_by=recorded["version"],
        )
    for name, body in _trail_bodies(objects.schema).items():
        yield from _trail_function_findings(objects, name, body if is_present else None)


def _table_findings(objects: TrailObjects, owner: str) -> Iterator[Finding]:
    for table in objects.tables:
        name = f"{quote_identifier(objects.schema)}.{quote_identifier(table.name)}"
        if (table.is_leaf or table.name == "logged_actions") and not table.guarded:
            yield Finding(
                kind="not_append_only",
                severity=Severity.ERROR,
                object=name,
                detail="UPDATE, DELETE and TRUNCATE of it are not refused",
                remedy=psql_command(
                    f"select {quote_identifier(objects.schema)}.guard_relation('{name}')"
                ),
            )
        if table.is_leaf and table.granted:
            yield Finding(
                kind="grant_on_leaf",
                severity=Severity.ERROR,
                object=name,
                detail=f"{', '.join(table.granted)}: granted past the parent, around row security",
                remedy=psql_command(
                    f"select {quote_identifier(objects.schema)}.revoke_all('{name}')"
                ),
            )
        if writers := [g for g in table.granted if not g.endswith((" select", " references"))]:
            yield Finding(
                kind="writable_by_others",
                severity=Severity.ERROR,
                object=name,
                detail=f"{', '.join(writers)}: others than its owner could write it",
                remedy=psql_command(
                    f"select {quote_identifier(objects.schema)}.revoke_all('{name}')"
                ),
            )
        if table.owner != owner and (table.is_leaf or table.name == "mask_key"):
            yield Finding(
                kind="wrong_owner",
                severity=Severity.ERROR,
                object=name,
                detail=f"it belongs to {table.owner}, the trail to {owner}",
                remedy=psql_command(f"alter table {name} owner to {quote_identifier(owner)}"),
            )


def _trail_function_findings(
    objects: TrailObjects, name: str, body: str | None
) -> Iterator[Finding]:
    found = [function for function in objects.functions if function.name == name]
    shown = f"{quote_identifier(objects.schema)}.{name}()"
    if body is not None and not found:
        yield _outdated(shown, "it is missing")
    elif body is not None and found[0].body != body:
        yield _outdated(shown, "it is not what this version of the toolkit installs")
    for function in found:
        yield from lock_down_findings(function, shown, definer=name in DEFINERS)


def _outdated(name: str, detail: str, *, made_by: str = __version__) -> Finding:
    return Finding(
        kind="schema_outdated",
        severity=Severity.WARNING,
        object=name,
        detail=detail,
        remedy=UPGRADE_PACKAGE if is_newer(made_by) else UPGRADE_DATABASE,
    )


@cache
def _trail_bodies(schema: str) -> dict[str, str]:
    """The body of each function that the trail has, by name."""
    statements = plan_trail(TrailSettings(schema=schema)).statements
    return dict(found for found in map(function_body, statements) if found)
