"""A trail whose table or schema somebody renamed: until that is undone, writes to audited tables fail."""

from __future__ import annotations

from audit_toolkit.catalog import parse_comment
from audit_toolkit.catalog.trail import TrailObjects
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import QualifiedName, quote_identifier
from audit_toolkit.remedies import psql_command


def renamed_trail(objects: TrailObjects) -> Finding | None:
    """What to call it again, where there is no trail and something shows what became of it."""
    if any(table.name == "logged_actions" for table in objects.tables):
        return None
    schema = quote_identifier(objects.schema)
    trail = QualifiedName(objects.schema, "logged_actions")
    tables = [t.name for t in objects.tables if "interval" in parse_comment(t.comment)]
    if len(tables) == 1:
        now = QualifiedName(objects.schema, tables[0])
        return _finding(
            trail, f"it is called {now} now", f"alter table {now} rename to logged_actions"
        )
    schemas = {
        (trigger.function.schema, trigger.function_owner)
        for trigger in objects.triggers
        if trigger.made_as == trigger.function.name
        and trigger.function.schema != objects.schema
        # One that has a trail, by the trigger that guards it.
        and QualifiedName(trigger.function.schema, "logged_actions") in objects.triggers_by_table
    }
    if len(schemas) == 1 and not objects.tables and not objects.functions:
        found, owner = schemas.pop()
        return _finding(
            trail,
            # Anybody who may create schemas could make one that looks like it.
            f"its schema is called {quote_identifier(found)} now, if the trail belonged to {owner}",
            f"alter schema {quote_identifier(found)} rename to {schema}",
        )
    return None


def _finding(trail: QualifiedName, how: str, statement: str) -> Finding:
    return Finding(
        kind=FindingKind.TRAIL_RENAMED,
        severity=Severity.ERROR,
        subject=str(trail),
        message=f"{how}: writes to audited tables fail",
        remedy=psql_command(statement),
    )
