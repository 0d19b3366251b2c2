"""Keys: from how people and programs write them to how the trail has them.

The trail has a key of one column as its text within JSON, and one of several as a JSON array. What
that text is depends on the type (a uuid in upper case, a time in another zone), so the server is
asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.connection import fetch, import_psycopg, prepared_session
from audit_toolkit.errors import UsageError
from audit_toolkit.exact_json import Json
from audit_toolkit.long_keys import fitting
from audit_toolkit.names import Sql
from audit_toolkit.templates import render
from audit_toolkit.trail.rows.table_names import TableName

if TYPE_CHECKING:
    import psycopg

_MOST_READINGS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyColumn:
    """A column of a primary key; its type as SQL, once without length or precision."""

    name: str
    type_name: Sql
    unlimited_type_name: Sql
    collation: Sql | None = None
    """What its text is sorted by, None for types that have none."""
    is_exact: bool = True
    """Whether two values are equal only if their texts are the same: not so of 1.5 and 1.50."""


def read_key_columns(connection: psycopg.Connection[Any], table_oid: int) -> tuple[KeyColumn, ...]:
    """The columns of a table's primary key, in its order; empty without one."""
    return tuple(
        KeyColumn(
            name=row["name"],
            type_name=Sql(row["type_name"]),
            unlimited_type_name=Sql(row["unlimited_type_name"]),
            collation=Sql(row["collation"]) if row["collation"] else None,
            is_exact=row["is_exact"],
        )
        for row in fetch(connection, render("queries/key_columns"), {"table": table_oid})
    )


def key_parts(key: object) -> tuple[str, ...]:
    """The values of a key, one a column, as text: `42` and `"42"` have one, `("eu", 42)` has two.

    Raises `UsageError` for text that no PostgreSQL database can hold.
    """
    values = key if isinstance(key, tuple | list) else (key,)
    return tuple(_as_text(value) for value in values)


def normalise_key(
    connection: psycopg.Connection[Any], columns: Sequence[KeyColumn], parts: Sequence[str]
) -> str | None:
    """The key as capture writes it for a table with these key columns, None if it cannot be one.

    One part may hold all: the JSON array that the trail has for a key of several columns.
    Changes no setting of the session and no state of its transaction.
    """
    whole = whole_key(connection, columns, parts)
    return whole and fitting(whole)


def whole_key(
    connection: psycopg.Connection[Any], columns: Sequence[KeyColumn], parts: Sequence[str]
) -> str | None:
    """The key as it is, however long: as releases before 0.3.0 wrote it, where an index took it."""
    values = key_values(columns, parts)
    if not columns or values is None:
        return None
    psycopg = import_psycopg()
    sql = render("queries/key", columns=[escaped(column) for column in columns])
    try:
        with prepared_session(connection):
            rows = fetch(connection, sql, {f"part_{i}": v for i, v in enumerate(values)})
    except (psycopg.DataError, psycopg.ProgrammingError, psycopg.IntegrityError):
        return None
    return rows[0]["row_key"] if rows else None


def equal_keys(
    connection: psycopg.Connection[Any],
    columns: Sequence[KeyColumn],
    parts: Sequence[str],
    trail: Sql,
    names: Sequence[TableName],
    parameters: Mapping[str, object],
) -> tuple[str, ...]:
    """The keys that the trail has of a table and that are equal to this one, the newest last.

    Reads all events of the table, if its key can be equal without being the same text. Where the
    trail has keys of a former type, nothing is.
    """
    values = key_values(columns, parts)
    if values is None or all(column.is_exact for column in columns):
        return ()
    psycopg = import_psycopg()
    sql = render(
        "queries/equal_keys", trail=trail, names=names, columns=[escaped(c) for c in columns]
    )
    asked = {**parameters, **{f"part_{i}": value for i, value in enumerate(values)}}
    try:
        with prepared_session(connection):
            return tuple(row["key"] for row in fetch(connection, sql, asked))
    except psycopg.DataError:
        return ()


def key_values(columns: Sequence[KeyColumn], parts: Sequence[str]) -> tuple[str, ...] | None:
    """A value for each of these columns: the parts, or the elements of the JSON array that one is.

    None where it is another number of values.
    """
    values = parts if len(parts) == len(columns) else _array_elements(parts) or ()
    return tuple(map(_scalar, values)) if len(values) == len(columns) else None


def literal_keys(parts: Sequence[str]) -> list[str]:
    """What the key may look like in the trail if no table says what its columns are."""
    if len(parts) == 1:
        values = _array_elements(parts)
        return [parts[0]] if values is None else [parts[0], exact_json.dumps(values)]
    readings = itertools.product(*(_readings(part) for part in parts))
    return [exact_json.dumps(reading) for reading in itertools.islice(readings, _MOST_READINGS)]


def key_shape(columns: Sequence[KeyColumn]) -> str:
    """How a key of these columns is written on the command line, in words."""
    if len(columns) == 1:
        return f"a key is one value of type {columns[0].type_name} ({columns[0].name})"
    names = ", ".join(f"{column.name} {column.type_name}" for column in columns)
    blanks = " ".join(column.name.upper() for column in columns)
    return f"a key is {len(columns)} values ({names}): write them as {blanks}, or as one JSON array"


def _as_text(value: object) -> str:
    text = "\\x" + value.hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(
            f"{text!a} cannot be a key", hint="PostgreSQL stores neither U+0000 nor broken Unicode"
        )
    return text


def _scalar(value: Json) -> str:
    return value if isinstance(value, str) else exact_json.dumps(value)


def _array_elements(parts: Sequence[str]) -> list[Json] | None:
    """The elements of the JSON array that the only part is."""
    value = _loads(parts[0]) if len(parts) == 1 else None
    return value if isinstance(value, list) else None


def _readings(part: str) -> list[Json]:
    """What a part may be in an array: a number or a boolean, and the text that it is."""
    value = _loads(part)
    return [value, part] if isinstance(value, bool | int | Decimal) else [part]


def _loads(text: str) -> Json:
    try:
        return exact_json.loads(text)
    except ValueError:
        return None


def escaped(column: KeyColumn) -> KeyColumn:
    """The column for SQL with parameters, where a percent sign in a name would be taken for one."""
    return KeyColumn(
        name=column.name,
        type_name=_doubled(column.type_name),
        unlimited_type_name=_doubled(column.unlimited_type_name),
        collation=column.collation and _doubled(column.collation),
        is_exact=column.is_exact,
    )


def _doubled(sql: Sql) -> Sql:
    return Sql(sql.replace("%", "%%"))
