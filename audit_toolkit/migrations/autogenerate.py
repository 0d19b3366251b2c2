"""Autogenerate: what is declared held against the catalogues, and the difference into the revision.

It only reads. What the same revision does to a table is taken into account: capture comes off before a
table is dropped, and goes on, for the table as it will be, after all else.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import comparators
from alembic.operations import ops
from alembic.util import CommandError

from audit_toolkit.capture import check_condition, check_rule, free_function
from audit_toolkit.capture.selection import why_unsupported
from audit_toolkit.catalog import Installed, Relation, Table, read_relations, read_table, read_trail
from audit_toolkit.catalog.trail import read_trail_objects
from audit_toolkit.config import Interval, TableRule
from audit_toolkit.declaration import (
    INFO_KEY,
    Declarations,
    Managed,
    Style,
    find_declarations,
    read_rule,
)
from audit_toolkit.errors import AuditError, RuleError, UnknownTableError, UnsupportedTableError
from audit_toolkit.migrations.changes import (
    Change,
    Former,
    capture_revision,
    together,
    trail_revision,
    uninstall_revision,
)
from audit_toolkit.migrations.compare import (
    find_drifted,
    installed_captures,
    require_present_trail,
    trail_settings,
)
from audit_toolkit.migrations.future_tables import changed_table, new_table
from audit_toolkit.migrations.operations import (
    AuditTable,
    CreateTrail,
    UnauditTable,
)
from audit_toolkit.migrations.renames import require_no_rename_by_hand
from audit_toolkit.migrations.revision.inline_sql import RunSql
from audit_toolkit.migrations.revision.record import declared_tables
from audit_toolkit.migrations.sqlalchemy_catalog import reader
from audit_toolkit.names import NamePattern, QualifiedName

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa
    from alembic.autogenerate.api import AutogenContext

_log = logging.getLogger("alembic.autogenerate.audit")


def register() -> None:
    """Have every autogenerate of this process compare capture, too; once, when env.py imports us."""
    try:
        from alembic.util import DispatchPriority
    except ImportError:
        # Before Alembic 1.18 comparators run in the order of their registration, and its own were first.
        comparators.dispatch_for("schema")(compare)
    else:
        comparators.dispatch_for("schema", priority=DispatchPriority.LAST)(compare)


def compare(context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]) -> None:
    """Add to `upgrade_ops` what brings capture to what is declared; nothing where nothing is.

    Raises `CommandError`, which the `alembic` command prints, where a declaration cannot be followed.
    """
    connection = context.connection
    if connection is None or context.dialect.name != "postgresql":
        return
    with _reported():
        file = find_declarations()
        schema = file.audit_schema if file else "audit"
        _leave_trail_alone(context, upgrade_ops, schema)
        _keep_rules_out(upgrade_ops)
        comparison = _Comparison(context, connection, upgrade_ops, schemas, file, schema)
        if comparison.declares:
            comparison.write()


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except AuditError as error:
        raise CommandError(f"audit: {error.message}; {error.hint or ''}".rstrip("; ")) from error


def _leave_trail_alone(context: AutogenContext, upgrade_ops: ops.UpgradeOps, schema: str) -> None:
    """With include_schemas=True Alembic sees the tables of the trail, which are in no metadata."""
    known = {(table.schema, table.name) for table in context.sorted_tables}
    upgrade_ops.ops[:] = [
        operation
        for operation in upgrade_ops.ops
        if not (
            isinstance(operation, ops.DropTableOp | ops.ModifyTableOps)
            and operation.schema == schema
            and (operation.schema, operation.table_name) not in known
        )
    ]


def _keep_rules_out(upgrade_ops: ops.UpgradeOps) -> None:
    """Alembic prints the info of a new table with repr(), which of a rule is no Python."""
    for operation in upgrade_ops.ops:
        if isinstance(operation, ops.CreateTableOp) and INFO_KEY in operation.info:
            operation.info = {k: v for k, v in operation.info.items() if k != INFO_KEY}


@dataclass(frozen=True, slots=True, kw_only=True)
class _TableChanges:
    """What the revision does to tables, apart from us."""

    created: frozenset[QualifiedName]
    dropped: frozenset[QualifiedName]
    changed: Mapping[QualifiedName, Sequence[ops.MigrateOperation]]

    @classmethod
    def of(cls, upgrade_ops: ops.UpgradeOps, default_schema: str) -> _TableChanges:
        created, dropped = set(), set()
        changed: dict[QualifiedName, list[ops.MigrateOperation]] = {}
        for operation in upgrade_ops.ops:
            match operation:
                case ops.CreateTableOp():
                    created.add(_name(operation.schema, operation.table_name, default_schema))
                case ops.DropTableOp():
                    dropped.add(_name(operation.schema, operation.table_name, default_schema))
                case ops.ModifyTableOps():
                    name = _name(operation.schema, operation.table_name, default_schema)
                    changed.setdefault(name, []).extend(operation.ops)
        return cls(created=frozenset(created), dropped=frozenset(dropped), changed=changed)


def _name(schema: str | None, table: str, default_schema: str) -> QualifiedName:
    return QualifiedName(schema or default_schema, table)


def _database(context: AutogenContext) -> str:
    """Which of several databases this is, in a project of the template multidb; else empty."""
    token = context.opts.get("upgrade_token") or "upgrades"
    return re.sub(r"\W", "_", token.removesuffix("upgrades").strip("_"))


class _Comparison:
    """One run of autogenerate over one database."""

    def __init__(
        self,
        context: AutogenContext,
        connection: sa.Connection,
        upgrade_ops: ops.UpgradeOps,
        schemas: set[str | None],
        file: Declarations | None,
        schema: str,
    ) -> None:
        self.upgrade_ops, self.file, self.schema = upgrade_ops, file, schema
        self.dialect = context.dialect
        self.database = _database(context)
        environment = context.migration_context.environment_context
        self.scripts = environment.script if environment else None
        self.default_schema = self.dialect.default_schema_name or "public"
        self.compared = {each or self.default_schema for each in schemas}
        self.reader: psycopg.Connection[Any] = reader(connection)
        self.models: dict[QualifiedName, sa.Table] = {
            _name(table.schema, table.name, self.default_schema): table
            for table in context.sorted_tables
        }
        self.table_changes = _TableChanges.of(upgrade_ops, self.default_schema)

    @cached_property
    def declares(self) -> bool:
        """Whether the project declares at all: capture that only `audit install` knows stays."""
        in_models = any(INFO_KEY in model.info for model in self.models.values())
        return in_models or self.file is not None

    @cached_property
    def relations(self) -> dict[QualifiedName, Relation]:
        return {relation.name: relation for relation in read_relations(self.reader)}

    @cached_property
    def installed(self) -> Mapping[QualifiedName, Installed]:
        return installed_captures(self.reader, self.schema)

    @cached_property
    def rules(self) -> dict[QualifiedName, TableRule]:
        """The rule of each declared table."""
        rules = {
            name: read_rule(model.info[INFO_KEY], where=f"info of {name}")
            for name, model in self.models.items()
            if INFO_KEY in model.info
        }
        for typed, rule in (self.file.tables if self.file else {}).items():
            name = self._declared_name(typed)
            if rules.setdefault(name, rule) != rule:
                raise RuleError(
                    f"{name} is declared with one set of options on its model, and with "
                    f"another in {self._source}",
                    hint="keep one of them",
                )
        return rules

    @property
    def _source(self) -> str:
        return self.file.source if self.file else "the models"

    def _declared_name(self, typed: str) -> QualifiedName:
        pattern = NamePattern.parse(typed)
        name = _name(pattern.schema, pattern.name, self.default_schema)
        if name in self.table_changes.dropped or not (
            name in self.relations or name in self.table_changes.created
        ):
            raise UnknownTableError(
                f"{self._source} declares {name}, but that table does not exist",
                hint="correct its name, add its schema (schema.table), or remove it",
            )
        return name

    def write(self) -> None:
        """Add the operations."""
        releases = dict(self._releases())
        changes = [change for change in self._changes() if change.needed]
        if not (releases or changes):
            return
        if self.scripts:
            require_no_rename_by_hand(self.scripts, changes)
        for name in releases:
            _log.info("Detected the end of audit of %s", name)
        for change in changes:
            _log.info("Detected audit of %s: %s", change.table, change.words)
        style = self.file.autogenerate if self.file else Style.SQL
        add = self._add_sql if style is Style.SQL else self._add_directives
        add(releases, changes, self._missing_interval() if changes else None)

    def _releases(self) -> Iterator[tuple[QualifiedName, Former]]:
        for name, there in self.installed.items():
            wanted = name in self.rules and name not in self.table_changes.dropped
            ended = not wanted and name in self.relations and name.schema in self.compared
            if ended and (name in self.table_changes.dropped or self._may_end(there.made_for)):
                yield name, Former.of_database(there, self._present(name), self.schema)

    def _may_end(self, name: QualifiedName) -> bool:
        """Whether a table that is not declared is to lose its capture: what a command installed stays."""
        if self.file and self.file.managed is Managed.DECLARED:
            return True
        return any(pattern.matches(name, fold=False) for pattern in self.declared_once)

    @cached_property
    def declared_once(self) -> set[NamePattern]:
        """What revisions of the project captured because it was declared."""
        return declared_tables(self.scripts, self.schema) if self.scripts else set()

    def _changes(self) -> Iterator[Change]:
        objects = read_trail_objects(self.reader, self.schema)
        for name, rule in self.rules.items():
            there = self.installed.get(name) if name in self.relations else None
            present = self._present(name) if there else None
            target = replace(
                check_rule(self._future(name), rule),
                function_name=there.function
                if there
                else free_function(name, self.installed.values()),
            )
            check_condition(self.reader, target.table, rule, self.schema)
            yield Change(
                target=target,
                schema=self.schema,
                former=Former.of_database(there, present, self.schema)
                if there and present
                else None,
                damaged=present is not None and bool(find_drifted({name: present}, objects)),
            )

    def _present(self, name: QualifiedName) -> Table:
        return read_table(self.reader, self.relations[name])

    def _future(self, name: QualifiedName) -> Table:
        model = self.models.get(name)
        if name in self.table_changes.created and model is not None:
            return new_table(model, name, self.dialect, self.reader)
        if name not in self.relations:
            raise UnknownTableError(
                f"{name} is declared on a model, but the table does not exist",
                hint="let autogenerate compare it: include_object or include_schemas leaves it out",
            )
        if reason := why_unsupported(self.relations[name], trail_schema=self.schema):
            raise UnsupportedTableError(f"{name} cannot be audited: {reason[0]}", hint=reason[1])
        changes = self.table_changes.changed.get(name)
        if changes and model is not None:
            return changed_table(self._present(name), model, changes, self.dialect, self.reader)
        return self._present(name)

    def _missing_interval(self) -> Interval | None:
        """How long a leaf of the trail will be that is still to be made; None for one that is there."""
        trail = read_trail(self.reader, self.schema)
        if trail == {}:
            raise UnsupportedTableError(
                f"{self.schema}.logged_actions exists but was not created by audit-toolkit",
                hint=f"choose another schema: audit_schema in {self._source}",
            )
        require_present_trail(trail, self.schema)
        wanted = self.file.interval if self.file else None
        present = Interval(trail["interval"]) if trail else None
        settings = trail_settings(self.schema, wanted=wanted, present=present)
        return settings.interval if present is None else None

    def _add_sql(
        self,
        releases: Mapping[QualifiedName, Former],
        changes: Sequence[Change],
        interval: Interval | None,
    ) -> None:
        before = [uninstall_revision(releases, self.schema)] if releases else []
        after = [capture_revision(changes, self.schema, declared=True)] if changes else []
        if interval:
            settings = trail_settings(self.schema, wanted=interval, present=None)
            after.insert(0, trail_revision(settings))
        before, after = ([p.named_for(self.database) for p in parts] for parts in (before, after))
        whole = together([*before, *after])
        self.upgrade_ops.ops[:0] = [RunSql(part, whole) for part in before]
        self.upgrade_ops.ops += [RunSql(part, whole) for part in after]

    def _add_directives(
        self,
        releases: Mapping[QualifiedName, Former],
        changes: Sequence[Change],
        interval: Interval | None,
    ) -> None:
        schema = self.schema
        self.upgrade_ops.ops[:0] = [
            UnauditTable(name, former.rule, audit_schema=schema)
            for name, former in releases.items()
        ]
        if interval:
            settings = trail_settings(schema, wanted=interval, present=None)
            self.upgrade_ops.ops.append(CreateTrail(settings))
        self.upgrade_ops.ops += [
            AuditTable(
                change.table,
                change.target.rule,
                audit_schema=schema,
                former=change.former.rule if change.former else None,
            )
            for change in changes
        ]
