"""Drift of conditions (`--when`): those that cannot be judged any more, so that every change is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from audit_toolkit.capture.condition import check_condition
from audit_toolkit.capture.drift import captures_of, condition_now
from audit_toolkit.catalog import Table
from audit_toolkit.catalog.trail import TrailObjects
from audit_toolkit.config import TableRule
from audit_toolkit.errors import RuleError
from audit_toolkit.names import QualifiedName

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def unusable_conditions(
    connection: Connection, objects: TrailObjects, tables: Mapping[QualifiedName, Table]
) -> dict[QualifiedName, str]:
    """Why the server does not take a condition for its table as it is, by table; also what it may not call."""
    found = {}
    for captured in captures_of(objects, tables):
        if captured.table is None or not captured.options.get("when"):
            continue
        try:
            rule = TableRule.from_dict(captured.options)
            rule = replace(rule, when=condition_now(captured))
            check_condition(connection, captured.table, rule, objects.schema)
        except RuleError as error:
            found[captured.name] = error.message
    return found
