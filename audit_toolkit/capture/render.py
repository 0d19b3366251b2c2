"""Capture of one table: its function and triggers, rendered from what is known of the table now."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from typing import Any

from audit_toolkit.catalog import Column, Installed, Numbering, Table
from audit_toolkit.condition import called_functions, compares_rows, names_of
from audit_toolkit.config import (
    CONTEXT_LIMIT,
    KEYFRAME_EVERY,
    OVERSIZE_BYTES,
    QUERY_LIMIT,
    Capture,
    Mask,
    OnOversize,
    Store,
    TableRule,
    Truncate,
)
from audit_toolkit.errors import RuleError
from audit_toolkit.long_keys import LONGEST, may_be_long
from audit_toolkit.names import (
    QualifiedName,
    Sql,
    capture_function,
    quote_literal,
    replay_function,
    wal_publication,
    wal_tables,
)
from audit_toolkit.plan import Plan, Step
from audit_toolkit.templates import render_statements
from audit_toolkit.version import __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A trigger of ours: `fires` is `after insert`, `referencing` names its transition tables."""

    name: str
    fires: Sql
    level: Sql = field(default=Sql("statement"))
    referencing: Sql | None = None


_ROW = Trigger(name="00_audit_row", fires=Sql("after insert or update or delete"), level=Sql("row"))
# Passed down to the partitions, and under a name that a table audited by itself does not use: else it could not be
# attached.
_PARTITIONED_ROW = Trigger(name="00_audit_rows", fires=_ROW.fires, level=Sql("row"))
_INSERT = Trigger(
    name="00_audit_insert", fires=Sql("after insert"), referencing=Sql("new table as new_rows")
)
_UPDATE = Trigger(
    name="00_audit_update",
    fires=Sql("after update"),
    referencing=Sql("old table as old_rows new table as new_rows"),
)
_DELETE = Trigger(
    name="00_audit_delete", fires=Sql("after delete"), referencing=Sql("old table as old_rows")
)
_TRUNCATE = Trigger(name="00_audit_truncate", fires=Sql("after truncate"))
_TRUNCATE_ROWS = Trigger(name="00_audit_truncate_rows", fires=Sql("before truncate"))
_TRUNCATE_FORBIDDEN = Trigger(name="00_audit_truncate", fires=Sql("before truncate"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _BulkyColumn:
    name: str
    plain_type: str | None
    cast: Sql
    is_json: bool
    is_bytea: bool
    hidden: bool


def _bulky_columns(table: Table, rule: TableRule) -> tuple[_BulkyColumn, ...]:
    """The columns that can hold what JSON cannot, if the rule is to look at them."""
    if rule.on_oversize is OnOversize.FAIL:
        return ()
    return tuple(
        _BulkyColumn(
            name=column.name,
            plain_type=column.plain_type,
            cast=Sql("::text" if column.type_name in ("json", "xml") else ""),
            is_json=column.type_name == "json",
            is_bytea=column.type_name == "bytea",
            hidden=column.name in rule.exclude or bool(rule.only and column.name not in rule.only),
        )
        for column in table.columns
        if column.type_name in ("text", "character varying", "bytea", "json", "xml")
        and column.name not in table.key
    )


_TABLES = 1024
"""Of how many tables the SQL is kept: one command renders it for several questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A table together with its rule: everything that rendering needs."""

    table: Table
    rule: TableRule
    function_name: str | None = None
    """What captures it already, where that was named for what the table was called once."""

    @property
    def function(self) -> str:
        """The name of its capture function, which it keeps through all its names."""
        return self.function_name or capture_function(self.table.name)

    @property
    def from_wal(self) -> bool:
        """Whether a worker reads its changes from the WAL, once there is one; triggers record them until then."""
        return self.rule.capture is Capture.WAL

    @property
    def keeps_truncate(self) -> bool:
        """Whether its triggers on TRUNCATE stay on while the WAL is read, which does not have the rows."""
        return self.from_wal and (
            self.table.partitioned or self.rule.truncate is not Truncate.EVENT
        )

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """Its triggers, in the order in which they are made."""
        changes: tuple[Trigger, ...]
        if self.rule.capture is Capture.STATEMENT:
            changes = (_INSERT, _UPDATE, _DELETE)
        else:
            changes = (_PARTITIONED_ROW if self.table.partitioned else _ROW,)
        match self.rule.truncate:
            case Truncate.FORBID:
                return *changes, _TRUNCATE_FORBIDDEN
            case Truncate.ROWS if not self.table.partitioned:
                return *changes, _TRUNCATE_ROWS, _TRUNCATE
            case _:
                return *changes, _TRUNCATE

    def values(self, schema: str) -> dict[str, Any]:
        """What the templates of this table need."""
        table, rule = self.table, self.rule
        return {
            "schema": schema,
            "table": table.name,
            "function": self.function,
            "rule": rule,
            "key": table.key,
            "key_may_be_long": may_be_long(
                column.type_name for column in table.columns if column.name in table.key
            ),
            "key_columns": tuple(c for name in table.key if (c := table.column(name))),
            "kept": tuple(
                c.name for c in table.columns if c.name in rule.only or c.name in table.key
            ),
            "pruned": bool(rule.exclude or rule.only),
            "foreign": self._foreign,
            "image_columns": tuple(
                column for column in self._columns if column.name not in self._left_out
            ),
            "condition_columns": self._condition_columns,
            "condition_functions": self._condition_functions,
            "delta_columns": tuple(
                column
                for column in self._columns
                if column.name not in (*self._left_out, *table.key) and not column.virtual
            ),
            "all_columns": tuple(column.name for column in self._columns),
            "guarded": self._guarded,
            "hidden": self.hidden,
            "known": self._known,
            "bulky_is_marked": rule.on_oversize is OnOversize.MARK,
            "partitioned": table.partitioned,
            "trigger_names": sorted({t.name for t in (*self.triggers, *self.leaf_triggers)}),
            "truncated_rows": rule.truncate is Truncate.ROWS or table.partitioned,
            "keeps_truncate": self.keeps_truncate,
            "settings": pinned_settings(table),
            "query_limit": QUERY_LIMIT,
            "longest_key": LONGEST,
            "keyframe_every": KEYFRAME_EVERY,
            "context_limit": CONTEXT_LIMIT,
            "bulky": _bulky_columns(table, rule),
            "bulky_bytes": OVERSIZE_BYTES,
            "context_example": json.dumps({rule.require_context: "..."}, ensure_ascii=False),
        }

    def replay_values(self, schema: str) -> dict[str, Any]:
        """What the template needs of the function that makes events of what is in the WAL.

        There, values of types that are not PostgreSQL's own are text.
        """
        columns = tuple(replace(c, plain_type=c.plain_type or "text") for c in self.table.columns)
        staged = replace(self, table=replace(self.table, columns=columns))
        columns_table, _, changes_view = wal_tables(self.function)
        return staged.values(schema) | {
            "replay": replay_function(self.function),
            "replay_comment": json.dumps({"tool": "audit-toolkit", "replays": self.function}),
            "columns_table": columns_table,
            "changes_view": changes_view,
        }

    @property
    def named_columns(self) -> frozenset[str]:
        """The columns that its rule names."""
        masked = (mask.column for mask in self.rule.mask)
        return frozenset((*self.rule.exclude, *self.rule.only, *masked))

    @property
    def _columns(self) -> tuple[Column, ...]:
        """By name: databases of one project may have them in different orders."""
        return tuple(sorted(self.table.columns, key=lambda column: column.name))

    @property
    def _foreign(self) -> bool:
        return any(column.plain_type is None for column in self.table.columns)

    @property
    def _masked(self) -> set[str]:
        return {mask.column for mask in self.rule.mask}

    @property
    def hidden(self) -> tuple[str, ...]:
        """The columns whose values are to appear nowhere in clear."""
        return tuple(sorted({*self.rule.exclude, *self._masked}))

    def has_key(self, columns: tuple[str, ...], numbering: Numbering) -> bool:
        """Whether its primary key is of these columns, whatever they are called now: triggers follow their numbers."""
        if not numbering.is_complete:
            return columns == self.table.key
        followed = (numbering.now(name, self.table.columns) for name in columns)
        return self.table.key == tuple(names[0] if names else "" for names in followed)

    @property
    def _known(self) -> tuple[str, ...]:
        """The columns that are surely not hidden ones under another name."""
        if any(self.table.column(name) is None for name in self.hidden):
            return tuple(sorted({*self.table.key, *self._masked}))
        return tuple(column.name for column in self._columns if column.name not in self._left_out)

    @property
    def _left_out(self) -> set[str]:
        """The columns that stay out of the trail."""
        if self.rule.only:
            kept = {*self.rule.only, *self.table.key}
            return {column.name for column in self.table.columns} - kept
        return set(self.rule.exclude)

    @property
    def _condition_columns(self) -> tuple[Column, ...]:
        used = names_of(self.rule.when) if self.rule.when else frozenset()
        return tuple(column for column in self._columns if column.name in used)

    @property
    def _condition_functions(self) -> tuple[QualifiedName, ...]:
        """What the condition calls that is not PostgreSQL's own, and may go away."""
        called = called_functions(self.rule.when) if self.rule.when else ()
        return tuple(
            QualifiedName(schema, name)
            for schema, name in called
            if schema not in (None, "pg_catalog")
        )

    @property
    def _guarded(self) -> tuple[tuple[str, str], ...]:
        """The columns that the function names, each with what `has_columns` is to ask of its type."""
        asked = dict.fromkeys(self._left_out, "any") | dict.fromkeys(self._masked, "plain")
        if self._foreign:
            asked |= {
                column.name: "plain" if column.plain_type else "foreign"
                for column in self._columns
                if column.name not in self._left_out
            }
        elif self.rule.only:
            asked = {}
        asked |= {c.name: c.plain_type or "foreign" for c in self._condition_columns}
        asked |= {
            column.name: f"exactly {column.plain_type}"
            for column in _bulky_columns(self.table, self.rule)
        }
        return tuple(sorted(asked.items()))

    @property
    def leaf_triggers(self) -> tuple[Trigger, ...]:
        """The triggers of each leaf of a partitioned table: TRUNCATE triggers are not passed down."""
        if not self.table.partitioned:
            return ()
        return (
            (_TRUNCATE_FORBIDDEN,) if self.rule.truncate is Truncate.FORBID else (_TRUNCATE_ROWS,)
        )


def check_rule(table: Table, rule: TableRule) -> Target:
    """The rule as the target of an installation; raises `RuleError` where table and rule do not fit."""
    for option, columns in (
        ("exclude", rule.exclude),
        ("only", rule.only),
        ("touch", rule.touch),
        ("mask", tuple(mask.column for mask in rule.mask)),
    ):
        for name in columns:
            _require_column(table, name, option)
    _require_key_for_deltas(table, rule)
    for option, hidden in (
        ("excluded", rule.exclude),
        ("masked", tuple(m.column for m in rule.mask)),
    ):
        if keyed := [name for name in hidden if name in table.key]:
            raise RuleError(
                f"column {keyed[0]!r} is part of the primary key of {table.name} and cannot be {option}",
                hint="the key says which row an event is about, so it must be recorded",
            )
    for column in table.columns:
        hidden_parts = column.computed_from & {*rule.exclude, *(m.column for m in rule.mask)}
        if hidden_parts and column.name in table.key:
            raise RuleError(
                f"column {min(hidden_parts)!r} cannot be hidden: {column.name!r}, part of the primary key of "
                f"{table.name}, is computed from it",
                hint="the key says which row an event is about, so the column must be recorded",
            )
    if rule.when and compares_rows(rule.when):
        raise RuleError(
            f"--when: {rule.when!r} compares old and new",
            hint="the condition is evaluated on the row before and on the row after, and a change "
            "is recorded if either matches: write it without old and new, such as: status <> "
            "'draft'",
        )
    _check_kind(table, rule)
    return Target(table=table, rule=rule)


def _check_kind(table: Table, rule: TableRule) -> None:
    if rule.capture is Capture.WAL and table.partitioned and not table.key:
        raise RuleError(
            f"{table.name} is partitioned and has no primary key: PostgreSQL would refuse updates of partitions that "
            "are made later",
            hint="give it a primary key, or use --capture row",
        )
    if rule.capture is Capture.WAL and table.unlogged:
        raise RuleError(
            f"{table.name} is unlogged: its changes are not in the WAL", hint="use --capture row"
        )
    virtual = [column.name for column in table.columns if column.virtual]
    if rule.capture is Capture.WAL and virtual:
        raise RuleError(
            f"column {virtual[0]!r} of {table.name} is a virtual generated column: PostgreSQL would refuse "
            "updates of the table once it is published",
            hint="use --capture row",
        )
    if rule.capture is Capture.STATEMENT and table.partitioned:
        raise RuleError(
            f"{table.name} is partitioned: statement triggers miss changes made directly in a partition",
            hint="use --capture row",
        )
    if rule.capture is Capture.STATEMENT and (table.inherits or table.heirs):
        raise RuleError(
            f"{table.name} is part of an inheritance tree, where a statement changes rows of several tables",
            hint="use --capture row for it and for every other table of the tree",
        )


def free_function(table: QualifiedName, installed: Iterable[Installed]) -> str:
    """The name of a capture function for a table, which no other one has that was called so before."""
    taken = {one.function for one in installed if one.table != table}
    names = (capture_function(table, number) for number in count(1))
    return next(name for name in names if name not in taken)


def with_dependants(target: Target) -> Target:
    """The target with its rule extended to generated columns that would give a hidden value away.

    What is computed from an excluded column is excluded, and what is computed from a masked one is redacted.
    """
    table, rule = target.table, target.rule
    masked = {mask.column for mask in rule.mask}
    hidden = {*rule.exclude, *masked}
    shown = {*table.key}
    dependants = [c for c in table.columns if c.name not in hidden and c.name not in shown]
    excluded = [c.name for c in dependants if c.computed_from & {*rule.exclude}]
    redacted = [
        Mask(column=c.name)
        for c in dependants
        if c.computed_from & masked
        and c.name not in excluded
        and (not rule.only or c.name in rule.only)
    ]
    if not excluded and not redacted:
        return target
    extended = replace(rule, exclude=(*rule.exclude, *excluded), mask=(*rule.mask, *redacted))
    return replace(target, rule=extended)


def _require_key_for_deltas(table: Table, rule: TableRule) -> None:
    if rule.store is Store.DELTA and not table.key:
        raise RuleError(
            f"{table.name} has no primary key, by which --store delta finds the event before",
            hint="use --store rows or --store changes, or give the table a primary key",
        )


def _require_column(table: Table, name: str, option: str) -> None:
    if table.column(name):
        return
    names = [column.name for column in table.columns]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    raise RuleError(
        f"--{option}: {table.name} has no column {name!r}",
        hint="did you mean " + " or ".join(close) + "?" if close else "it has " + ", ".join(names),
    )


def plan_capture(
    target: Target,
    schema: str,
    *,
    former_triggers: tuple[str, ...] = (),
) -> Plan:
    """The steps that put capture on a table, or change it to what `target` says.

    `former_triggers` are the names of ours that the table has already: those that the new rule does not
    use are dropped.
    """
    return Plan(
        steps=(
            _function_step(target, schema),
            *((_publish_step(target, schema),) if target.from_wal else ()),
            _trigger_step(target, schema, former_triggers),
        )
    )


def plan_uninstall(
    table: QualifiedName, schema: str, *, function: str | None = None, from_wal: bool = False
) -> Plan:
    """The steps that take capture off a table; its events stay.

    `function` is what captures it, where it is not named for the table: that was renamed.
    """
    function = function or capture_function(table)
    why = f"Capture of {table} ends; its events stay"
    return Plan(
        steps=(
            Step(
                why=why,
                statements=_released(table, schema, function, from_wal=from_wal),
                lock="ACCESS EXCLUSIVE",
            ),
        )
    )


def unpublished(table: QualifiedName, schema: str, function: str) -> tuple[str, ...]:
    """The SQL that takes back what the worker needed of a table, after it was captured from the WAL."""
    return tuple(
        render_statements(
            "wal/unpublish",
            schema=schema,
            table=table,
            replay=replay_function(function),
            publication=wal_publication(schema),
        )
    )


def _released(
    table: QualifiedName, schema: str, function: str, *, from_wal: bool
) -> tuple[str, ...]:
    release = tuple(render_statements("triggers/release", schema=schema, function=function))
    if not from_wal:
        return release
    hold = render_statements("wal/hold", table=table)
    return (*hold, *release, *unpublished(table, schema, function))


@lru_cache(maxsize=_TABLES)
def capture_hash(target: Target, schema: str) -> str:
    """The SHA-256 of what the rule renders to: equal hashes mean the same function and triggers."""
    parts = [*_render_function(target, schema), *_render_triggers(target, schema)]
    if target.from_wal:
        parts += _render_replay(target, schema)
    text = "\n".join(parts)
    return hashlib.sha256(text.encode()).hexdigest()


def own_values(target: Target) -> dict[str, str]:
    """What tables of one rule may have each for itself, beside their names, as it stands in the SQL."""
    table, values = target.table, with_dependants(target).values("audit")
    numbers = json.dumps(_numbers(target), ensure_ascii=False)
    own = {"columns": _literals(values["known"]), "numbers": f'"numbers": {numbers}'}
    if len(table.key) == 1:
        own["key"] = table.key[0]
    if not target.hidden:
        del own["columns"], own["numbers"]
    return own


def _literals(names: Iterable[str]) -> str:
    return ", ".join(quote_literal(name) for name in names)


def _numbers(target: Target) -> dict[str, int]:
    return {
        column.name: column.number
        for column in target.table.columns
        if column.name in target.named_columns and column.number is not None
    }


def capture_function_sql(target: Target, schema: str) -> str:
    """The statement that makes the function of `plan_capture`."""
    return _render_function(target, schema)[0]


def capture_comment(target: Target, schema: str) -> str:
    """The comment of the function: JSON that says which table and options it was made for, and its hash."""
    return json.dumps(
        {
            "tool": "audit-toolkit",
            "version": __version__,
            "table": [target.table.name.schema, target.table.name.name],
            "key": list(target.table.key),
            "options": target.rule.as_dict(),
            "numbers": _numbers(target),
            "hash": capture_hash(target, schema),
        },
        ensure_ascii=False,
    )


def former_statements(installed: Installed, target: Target, schema: str) -> tuple[str, ...]:
    """The SQL that puts back what the database has now, `target` being the rule it was made for.

    The function is taken from the catalogue, whatever version of the toolkit made it.
    """
    if capture_hash(target, schema) == installed.hash:
        return plan_capture(target, schema).statements
    function_name, values = installed.function, {"schema": schema, "table": target.table.name}
    return (
        *render_statements("triggers/begin", **values, function=function_name),
        installed.definition.strip(),
        *render_statements("triggers/lock_down", schema=schema, function=function_name),
        *render_statements(
            "triggers/comment", schema=schema, function=function_name, comment=installed.comment
        ),
        *render_statements("triggers/former_triggers", **values, triggers=installed.triggers),
        *_render_leaf_triggers(target, schema, function_name),
        *render_statements("triggers/note", **values, function=function_name),
    )


def _function_step(target: Target, schema: str) -> Step:
    comment = render_statements(
        "triggers/comment",
        schema=schema,
        function=target.function,
        comment=capture_comment(target, schema),
    )
    return Step(
        why=f"The function that captures {target.table.name}; only triggers can run it",
        statements=(*_render_begin(target, schema), *_render_function(target, schema), *comment),
        lock="SHARE ROW EXCLUSIVE",
    )


def _render_begin(target: Target, schema: str) -> tuple[str, ...]:
    """What notes a gap: before the function is made, as it compares the one that is there with what was installed."""
    values = {"schema": schema, "table": target.table.name, "function": target.function}
    return tuple(render_statements("triggers/begin", **values))


def _publish_step(target: Target, schema: str) -> Step:
    publish = render_statements(
        "wal/publish",
        schema=schema,
        table=target.table.name,
        publication=wal_publication(schema),
    )
    return Step(
        why=f"What the worker needs to read changes of {target.table.name} from the WAL",
        statements=(*_render_replay(target, schema), *publish),
        lock="ACCESS EXCLUSIVE",
    )


def _trigger_step(target: Target, schema: str, former: tuple[str, ...]) -> Step:
    names = tuple(trigger.name for trigger in target.triggers)
    unused = tuple(name for name in former if name not in names)
    table = target.table.name
    return Step(
        why=f"Its triggers on {table}",
        statements=(
            *_render_drops(table, unused),
            *_render_triggers(target, schema),
            *render_statements(
                "triggers/note", schema=schema, table=table, function=target.function
            ),
        ),
        undo=_released(table, schema, target.function, from_wal=target.from_wal),
        lock="SHARE ROW EXCLUSIVE" if not unused else "ACCESS EXCLUSIVE",
    )


def _render_drops(table: QualifiedName, triggers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(render_statements("triggers/drop_triggers", table=table, triggers=triggers))


@lru_cache(maxsize=_TABLES)
def _render_triggers(target: Target, schema: str) -> tuple[str, ...]:
    values = {"schema": schema, "table": target.table.name, "function": target.function}
    rendered = render_statements("triggers/triggers", **values, triggers=target.triggers)
    return (*rendered, *_render_leaf_triggers(target, schema, target.function))


def _render_leaf_triggers(target: Target, schema: str, function: str) -> tuple[str, ...]:
    on_leaves = target.leaf_triggers
    if not on_leaves:
        return ()
    names = {trigger.name for trigger in on_leaves}
    return tuple(
        render_statements(
            "triggers/leaf_triggers",
            schema=schema,
            table=target.table.name,
            function=function,
            triggers=on_leaves,
            unused=[t.name for t in (_TRUNCATE_ROWS, _TRUNCATE_FORBIDDEN) if t.name not in names],
        )
    )


@lru_cache(maxsize=_TABLES)
def _render_function(target: Target, schema: str) -> tuple[str, ...]:
    kind = Capture.ROW if target.from_wal else target.rule.capture
    rendered = render_statements(
        f"functions/capture_{kind}", **with_dependants(target).values(schema)
    )
    return tuple(rendered)


@lru_cache(maxsize=_TABLES)
def _render_replay(target: Target, schema: str) -> tuple[str, ...]:
    values = with_dependants(target).replay_values(schema)
    return tuple(render_statements("functions/replay_rows", **values))


# What a session can set that changes how values of a type are printed in JSON.
_SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
}
_SETTINGS_OF_TYPES = {
    "timestamptz": ("timezone",),
    "interval": ("intervalstyle",),
    "bytea": ("bytea_output",),
    "money": ("lc_monetary",),
    **dict.fromkeys(
        ("float4", "float8", "point", "line", "lseg", "box", "path", "polygon", "circle"),
        ("extra_float_digits",),
    ),
    **dict.fromkeys(
        (
            "regclass",
            "regcollation",
            "regconfig",
            "regdictionary",
            "regnamespace",
            "regoper",
            "regoperator",
            "regproc",
            "regprocedure",
            "regrole",
            "regtype",
        ),
        ("quote_all_identifiers",),
    ),
    # JSON prints dates in ISO form, but ranges print theirs as text.
    "range:date": ("datestyle",),
    "range:timestamp": ("datestyle",),
    "range:timestamptz": ("datestyle", "timezone"),
    # Types that are not PostgreSQL's own may print by any of them.
    "foreign": tuple(_SETTINGS),
}


def pinned_settings(table: Table) -> tuple[tuple[str, str], ...]:
    """The settings that the function of this table pins, because its column types make them matter."""
    parts = {part for column in table.columns for part in column.type_parts}
    parts |= {part.removeprefix("range:") for part in parts}
    if any(column.plain_type is None for column in table.columns):
        parts.add("foreign")  # its text may be printed by any of them
    wanted = {setting for part in parts for setting in _SETTINGS_OF_TYPES.get(part, ())}
    return tuple((name, value) for name, value in _SETTINGS.items() if name in wanted)
