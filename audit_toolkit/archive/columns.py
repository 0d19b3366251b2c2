"""The columns of an event in the archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit_toolkit.archive.optional_packages import arrow


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, the SQL that reads it exactly, and its types in COPY and in Parquet."""

    name: str
    expression: str
    postgres: str = "text"
    arrow: str = "string"


def _text(name: str) -> Column:
    return Column(name, f"{name}::text")


COLUMNS = (
    Column("event_id", "event_id", "int8", "int64"),
    Column(
        "action_tstamp",
        "(extract(epoch from action_tstamp) * 1000000)::bigint",
        "int8",
        "timestamp",
    ),
    Column("transaction_id", "transaction_id::text::bigint", "int8", "int64"),
    *map(_text, ("schema_name", "table_name", "action", "row_key", "old_row_key")),
    *map(_text, ("old_row", "new_row", "context")),
    *map(_text, ("session_user_name", "role_name", "application_name")),
    # By way of the output function, as the cast to text would add the length of the mask.
    Column("client_addr", "nullif(concat(client_addr), '')"),
    _text("query"),
    Column(
        "transaction_tstamp",
        "(extract(epoch from transaction_tstamp) * 1000000)::bigint",
        "int8",
        "timestamp",
    ),
)
NAMES = tuple(column.name for column in COLUMNS)
TEXTS = tuple(column.name for column in COLUMNS if column.arrow == "string")
TEXT = slice(NAMES.index(TEXTS[0]), NAMES.index(TEXTS[-1]) + 1)
"""Where the texts are in a row: all in one place."""
SCHEMA_NAME, TABLE_NAME = NAMES.index("schema_name"), NAMES.index("table_name")


def arrow_schema() -> Any:
    """The schema of every file."""
    pa = arrow()
    types = {
        "int64": pa.int64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "string": pa.string(),
    }
    return pa.schema([pa.field(column.name, types[column.arrow]) for column in COLUMNS])


def as_table(rows: Sequence[Sequence[Any]]) -> Any:
    """Rows as COPY gives them, as an Arrow table."""
    pa, schema = arrow(), arrow_schema()
    arrays = [
        pa.array(values, type=pa.int64() if pa.types.is_timestamp(wanted.type) else wanted.type)
        for values, wanted in zip(zip(*rows, strict=True), schema, strict=False)
    ]
    return pa.table([a.cast(f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema)
