"""What a file declares, held against what is audited."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from audit_toolkit.catalog import Relation, parse_comment, resolve
from audit_toolkit.catalog.trail import TrailObjects
from audit_toolkit.declaration import Declarations
from audit_toolkit.errors import UnknownTableError
from audit_toolkit.install.findings import Finding, Severity, install_command
from audit_toolkit.names import QualifiedName


def declared_findings(
    file: Declarations, objects: TrailObjects, relations: Sequence[Relation]
) -> Iterator[Finding]:
    """Tables declared and not audited, or otherwise than declared; tables audited and not declared."""
    if not file.tables:
        return  # the models declare, or nobody does
    installed = dict(_installed(objects))
    declared = set()
    for typed, rule in file.tables.items():
        name = _resolved(typed, relations)
        if name is not None:
            declared.add(name)
        options = rule.as_dict()
        if name is None or name not in installed:
            yield Finding(
                kind="declared_not_audited",
                severity=Severity.ERROR,
                object=str(name or typed),
                detail=f"{file.source} declares it"
                + ("" if name else ", and there is no such table"),
                remedy=install_command(name, options) + " --upgrade"
                if name
                else f"correct tables.{typed} in {file.source}",
            )
        elif installed[name] != options:
            yield Finding(
                kind="declared_otherwise",
                severity=Severity.ERROR,
                object=str(name),
                detail=f"{file.source} declares other options than it is audited with",
                remedy=install_command(name, options or {"capture": "row"}) + " --upgrade",
            )
    for name in sorted(set(installed) - declared):
        yield Finding(
            kind="audited_not_declared",
            severity=Severity.WARNING,
            object=str(name),
            detail=f"{file.source} does not declare it: add it there, or end its audit",
            remedy=f"audit uninstall --table {shlex.quote(name.plain)} --upgrade",
        )


def _installed(objects: TrailObjects) -> Iterator[tuple[QualifiedName, Mapping[str, object]]]:
    for function in objects.functions:
        recorded = parse_comment(function.comment)
        if "table" in recorded:
            yield QualifiedName(*recorded["table"]), recorded["options"]


def _resolved(typed: str, relations: Sequence[Relation]) -> QualifiedName | None:
    try:
        return resolve(typed, relations).name
    except UnknownTableError:
        return None
