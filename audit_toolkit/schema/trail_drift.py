"""Drift of the trail itself: its tables, their grants, its functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from audit_toolkit.catalog import parse_comment
from audit_toolkit.catalog.trail import TrailObjects
from audit_toolkit.config import TrailSettings
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import quote_identifier, quote_literal
from audit_toolkit.remedies import UPGRADE_DATABASE, UPGRADE_PACKAGE, psql_command
from audit_toolkit.schema.install import leaf_interval, plan_trail, trail_comment, trail_hash
from audit_toolkit.version import __version__, is_newer


def trail_findings(objects: TrailObjects) -> Iterator[Finding]:
    """What is wrong with the trail."""
    schema = quote_identifier(objects.schema)
    parent = next((table for table in objects.tables if table.name == "logged_actions"), None)
    if parent is not None and not parse_comment(parent.comment) and _is_ours(objects):
        yield _comment_changed(objects)
        return
    if parent is None or not parse_comment(parent.comment):
        yield Finding(
            kind=FindingKind.TRAIL_MISSING,
            severity=Severity.ERROR,
            subject=f"{schema}.logged_actions",
            message="the database has no audit trail"
            if parent is None
            else "it was not made by audit-toolkit",
            remedy="decide which tables to audit, then install capture of each: audit install --help"
            if parent is None
            else "rename that table, or keep the trail in a schema of its own: audit install --audit-schema NAME",
        )
        return
    recorded = parse_comment(parent.comment)
    is_present = recorded.get("hash") == trail_hash(objects.schema)
    if not is_present:
        yield _outdated(
            f"{schema}.logged_actions",
            f"installed by {recorded['version']}; this version renders it differently",
            made_by=recorded["version"],
        )
    for name, body in _trail_bodies(objects.schema).items():
        yield from _trail_function_findings(objects, name, body if is_present else None)


def _is_ours(objects: TrailObjects) -> bool:
    """Whether the schema has the functions of a trail, each of which says so in its comment."""
    return sum(bool(parse_comment(function.comment)) for function in objects.functions) > 1


def _comment_changed(objects: TrailObjects) -> Finding:
    schema = quote_identifier(objects.schema)
    interval = leaf_interval(table.name for table in objects.tables if table.is_leaf)
    comment = trail_comment(TrailSettings(schema=objects.schema, interval=interval))
    return Finding(
        kind=FindingKind.COMMENT_CHANGED,
        severity=Severity.ERROR,
        subject=f"{schema}.logged_actions",
        message="somebody changed its comment, by which the toolkit recognises its trail: nothing "
        "can be installed, and the rest of the trail is not checked",
        remedy=psql_command(
            f"comment on table {schema}.logged_actions is {quote_literal(comment)}"
        ),
    )


def _trail_function_findings(
    objects: TrailObjects, name: str, body: str | None
) -> Iterator[Finding]:
    found = [function for function in objects.functions if function.name == name]
    shown = f"{quote_identifier(objects.schema)}.{name}()"
    if body is not None and not found:
        yield _outdated(shown, "it is missing")
    elif body is not None and found[0].body != body:
        yield _outdated(
            shown,
            "it differs from what this version of the toolkit installs",
            severity=Severity.ERROR,
        )


def _outdated(
    name: str,
    detail: str,
    *,
    made_by: str = __version__,
    severity: Severity = Severity.WARNING,
) -> Finding:
    return Finding(
        kind=FindingKind.SCHEMA_OUTDATED,
        severity=severity,
        subject=name,
        message=detail,
        remedy=UPGRADE_PACKAGE if is_newer(made_by) else UPGRADE_DATABASE,
    )


_BODY = re.compile(r"create or replace function .*?\.(\w+)\(.*?\nas (\$\w+\$)(.*)\2", re.DOTALL)


def function_body(statement: str) -> tuple[str, str] | None:
    """Name and body of a rendered function, the body as `pg_proc.prosrc` has it."""
    found = _BODY.search(statement)
    return (found[1], found[3]) if found else None


@cache
def _trail_bodies(schema: str) -> dict[str, str]:
    """The body of each function that the trail has, by name."""
    statements = plan_trail(TrailSettings(schema=schema)).statements
    return dict(found for found in map(function_body, statements) if found)
