"""What a question is about: a table of the trail, or one row of it, as somebody named it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from audit_toolkit.capture.selection import why_unsupported
from audit_toolkit.catalog import (
    Kind,
    Relation,
    find_relation,
    read_column_names,
    read_installed,
    read_relations,
    resolve,
)
from audit_toolkit.connection import fetch, import_psycopg, planned_once
from audit_toolkit.errors import (
    PermissionDeniedError,
    UnknownTableError,
    UnsupportedTableError,
    UsageError,
)
from audit_toolkit.long_keys import fitting
from audit_toolkit.names import QualifiedName, Sql, quote_identifier
from audit_toolkit.templates import query, render
from audit_toolkit.trail.rows.keys import (
    KeyColumn,
    equal_keys,
    key_parts,
    key_shape,
    literal_keys,
    read_key_columns,
    whole_key,
)
from audit_toolkit.trail.rows.table_names import LAST, TableName, find_names, name_now, of_names

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A table, or with `key` one row of it, that the trail is asked about."""

    schema: str
    """The schema of the trail."""
    table: QualifiedName
    """The table as the trail names it: for a partition, its root."""
    columns: tuple[str, ...] = ()
    """The columns that the table has now, in their order; empty when it was dropped."""
    is_there: bool = True
    """Whether the database has the table: the trail knows those that were dropped, too."""
    key: str | None = None
    """The key as the trail has it."""
    known: bool = False
    """Whether the trail has any event of it."""
    key_changed: bool = False
    """Whether an update ever gave this key to a row, or took it away."""
    equal_keys: tuple[str, ...] = ()
    """The key as the trail has it otherwise: 1.5 and 1.50 are one key of type numeric."""
    former_names: tuple[TableName, ...] = ()
    """The names of the table in the trail, the latest first, where it is not this one all the time."""
    asked_for: QualifiedName | None = None
    """The name by which somebody asked, which the table does not have any more."""
    is_looked_up: bool = True
    """Whether the trail was asked for the key; `known` and `key_changed` say nothing else."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The key and those equal to it, the one that the trail had last first; none of a whole table."""
        return () if self.key is None else (self.key, *self.equal_keys)

    @property
    def names(self) -> tuple[TableName, ...]:
        """The names of the table in the trail, the latest first."""
        return self.former_names or (TableName(table=self.table),)

    @property
    def parameters(self) -> dict[str, object]:
        """What every query about it is sent with."""
        return {
            "schema_name": self.table.schema,
            "table_name": self.table.name,
            "row_key": self.key,
            **of_names(self.names),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Several tables, or all that the trail has events of."""

    schema: str
    """The schema of the trail."""
    names: tuple[QualifiedName, ...] = ()
    """The tables as the trail names them; empty for all."""
    known: bool = False
    """Whether the trail has any event of them."""
    columns: tuple[str, ...] = ()
    """The columns of all of them."""
    named: tuple[TableName, ...] = ()
    """The names of each of them in the trail, the latest first."""

    @property
    def key(self) -> None:
        """No row of its own."""
        return None

    @property
    def table(self) -> str:
        """What it is called."""
        return ", ".join(map(str, self.names)) or "all tables"

    @property
    def parameters(self) -> dict[str, object]:
        """What every query about it is sent with."""
        return {
            "schema_names": [name.table.schema for name in self.named],
            "table_names": [name.table.name for name in self.named],
            "after_ids": [name.after for name in self.named],
            "until_ids": [name.until for name in self.named],
            **of_names(self.named),
        }


Scope: TypeAlias = Subject | Tables
"""What a history is of."""


def find_tables(connection: Connection, tables: Iterable[str], *, schema: str = "audit") -> Tables:
    """The tables that are meant, each as by `find_subject`; all of the trail if none is named."""
    subjects = [find_subject(connection, table, schema=schema) for table in tables]
    if subjects:
        return Tables(
            schema=schema,
            names=tuple(dict.fromkeys(subject.table for subject in subjects)),
            known=any(subject.known for subject in subjects),
            columns=tuple(dict.fromkeys(c for subject in subjects for c in subject.columns)),
            named=_latest_first(name for subject in subjects for name in subject.names),
        )
    require_readable_trail(connection, schema)
    sql = render("queries/has_any_events", trail=trail_table(schema))
    return Tables(schema=schema, known=bool(fetch(connection, sql, {})[0]["has_events"]))


def _latest_first(names: Iterable[TableName]) -> tuple[TableName, ...]:
    """Each once; where tables exchanged names, the one that has a name now comes before the one that had it."""
    each: list[TableName] = []
    for name in names:
        if name not in each:  # with former columns, they have no hash
            each.append(name)
    return tuple(sorted(each, key=lambda name: -name.after))


def find_subject(
    connection: Connection,
    table: str,
    key: object = None,
    *,
    schema: str = "audit",
    look_up: bool = True,
) -> Subject:
    """The table that is meant by `table`, and the row of it by `key`, also when they are gone.

    `key` is one value, or a tuple or list for a key of several columns; text is read as the server
    reads it. A table that was dropped is found by its events. Without `look_up`, a key that can be written in one
    way only is not looked for in the trail (`is_looked_up`).

    Raises:
        UsageError: there is no trail, the table is neither audited nor in the trail, or `key`
            cannot be a key of it.
        UnknownTableError: neither the database nor the trail has it; the hint has nearest names.
        PermissionDeniedError: the role may not read the trail.
    """
    with planned_once(connection):
        return _find_subject(connection, table, key, schema, look_up=look_up)


def _find_subject(
    connection: Connection, table: str, key: object, schema: str, *, look_up: bool
) -> Subject:
    require_readable_trail(connection, schema)
    relation = _find_relation(connection, table, schema)
    subject = _with_names(
        connection,
        Subject(
            schema=schema,
            table=relation.root or relation.name,
            columns=read_column_names(connection, relation),
            is_there=relation.oid != 0,
        ),
        relation,
    )
    if subject.asked_for is not None:
        relation = find_relation(connection, str(subject.table))
    if key is None:
        subject = replace(subject, known=_has_events(connection, subject))
    else:
        columns = read_key_columns(connection, relation.oid)
        if subject.columns and not columns:  # a view has no keys, and no history either
            _require_audited(connection, subject, relation)
        subject = _find_row(connection, subject, columns, key_parts(key), look_up=look_up)
    if subject.is_looked_up and not subject.known:
        _require_audited(connection, subject, relation)
    return subject


def trail_table(schema: str) -> Sql:
    """The table of the trail, as SQL that is sent with parameters."""
    return Sql(f"{quote_identifier(schema)}.logged_actions".replace("%", "%%"))


def require_readable_trail(connection: Connection, schema: str) -> None:
    """Raise `UsageError` or `PermissionDeniedError` where this role has no trail to read."""
    trails = {row["schema_name"]: row for row in fetch(connection, query("trails"))}
    if schema not in trails:
        others = [f"add --audit-schema {name}: that schema has a trail" for name in trails]
        raise UsageError(
            f"this database has no audit trail in the schema {quote_identifier(schema)}",
            hint=" or ".join(others)
            or "its migration comes from audit install --table TABLE; is this the right database, and was it upgraded?",
        )
    if not trails[schema]["readable"]:
        role, home = quote_identifier(trails[schema]["role_name"]), quote_identifier(schema)
        raise PermissionDeniedError(
            f"the role {role} may not read the audit trail {home}.logged_actions",
            hint=f"ask its owner to run: grant usage on schema {home} to {role}; grant select on "
            f"{home}.logged_actions to {role};",
        )


def warn_of_absence(connection: Connection, subject: Subject) -> None:
    """Have the server warn where capture of the table is off, and no event says so.

    A role that may only read the events learns nothing of it.
    """
    errors = import_psycopg().errors
    sql = render("queries/warn_of_absence", trail_schema=subject.schema)
    with suppress(errors.UndefinedFunction, errors.InsufficientPrivilege), connection.transaction():
        fetch(connection, sql, subject.parameters)


def warn_of_gap(
    connection: Connection, table: QualifiedName, key: str | None, moment: datetime, *, schema: str
) -> None:
    """Have the server warn where what the trail says of a row at a moment may lack changes, as capture was off."""
    errors = import_psycopg().errors
    sql = render("queries/warn_of_gap", trail_schema=schema)
    parameters = {
        "schema_name": table.schema,
        "table_name": table.name,
        "row_key": key,
        "until": moment,
    }
    with suppress(errors.UndefinedFunction, errors.InsufficientPrivilege), connection.transaction():
        fetch(connection, sql, parameters)


def since_when(connection: Connection, schema: str) -> str:
    """How far back the trail knows of changes, in words: "since capture began", or since events have left it."""
    errors = import_psycopg().errors
    left = None
    sql = render("queries/left_until", trail_schema=schema)
    with suppress(errors.UndefinedTable, errors.InsufficientPrivilege), connection.transaction():
        left = fetch(connection, sql, {})[0]["moment"]
    if left is None:
        return "since capture began"
    return (
        f"since {left.astimezone(UTC):%Y-%m-%d}: earlier events have left the database (audit "
        "partitions list, audit archive query)"
    )


def no_such_row(connection: Connection, subject: Subject) -> UsageError:
    """The error for a row of which the trail has no event."""
    return UsageError(
        f"no such row in the trail: {subject.table} {subject.key}",
        hint=f"if the row exists, it has not changed {since_when(connection, subject.schema)}; audit "
        "baseline records such rows",
    )


def _find_relation(connection: Connection, table: str, schema: str) -> Relation:
    try:
        return find_relation(connection, table)
    except UnknownTableError:
        relations = read_relations(connection)
        return resolve(table, [*relations, *_dropped_tables(connection, schema, relations)])


def _dropped_tables(
    connection: Connection, schema: str, relations: Sequence[Relation]
) -> list[Relation]:
    """The tables that only the trail knows, as relations without an oid."""
    there = {relation.name for relation in relations}
    positions = {relation.name.schema: relation.search_position for relation in relations}
    rows = fetch(connection, render("queries/trail_tables", trail=trail_table(schema)), {})
    names = [QualifiedName(row["schema_name"], row["table_name"]) for row in rows]
    return [
        Relation(
            oid=0,
            name=name,
            kind=Kind.TABLE,
            temporary=False,
            unlogged=False,
            is_system=False,
            root=None,
            inherits=False,
            has_children=False,
            owned=False,
            may_trigger=False,
            search_position=positions.get(name.schema, 0),
        )
        for name in names
        if name not in there
    ]


def _with_names(connection: Connection, subject: Subject, relation: Relation) -> Subject:
    """The subject with its names in the trail; of a name that its table has left, that table."""
    names = find_names(connection, subject.schema, subject.table)
    found = replace(subject, former_names=names)
    is_table = relation.oid and relation.kind in (Kind.TABLE, Kind.PARTITIONED_TABLE)
    if is_table and names[0].after != LAST:
        return found
    now = name_now(connection, subject.schema, subject.table)
    if now is None:
        return found
    there = {r.name: r for r in read_relations(connection, {now.name})}.get(now)
    if is_table:
        raise UsageError(
            f"{subject.table} is not audited, and the events under its name belong to the "
            f"table now called {now}",
            hint=f"audit history {now}",
        )
    now_names = () if there is None else find_names(connection, subject.schema, now)
    if there is None or subject.table not in {name.table for name in now_names}:
        return found
    return replace(
        subject,
        table=now,
        columns=read_column_names(connection, there),
        is_there=True,
        former_names=now_names,
        asked_for=subject.table,
    )


def _has_events(connection: Connection, subject: Subject) -> bool:
    if subject.names[0].after == LAST:
        return False
    sql = render("queries/has_events", trail=trail_table(subject.schema), names=subject.names)
    return bool(fetch(connection, sql, subject.parameters)[0]["has_events"])


def _find_row(
    connection: Connection,
    subject: Subject,
    columns: Sequence[KeyColumn],
    parts: Sequence[str],
    *,
    look_up: bool,
) -> Subject:
    whole = whole_key(connection, columns, parts)
    key = whole and fitting(whole)
    if not look_up and (key,) == tuple(parts) and all(column.is_exact for column in columns):
        return replace(subject, key=key, is_looked_up=False)
    if key is None:
        candidates = literal_keys(parts)  # the key may have had other columns before
    else:
        candidates = [key, *parts] if len(columns) == 1 else [key, str(whole)]
    sql = render("queries/known_keys", trail=trail_table(subject.schema), names=subject.names)
    trail = trail_table(subject.schema)
    equal: tuple[str, ...] = ()
    if key is not None:
        equal = equal_keys(connection, columns, parts, trail, subject.names, subject.parameters)
    if equal and equal != (key,):
        return replace(subject, key=equal[-1], known=True, key_changed=True, equal_keys=equal[:-1])
    known = fetch(connection, sql, subject.parameters | {"row_keys": candidates})
    if key and whole != key and {key, whole} <= {row["row_key"] for row in known}:
        return replace(subject, key=key, known=True, key_changed=True, equal_keys=(str(whole),))
    if known:
        return replace(subject, key=known[0]["row_key"], known=True, key_changed=known[0]["moved"])
    if key is None and subject.is_there:
        raise _impossible_key(subject, columns, parts)
    return replace(subject, key=candidates[0])


def _impossible_key(
    subject: Subject, columns: Sequence[KeyColumn], parts: Sequence[str]
) -> UsageError:
    if not columns:
        return UsageError(
            f"{subject.table} has no primary key: its rows cannot be told apart",
            hint="leave out the key to see the history of the whole table",
        )
    typed = " ".join(ascii(part) for part in parts)
    return UsageError(f"{typed} cannot be a key of {subject.table}", hint=key_shape(columns))


def _require_audited(connection: Connection, subject: Subject, relation: Relation) -> None:
    installed = read_installed(connection, subject.schema)
    if any(capture.table == subject.table for capture in installed):
        return
    if _has_events(connection, subject):
        return
    reason = None if relation.root else why_unsupported(relation, trail_schema=subject.schema)
    if reason:
        raise UnsupportedTableError(f"{subject.table} has no history: {reason[0]}", hint=reason[1])
    raise UsageError(
        f"{subject.table} is not audited, and the trail has no events of it",
        hint=f"audit install --table {subject.table} starts its history",
    )
