"""Drift of conditions (`--when`): those that cannot be judged any more, so that every change is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import Table, parse_comment
from audit_toolkit.catalog.trail import TrailObjects
from audit_toolkit.config import TableRule
from audit_toolkit.errors import RuleError
from audit_toolkit.install.condition import check_condition
from audit_toolkit.install.findings import Finding, Severity, install_command
from audit_toolkit.names import QualifiedName

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def condition_findings(
    connection: Connection, objects: TrailObjects, tables: Mapping[QualifiedName, Table]
) -> Iterator[Finding]:
    """Conditions that the server does not take for the tables as they are, or that call what they may not."""
    for function in objects.functions:
        recorded = parse_comment(function.comment)
        if not recorded.get("options", {}).get("when"):
            continue
        name = objects.captured_by(function) or QualifiedName(*recorded["table"])
        if name not in tables:
            continue
        try:
            rule = TableRule.from_dict(recorded["options"])
            check_condition(connection, tables[name], rule, objects.schema)
        except RuleError as error:
            yield Finding(
                kind="condition_unusable",
                severity=Severity.ERROR,
                object=str(name),
                detail=f"{error.message}; until it has another condition, every change is recorded",
                remedy=_without_condition(name, recorded["options"]),
            )


def _without_condition(name: QualifiedName, options: dict[str, Any]) -> str:
    """The command that makes what is so a rule: no other condition can be told."""
    others = {option: value for option, value in options.items() if option != "when"}
    return install_command(name, others or {"capture": "row"}) + " --upgrade"
