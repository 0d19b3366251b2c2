"""Directives for revisions (`op.audit_table`): they need this package, and a connection, whenever they run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic.autogenerate.render import renderers
from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError

from audit_toolkit.capture import (
    check_condition,
    check_rule,
    free_function,
    plan_capture,
    plan_uninstall,
)
from audit_toolkit.capture.render import unpublished
from audit_toolkit.catalog import Installed, read_relations, read_table, resolve
from audit_toolkit.config import Capture, Interval, TableRule, TrailSettings
from audit_toolkit.declaration import Options, read_rule
from audit_toolkit.errors import UnknownTableError
from audit_toolkit.migrations.compare import installed_captures
from audit_toolkit.migrations.revision.rule_text import flags
from audit_toolkit.migrations.revision.text import literal
from audit_toolkit.migrations.sqlalchemy_catalog import reader
from audit_toolkit.names import QualifiedName
from audit_toolkit.plan import DEFAULT_LOCK_TIMEOUT, Plan
from audit_toolkit.schema import plan_trail
from audit_toolkit.templates import render_statements

if TYPE_CHECKING:
    from typing import Unpack

    from alembic.autogenerate.api import AutogenContext


@Operations.register_operation("audit_table")
class AuditTable(MigrateOperation):
    """Puts capture on a table, or changes its rule."""

    def __init__(
        self,
        table: QualifiedName,
        rule: TableRule,
        *,
        audit_schema: str = "audit",
        former: TableRule | None = None,
    ) -> None:
        self.table, self.rule = table, rule
        self.audit_schema, self.former = audit_schema, former

    @classmethod
    def audit_table(
        cls,
        operations: Operations,
        table: str,
        *,
        audit_schema: str = "audit",
        **options: Unpack[Options],
    ) -> None:
        """Put capture on a table, or change its rule; the options are those of `Audit`.

        Takes SHARE ROW EXCLUSIVE on the table, for which it waits three seconds at most.
        """
        rule = read_rule(options, where=f"op.audit_table({table!r})")
        name = _existing(operations, table)
        operations.invoke(cls(name, rule, audit_schema=audit_schema))

    def reverse(self) -> MigrateOperation:
        """What was there before."""
        if self.former is None:
            return UnauditTable(self.table, self.rule, audit_schema=self.audit_schema)
        return AuditTable(self.table, self.former, audit_schema=self.audit_schema, former=self.rule)

    def to_diff_tuple(self) -> tuple[str, str, str]:
        """What `alembic check` prints."""
        return ("audit_table", str(self.table), flags(self.rule))


@Operations.register_operation("unaudit_table")
class UnauditTable(MigrateOperation):
    """Takes capture off a table; its events stay."""

    def __init__(
        self, table: QualifiedName, rule: TableRule | None = None, *, audit_schema: str = "audit"
    ) -> None:
        self.table, self.rule, self.audit_schema = table, rule, audit_schema

    @classmethod
    def unaudit_table(
        cls, operations: Operations, table: str, *, audit_schema: str = "audit"
    ) -> None:
        """Take capture off a table. Takes ACCESS EXCLUSIVE on it, for which it waits three seconds."""
        operations.invoke(cls(_existing(operations, table), audit_schema=audit_schema))

    def reverse(self) -> AuditTable:
        """Capture as it was."""
        return AuditTable(self.table, self.rule or TableRule(), audit_schema=self.audit_schema)

    def to_diff_tuple(self) -> tuple[str, str]:
        """What `alembic check` prints."""
        return ("unaudit_table", str(self.table))


@Operations.register_operation("create_audit_trail")
class CreateTrail(MigrateOperation):
    """Makes the trail, unless it is there."""

    def __init__(self, settings: TrailSettings) -> None:
        self.settings = settings

    @classmethod
    def create_audit_trail(
        cls, operations: Operations, *, audit_schema: str = "audit", interval: str = "month"
    ) -> None:
        """Make the trail; one that is there already is taken up."""
        settings = TrailSettings(schema=audit_schema, interval=Interval(interval))
        operations.invoke(cls(settings))

    def reverse(self) -> DropTrail:
        """The end of an empty trail."""
        return DropTrail(self.settings)

    def to_diff_tuple(self) -> tuple[str, str]:
        """What `alembic check` prints."""
        return ("create_audit_trail", self.settings.schema)


@Operations.register_operation("drop_audit_trail")
class DropTrail(MigrateOperation):
    """Removes a trail that has no events."""

    def __init__(self, settings: TrailSettings) -> None:
        self.settings = settings

    @classmethod
    def drop_audit_trail(
        cls, operations: Operations, *, audit_schema: str = "audit", interval: str = "month"
    ) -> None:
        """Remove the trail if it has no events and nothing uses it; otherwise it stays."""
        settings = TrailSettings(schema=audit_schema, interval=Interval(interval))
        operations.invoke(cls(settings))

    def reverse(self) -> CreateTrail:
        """The trail again."""
        return CreateTrail(self.settings)

    def to_diff_tuple(self) -> tuple[str, str]:
        """What `alembic check` prints."""
        return ("drop_audit_trail", self.settings.schema)


@Operations.implementation_for(AuditTable)
def _audit_table(operations: Operations, operation: AuditTable) -> None:
    connection = reader(operations.get_bind())
    relations = {relation.name: relation for relation in read_relations(connection)}
    table = read_table(connection, relations[operation.table])
    check_condition(connection, table, operation.rule, operation.audit_schema)
    installed = installed_captures(connection, operation.audit_schema)
    former = installed.get(operation.table)
    target = replace(
        check_rule(table, operation.rule),
        function_name=former.function
        if former
        else free_function(operation.table, installed.values()),
    )
    run_plan(
        operations,
        plan_capture(
            target,
            operation.audit_schema,
            former_triggers=former.trigger_names if former else (),
        ),
    )
    if former and _is_from_wal(former) and not target.from_wal:
        _run(operations, unpublished(table.name, operation.audit_schema, former.function))


@Operations.implementation_for(UnauditTable)
def _unaudit_table(operations: Operations, operation: UnauditTable) -> None:
    schema = operation.audit_schema
    installed = installed_captures(reader(operations.get_bind()), schema)
    former = installed.get(operation.table)
    function = former.function if former else None
    from_wal = former is not None and _is_from_wal(former)
    plan = plan_uninstall(operation.table, schema, function=function, from_wal=from_wal)
    run_plan(operations, plan)


def _is_from_wal(installed: Installed) -> bool:
    return bool(installed.options.get("capture") == Capture.WAL.value)


@Operations.implementation_for(CreateTrail)
def _create_trail(operations: Operations, operation: CreateTrail) -> None:
    run_plan(operations, plan_trail(operation.settings))


@Operations.implementation_for(DropTrail)
def _drop_trail(operations: Operations, operation: DropTrail) -> None:
    _run(operations, plan_trail(operation.settings).undo)


def run_plan(operations: Operations, plan: Plan) -> None:
    """Run a plan inside a migration, with the lock timeout that frozen SQL has."""
    _run(operations, plan.statements)


def _run(operations: Operations, statements: Iterable[str]) -> None:
    before = render_statements("migrations/lock_timeout", timeout=DEFAULT_LOCK_TIMEOUT)
    after = render_statements("migrations/lock_timeout_before")
    context = operations.get_context()
    for statement in (*before, *statements, *after):
        if context.as_sql:
            context.impl.static_output(f"{statement};")
        else:
            operations.execute(sa.text(statement.replace(":", r"\:")))


def _existing(operations: Operations, text: str) -> QualifiedName:
    if operations.get_context().as_sql:
        raise CommandError(
            f"op.audit_table and op.unaudit_table read the catalog, so {text!r} cannot be "
            "printed with --sql; let autogenerate write frozen SQL, which can"
        )
    relations = read_relations(reader(operations.get_bind()))
    try:
        return resolve(text, relations).name
    except UnknownTableError as error:
        raise CommandError(f"{error.message}; {error.hint}") from error


@renderers.dispatch_for(AuditTable)
def _render_audit_table(context: AutogenContext, operation: AuditTable) -> str:
    return _directive(context, "audit_table", operation, operation.rule.as_dict())


@renderers.dispatch_for(UnauditTable)
def _render_unaudit_table(context: AutogenContext, operation: UnauditTable) -> str:
    return _directive(context, "unaudit_table", operation, {})


@renderers.dispatch_for(CreateTrail)
def _render_create_trail(context: AutogenContext, operation: CreateTrail) -> str:
    return _call(context, "create_audit_trail", _of_trail(operation.settings))


@renderers.dispatch_for(DropTrail)
def _render_drop_trail(context: AutogenContext, operation: DropTrail) -> str:
    return _call(context, "drop_audit_trail", _of_trail(operation.settings))


def _of_trail(settings: TrailSettings) -> dict[str, str]:
    values = {"audit_schema": settings.schema} if settings.schema != "audit" else {}
    return values | ({"interval": settings.interval.value} if settings.interval != "month" else {})


def _directive(
    context: AutogenContext,
    name: str,
    operation: AuditTable | UnauditTable,
    options: Mapping[str, Any],
) -> str:
    values = dict(options)
    if operation.audit_schema != "audit":
        values["audit_schema"] = operation.audit_schema
    return _call(context, name, values, literal(operation.table.plain))


def _call(
    context: AutogenContext, name: str, values: Mapping[str, Any], first: str | None = None
) -> str:
    context.imports.add("import audit_toolkit.alembic  # noqa: F401")
    arguments = [first] if first else []
    arguments += [f"{key}={literal(value, room=80)}" for key, value in values.items()]
    prefix = context.opts["alembic_module_prefix"]
    return f"{prefix}{name}({', '.join(arguments)})"
