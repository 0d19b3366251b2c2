"""Read the catalogues: no locks beyond those of a SELECT, one round trip for each kind of thing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog.model import (
    Column,
    Installed,
    InstalledTrigger,
    Kind,
    Numbering,
    Relation,
    Table,
)
from audit_toolkit.connection import fetch
from audit_toolkit.errors import UnknownTableError
from audit_toolkit.names import NamePattern, QualifiedName
from audit_toolkit.templates import query, render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

MARKER = "audit-toolkit"
"""The value of `tool` in the JSON comment of everything that this package made."""


def read_relations(connection: Connection, names: Collection[str] | None = None) -> list[Relation]:
    """Every table, view and foreign table of the database, whoever owns it; or all of these names."""
    return [
        Relation(
            oid=row["oid"],
            name=QualifiedName(row["schema_name"], row["table_name"]),
            kind=Kind(row["kind"]),
            temporary=row["persistence"] == "t",
            unlogged=row["persistence"] == "u",
            is_system=row["is_system"],
            root=QualifiedName(row["root_schema"], row["root_name"]) if row["root_name"] else None,
            inherits=row["inherits"],
            has_children=row["has_children"],
            owned=row["owned"],
            may_trigger=row["may_trigger"],
            search_position=row["search_position"],
        )
        for row in fetch(
            connection, query("relations"), {"names": None if names is None else sorted(names)}
        )
    ]


def find_relation(connection: Connection, text: str) -> Relation:
    """The relation that somebody means, as `resolve` finds it; others are read only for its errors."""
    name = NamePattern.parse(text).name
    named = read_relations(connection, {name, name.lower()})
    try:
        return resolve(text, named)
    except UnknownTableError:
        return resolve(text, read_relations(connection))


def resolve(text: str, relations: Sequence[Relation]) -> Relation:
    """The relation that somebody means by `orders`, `public.orders` or `"Wei.rd"."Table"`.

    Case is kept first and folded second, so that `Orders` finds `"Orders"`, else `orders`. A name without
    schema is looked up along the search_path, then anywhere if only one schema has it.
    Raises `UnknownTableError` with the nearest names.
    """
    pattern = NamePattern.parse(text)
    for fold in (False, True):
        found = [relation for relation in relations if pattern.matches(relation.name, fold=fold)]
        on_path = sorted((r for r in found if r.search_position), key=lambda r: r.search_position)
        if pattern.schema is None and on_path:
            return on_path[0]
        user_found = [r for r in found if not r.is_system] or found
        if len(user_found) == 1:
            return user_found[0]
        if user_found:
            raise UnknownTableError(
                f"several schemas have a table {pattern.name!r}, and none of them is on the "
                "search_path",
                hint="name one of " + ", ".join(str(r.name) for r in user_found),
            )
    raise UnknownTableError(
        f"table {text!r} does not exist in this database", hint=_nearest(pattern, relations)
    )


def _nearest(pattern: NamePattern, relations: Sequence[Relation]) -> str:
    trails = {r.name.schema for r in relations if r.name.name == "logged_actions"}
    ours = [
        r for r in relations if not r.is_system and r.root is None and r.name.schema not in trails
    ]
    spellings = {r.name.name.lower(): r for r in ours} | {f"{r.name}".lower(): r for r in ours}
    typed = f"{pattern.schema}.{pattern.name}" if pattern.schema else pattern.name
    close = difflib.get_close_matches(typed.lower(), spellings, n=6, cutoff=0.5)
    names = list(dict.fromkeys(str(spellings[name].name) for name in close))[:3]
    if names:
        return "did you mean " + " or ".join(names) + "?"
    if ours:
        return (
            "the database has "
            + ", ".join(str(r.name) for r in ours[:5])
            + (", …" if len(ours) > 5 else "")
        )
    return "the database has no tables: is it the right one?"


def read_table(connection: Connection, relation: Relation) -> Table:
    """The columns, the key, the leaves and the heirs of a table."""
    return read_tables(connection, [relation])[relation]


def read_tables(connection: Connection, relations: Iterable[Relation]) -> dict[Relation, Table]:
    """The same of each of these relations, in one query for all of their columns."""
    asked = list(relations)
    columns: dict[int, list[Column]] = {relation.oid: [] for relation in asked}
    for row in fetch(connection, query("columns"), {"tables": list(columns)}):
        columns[row["table_oid"]].append(_column(row))
    return {each: _table(connection, each, tuple(columns[each.oid])) for each in asked}


def _table(connection: Connection, relation: Relation, columns: tuple[Column, ...]) -> Table:
    partitioned = relation.kind is Kind.PARTITIONED_TABLE
    leaves = (
        fetch(connection, query("table_leaves"), {"table": relation.oid}) if partitioned else []
    )
    return Table(
        oid=relation.oid,
        name=relation.name,
        partitioned=partitioned,
        unlogged=relation.unlogged,
        inherits=relation.inherits,
        heirs=tuple(_heirs(connection, relation)) if relation.has_children else (),
        leaves=tuple(QualifiedName(row["schema_name"], row["table_name"]) for row in leaves),
        columns=columns,
    )


def _column(row: Mapping[str, Any]) -> Column:
    return Column(
        name=row["name"],
        type_name=row["type_name"],
        not_null=row["not_null"],
        generated=bool(row["generated"]),
        identity=bool(row["identity"]),
        key_position=row["key_position"],
        type_parts=frozenset(row["type_parts"] or ()),
        computed_from=frozenset(row["computed_from"]),
        number=row["number"],
        comment=row["comment"],
        plain_type=row["plain_type"],
        virtual=row["generated"] == "v",
    )


def _heirs(connection: Connection, relation: Relation) -> Iterator[Relation]:
    found = {
        row["oid"]: row["name"]
        for row in fetch(connection, query("heirs"), {"table": relation.oid})
    }
    named = read_relations(connection, set(found.values()))
    yield from (heir for heir in named if heir.oid in found)


def read_column_names(connection: Connection, relation: Relation) -> tuple[str, ...]:
    """What the columns of a table are called, in their order; cheaper than `read_table`."""
    rows = fetch(connection, query("column_names"), {"table": relation.oid})
    return tuple(row["name"] for row in rows)


def read_trail(connection: Connection, schema: str) -> dict[str, Any] | None:
    """What the comment of `logged_actions` records, `{}` when the table is not ours, None without one."""
    rows = fetch(connection, query("trail"), {"schema": schema})
    return parse_comment(rows[0]["comment"]) if rows else None


def read_installed(connection: Connection, schema: str) -> list[Installed]:
    """Capture of every audited table, as the database has it."""
    rows = fetch(connection, query("installed"), {"schema": schema})
    noted = read_installed_columns(connection, schema)
    found = []
    for _, group in groupby(rows, key=lambda row: row["function_oid"]):
        entries = list(group)
        first, recorded = entries[0], parse_comment(entries[0]["comment"])
        if recorded:
            made_for = QualifiedName(*recorded["table"])
            table = _captured_table(entries) or made_for
            found.append(
                Installed(
                    function=first["function_name"],
                    table=table,
                    made_for=made_for,
                    options=recorded["options"],
                    numbering=numbering(first["function_name"], recorded, noted),
                    hash=recorded["hash"],
                    toolkit=recorded["version"],
                    definition=first["function_definition"],
                    comment=first["comment"],
                    triggers=tuple(
                        InstalledTrigger(
                            name=entry["trigger_name"],
                            state=entry["trigger_state"],
                            definition=entry["trigger_definition"],
                        )
                        for entry in entries
                        if (entry["schema_name"], entry["table_name"]) == (table.schema, table.name)
                    ),
                )
            )
    return found


def read_installed_columns(connection: Connection, schema: str) -> dict[str, dict[str, int]]:
    """By capture function, the numbers of the columns that its table had when it was installed, by their names.

    Nothing of a table that is another one than the trail knows, as after a restore; nothing at all where the
    trail is of an older release, or keeps it from the role that asks.
    """
    (found,) = fetch(connection, render("queries/may_read_columns", schema=schema))
    if not found["may_read"]:
        return {}
    rows = fetch(connection, render("queries/installed_columns", schema=schema))
    return {
        row["function_name"]: {
            name: int(number) for number, name in row["installed_columns"].items()
        }
        for row in rows
    }


def numbering(
    function: str, recorded: Mapping[str, Any], noted: Mapping[str, Mapping[str, int]]
) -> Numbering:
    """What is known of the columns of a table: from the registry, else from the comment of its function."""
    if function in noted:
        return Numbering(numbers=noted[function], is_complete=True)
    return Numbering(numbers=recorded.get("numbers", {}), is_complete=False)


def _captured_table(entries: Sequence[Mapping[str, Any]]) -> QualifiedName | None:
    """The table that a capture function is on; None if on none or, by somebody's hand, on several."""
    tables = {
        QualifiedName(entry["schema_name"], entry["table_name"])
        for entry in entries
        if entry["trigger_name"] and not entry["on_partition"] and entry["captures_rows"]
    }
    return tables.pop() if len(tables) == 1 else None


def parse_comment(comment: str | None) -> dict[str, Any]:
    """The JSON that this package left in a COMMENT; `{}` for anybody else's."""
    try:
        recorded = json.loads(comment or "")
    except ValueError:
        return {}
    return recorded if isinstance(recorded, dict) and recorded.get("tool") == MARKER else {}
