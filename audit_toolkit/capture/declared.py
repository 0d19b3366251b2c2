"""What a file and the models that it names declare, held against what is audited."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit_toolkit.capture.models import model_rules
from audit_toolkit.catalog import Relation, parse_comment, resolve
from audit_toolkit.catalog.trail import TrailObjects
from audit_toolkit.config import TableRule
from audit_toolkit.declaration import Declarations
from audit_toolkit.errors import RuleError, UnknownTableError
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import NamePattern, QualifiedName
from audit_toolkit.remedies import install_command


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A table that is declared to be audited."""

    pattern: NamePattern
    typed: str | None = None
    """Its name as somebody typed it; None where a model says it exactly."""
    rule: TableRule
    source: str
    """`pyproject.toml`, `shop.models:Base`."""
    correction: str
    """What to do where there is no such table."""


def declared_tables(file: Declarations, *, models: bool = True) -> list[Declared]:
    """What the file declares; and, by importing them, with `models` what its models do.

    Raises `UsageError` where models cannot be imported.
    """
    declared = [
        Declared(
            pattern=NamePattern.parse(typed),
            typed=typed,
            rule=rule,
            source=file.source,
            correction=f"correct tables.{typed} in {file.source}",
        )
        for typed, rule in file.tables.items()
    ]
    declared += [
        Declared(pattern=pattern, rule=rule, source=place, correction="alembic upgrade head")
        for place in (file.models if models else ())
        for pattern, rule in model_rules(place, source=file.source)
    ]
    return declared


def declared_findings(
    declared: Sequence[Declared],
    objects: TrailObjects,
    relations: Sequence[Relation],
    *,
    sources: Sequence[str],
) -> Iterator[Finding]:
    """Tables declared and not audited, or otherwise than declared; tables audited and not declared.

    `sources` are all that declare; without any, what is not declared is no finding.
    Raises `RuleError` for a table that two of them declare with different rules.
    """
    installed = dict(_installed(objects))
    known: dict[QualifiedName, Declared] = {}
    for one in declared:
        name = resolved(one, relations)
        if name is None or known.setdefault(name, one) is one:
            yield from _finding(one, name, installed)
        elif known[name].rule != one.rule:
            raise RuleError(
                f"{name} is declared with one set of options in {known[name].source}, and "
                f"with another in {one.source}",
                hint="keep one of them",
            )
    for name in sorted(set(installed) - set(known)) if sources else ():
        yield Finding(
            kind=FindingKind.AUDITED_NOT_DECLARED,
            severity=Severity.WARNING,
            subject=str(name),
            message=f"{_neither(sources)} it: declare it there, or stop auditing it",
            remedy=f"audit uninstall --table {shlex.quote(name.plain)} --upgrade",
        )


def _neither(sources: Sequence[str]) -> str:
    if len(sources) == 1:
        return f"{sources[0]} does not declare"
    return f"neither {' nor '.join(sources)} declares"


def _finding(
    declared: Declared,
    name: QualifiedName | None,
    installed: Mapping[QualifiedName, Mapping[str, object]],
) -> Iterator[Finding]:
    options = declared.rule.as_dict()
    if name is None or name not in installed:
        yield Finding(
            kind=FindingKind.DECLARED_NOT_AUDITED,
            severity=Severity.ERROR,
            subject=str(name or declared.typed or declared.pattern),
            message=f"{declared.source} declares it"
            + ("" if name else ", but the table does not exist"),
            remedy=install_command(name, options) + " --upgrade" if name else declared.correction,
        )
    elif installed[name] != options:
        yield Finding(
            kind=FindingKind.DECLARED_OTHERWISE,
            severity=Severity.ERROR,
            subject=str(name),
            message=f"{declared.source} declares other options than it is audited with",
            remedy=install_command(name, options or {"capture": "row"}) + " --upgrade",
        )


def _installed(objects: TrailObjects) -> Iterator[tuple[QualifiedName, Mapping[str, object]]]:
    for function in objects.functions:
        recorded = parse_comment(function.comment)
        if "table" in recorded:
            yield QualifiedName(*recorded["table"]), recorded["options"]


def resolved(declared: Declared, relations: Sequence[Relation]) -> QualifiedName | None:
    """The table that is meant; None if there is none."""
    if declared.typed is None:
        pattern = declared.pattern
        found = [r for r in relations if pattern.matches(r.name, fold=False)]
        if pattern.schema is None:
            on_path = (relation for relation in found if relation.search_position)
            found = sorted(on_path, key=lambda relation: relation.search_position)
        return found[0].name if found else None
    try:
        return resolve(declared.typed, relations).name
    except UnknownTableError:
        return None
