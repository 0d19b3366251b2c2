"""Tables that ought to be audited and are not, and what auditing a table cannot mean."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from audit_toolkit.capture.selection import why_unsupported
from audit_toolkit.catalog import Kind, Relation, parse_comment
from audit_toolkit.catalog.trail import TrailObjects
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import QualifiedName
from audit_toolkit.remedies import psql_command

_OWN_TABLES = ("alembic_version",)


def coverage_findings(
    objects: TrailObjects,
    relations: Sequence[Relation],
    *,
    asked: Collection[QualifiedName],
    required: Sequence[str],
    source: str,
) -> Iterator[Finding]:
    """What somebody asked for (`--table`) or requires (`require = ["public.*"]`) and is not audited.

    A required table that cannot be audited is no finding: `audit status` says why it cannot be.
    """
    audited = _audited(objects)
    for relation in relations:
        name = relation.name
        if name in audited:
            yield from _unlogged(relation)
        elif name in asked and relation.root not in audited:
            yield _not_audited(relation, "capture is not installed", objects.schema)
        elif _is_required(relation, required, objects.schema):
            yield _not_audited(relation, f"{source} requires it to be audited", objects.schema)
    present = {f"{relation.name.schema}.{relation.name.name}" for relation in relations}
    for pattern in required:
        if pattern not in present and not set(pattern) & set("!*?["):
            yield _gone(pattern, source)


def _gone(name: str, source: str) -> Finding:
    return Finding(
        kind=FindingKind.NOT_AUDITED,
        severity=Severity.ERROR,
        subject=name,
        message=f"it does not exist, and {source} requires it to be audited",
        remedy=f"correct its name in {source}: it is misspelt, or the table was renamed or dropped",
    )


def _audited(objects: TrailObjects) -> set[QualifiedName]:
    recorded = [(f, parse_comment(f.comment)) for f in objects.functions]
    return {
        objects.captured_by(function) or QualifiedName(*one["table"])
        for function, one in recorded
        if "table" in one
    }


def _not_audited(relation: Relation, why: str, schema: str) -> Finding:
    reason = why_unsupported(relation, trail_schema=schema)
    name = shlex.quote(relation.name.plain)
    return Finding(
        kind=FindingKind.NOT_AUDITED,
        severity=Severity.ERROR,
        subject=str(relation.name),
        message=f"it is not audited: {(reason[0] if reason else why)}",
        remedy=reason[1] if reason else f"audit install --table {name} --upgrade",
    )


def _is_required(relation: Relation, patterns: Iterable[str], schema: str) -> bool:
    if relation.is_system or relation.temporary or relation.root is not None:
        return False
    if relation.kind not in (Kind.TABLE, Kind.PARTITIONED_TABLE):
        return False
    if relation.name.name in _OWN_TABLES or why_unsupported(relation, trail_schema=schema):
        return False
    shown = f"{relation.name.schema}.{relation.name.name}"
    required = False
    for pattern in patterns:
        if fnmatchcase(shown, pattern.removeprefix("!")):
            required = not pattern.startswith("!")
    return required


def _unlogged(relation: Relation) -> Iterator[Finding]:
    if relation.unlogged:
        yield Finding(
            kind=FindingKind.UNLOGGED_TABLE,
            severity=Severity.WARNING,
            subject=str(relation.name),
            message="it is UNLOGGED: a crash empties it, and the trail does not notice",
            remedy=psql_command(f"alter table {relation.name} set logged"),
        )
