"""What the catalogues say about the trail and what belongs to it, as frozen values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog.read import read_installed_columns
from audit_toolkit.catalog.schema import Fact, read_facts
from audit_toolkit.connection import fetch
from audit_toolkit.names import QualifiedName, wal_publication
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function of the audit schema, or one of ours that was moved out of it."""

    schema: str
    name: str
    arguments: str
    body: str
    security_definer: bool
    settings: tuple[str, ...]
    """`search_path=pg_catalog, pg_temp`, as the catalogue spells it."""
    owner: str
    comment: str | None
    granted_to: tuple[str, ...]
    """Who may execute it, besides its owner."""
    refused_to: tuple[str, ...]
    """Owners of partitioned tables that it captures, who could not make a partition."""
    made_as: str | None = None
    """What it was called when it was made, if it captures a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerState:
    """A trigger that calls a function of the audit schema or one of ours elsewhere, or is named like ours."""

    table: QualifiedName
    name: str
    state: str
    """`A` always, `O` not in replica mode, `R` in replica mode only, `D` disabled."""
    type: int
    """`pg_trigger.tgtype`: 1 row, 2 before, 4 insert, 8 delete, 16 update, 32 truncate."""
    on_partition: bool
    function: QualifiedName
    has_old_table: bool
    has_new_table: bool
    is_conditional: bool
    """Whether it has a WHEN or a column list, as ours never do."""
    function_owner: str
    function_comment: str | None
    made_as: str | None
    """What its function was called when it was made, if that captures a table for this trail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailTable:
    """A table of the audit schema."""

    name: str
    is_leaf: bool
    owner: str
    owner_is_superuser: bool
    comment: str | None
    granted: tuple[str, ...]
    """`somebody select`, for everybody but the owner."""
    guarded: bool
    """Whether UPDATE, DELETE and TRUNCATE of it are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTrigger:
    """An event trigger of the database that is not disabled."""

    name: str
    function: str
    owner: str
    """The owner of its function."""
    owner_is_trusted: bool
    """Whether that is a superuser, or the owner of the trail."""


@dataclass(frozen=True, kw_only=True)
class TrailObjects:
    """All that belongs to a trail."""

    schema: str
    tables: tuple[TrailTable, ...]
    functions: tuple[Function, ...]
    """Those of its schema."""
    triggers: tuple[TriggerState, ...]
    moved_out: tuple[Function, ...] = ()
    """Functions elsewhere with the text of a capture function of this trail, which triggers run."""
    facts: tuple[Fact, ...] = ()
    """Everything that is in its schema; empty where that was not read."""
    event_triggers: tuple[EventTrigger, ...] = ()
    from_wal: frozenset[QualifiedName] = frozenset()
    """The tables whose changes a worker reads from the WAL; their triggers are off."""
    installed_columns: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By capture function, the numbers of the columns that its table had when it was installed."""

    @property
    def owner(self) -> str | None:
        """The role that the trail belongs to; None without one."""
        return next((table.owner for table in self.tables if table.name == "logged_actions"), None)

    @cached_property
    def triggers_by_function(self) -> Mapping[QualifiedName, Sequence[TriggerState]]:
        """The triggers by the function that they run."""
        return _grouped(self.triggers, lambda trigger: trigger.function)

    @cached_property
    def triggers_by_table(self) -> Mapping[QualifiedName, Sequence[TriggerState]]:
        """The triggers by the table that they are on."""
        return _grouped(self.triggers, lambda trigger: trigger.table)

    def captured_by(self, function: Function) -> QualifiedName | None:
        """The table that a function captures, as it is called now; None if none, or several by hand."""
        found = {
            trigger.table
            for trigger in self.triggers_by_function.get(
                QualifiedName(self.schema, function.name), ()
            )
            if not trigger.on_partition and trigger.type & 28  # insert, update, delete
        }
        return found.pop() if len(found) == 1 else None

    def is_unused(self, function: Function) -> bool:
        """Whether no trigger runs a function."""
        return QualifiedName(self.schema, function.name) not in self.triggers_by_function


def _grouped(
    triggers: Iterable[TriggerState], by: Callable[[TriggerState], QualifiedName]
) -> dict[QualifiedName, list[TriggerState]]:
    found: dict[QualifiedName, list[TriggerState]] = {}
    for trigger in triggers:
        found.setdefault(by(trigger), []).append(trigger)
    return found


def read_trail_objects(connection: Connection, schema: str, *, whole: bool = False) -> TrailObjects:
    """The tables, functions and triggers of a trail; any role may read them.

    With `whole`, also every fact of its schema, which takes a transaction (or savepoint) for a moment.
    """
    parameters = {"schema": schema}
    functions = tuple(map(_function, fetch(connection, query("functions"), parameters)))
    return TrailObjects(
        schema=schema,
        tables=tuple(map(_table, fetch(connection, query("trail_tables"), parameters))),
        functions=tuple(function for function in functions if function.schema == schema),
        moved_out=tuple(function for function in functions if function.schema != schema),
        triggers=tuple(map(_trigger, fetch(connection, query("triggers"), parameters))),
        facts=read_facts(connection, schema) if whole else (),
        from_wal=_read_from_wal(connection, schema),
        installed_columns=read_installed_columns(connection, schema),
        event_triggers=tuple(
            EventTrigger(**row) for row in fetch(connection, query("event_triggers"), parameters)
        )
        if whole
        else (),
    )


def _read_from_wal(connection: Connection, schema: str) -> frozenset[QualifiedName]:
    named = {"schema": schema, "publication": wal_publication(schema)}
    rows = fetch(connection, query("read_from_wal"), named)
    return frozenset(QualifiedName(row["schema_name"], row["table_name"]) for row in rows)


def _table(row: dict[str, Any]) -> TrailTable:
    return TrailTable(
        name=row["name"],
        is_leaf=row["is_leaf"],
        owner=row["owner"],
        owner_is_superuser=row["owner_is_superuser"],
        comment=row["comment"],
        granted=tuple(row["granted"]),
        guarded=row["guarded"],
    )


def _function(row: dict[str, Any]) -> Function:
    return Function(
        schema=row["schema"],
        name=row["name"],
        arguments=row["arguments"],
        body=row["body"],
        security_definer=row["security_definer"],
        settings=tuple(row["settings"]),
        owner=row["owner"],
        comment=row["comment"],
        granted_to=tuple(row["granted_to"]),
        refused_to=tuple(row["refused_to"]),
        made_as=row["made_as"],
    )


def _trigger(row: dict[str, Any]) -> TriggerState:
    return TriggerState(
        table=QualifiedName(row["schema_name"], row["table_name"]),
        name=row["name"],
        state=row["state"],
        type=row["type"],
        on_partition=row["on_partition"],
        function=QualifiedName(row["function_schema"], row["function_name"]),
        has_old_table=row["has_old_table"],
        has_new_table=row["has_new_table"],
        is_conditional=row["is_conditional"],
        function_owner=row["function_owner"],
        function_comment=row["function_comment"],
        made_as=row["made_as"],
    )
