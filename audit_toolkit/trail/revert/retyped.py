"""What was recorded, as the present types of the columns have it.

A number that became numeric(10,2) looks different now, and a citext key that is written otherwise is
the same key: nobody changed either. Time travel reads rows so, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_toolkit import exact_json
from audit_toolkit.connection import fetch, prepared_session
from audit_toolkit.errors import AuditError
from audit_toolkit.names import QualifiedName, Sql, quote_identifier
from audit_toolkit.templates import render
from audit_toolkit.trail.event import Action, Event, Row, redaction_of, table_of
from audit_toolkit.trail.revert.operations import is_stand_in
from audit_toolkit.trail.revert.targets import RevertTarget, find_homes, key_values_of
from audit_toolkit.trail.rows.keys import read_key_columns
from audit_toolkit.trail.time_travel import answered

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

AT_ONCE = 2000
"""So many rows are sent in one question."""

SameKeys = dict[QualifiedName, dict[str, str]]
"""For keys of tables that are equal to another one: the first of those, which stands for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retyped:
    """Events, their rows as they would be recorded now, and which of their keys are one."""

    events: tuple[Event, ...]
    same_keys: SameKeys


def as_typed_now(connection: Connection, events: Sequence[Event], schema: str) -> Retyped:
    """The events as the present types of their tables have them; of tables that are gone, as they are.

    A value that the present type refuses stays as it was recorded.
    """
    by_table: dict[QualifiedName, list[int]] = defaultdict(list)
    for place, event in enumerate(events):
        if event.action in (Action.INSERT, Action.UPDATE, Action.DELETE):
            by_table[table_of(event)].append(place)
    read = list(events)
    same_keys: SameKeys = {}
    for table, home in find_homes(connection, by_table, schema).items():
        places = by_table[table]
        own = [events[place] for place in places]
        rows = rows_typed_now(connection, home, [r for e in own for r in (e.old_row, e.new_row)])
        for number, place in enumerate(places):
            old, new = rows[2 * number : 2 * number + 2]
            if old is not events[place].old_row or new is not events[place].new_row:
                read[place] = replace(events[place], old_row=old, new_row=new)
        retyped = any(read[place] is not events[place] for place in places)
        same_keys[table] = _same_keys(connection, home, own, retyped=retyped)
    return Retyped(events=tuple(read), same_keys=same_keys)


def row_typed_now(connection: Connection, home: RevertTarget, row: Row) -> Row:
    """The row as it would be recorded now."""
    return rows_typed_now(connection, home, [row])[0] or row


def rows_typed_now(
    connection: Connection, home: RevertTarget, rows: Sequence[Row | None]
) -> list[Row | None]:
    """The rows, each the same object where it would be recorded now as it was."""
    read = list(rows)
    by_columns: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if row:
            by_columns[tuple(_readable(home, row))].append(place)
    for columns, places in by_columns.items():
        if columns:
            for start in range(0, len(places), AT_ONCE):
                part = places[start : start + AT_ONCE]
                images = [{c: (rows[place] or {})[c] for c in columns} for place in part]
                for place, image in _read(connection, home, columns, images):
                    read[part[place]] = (rows[part[place]] or {}) | image
    return read


def _readable(home: RevertTarget, row: Row) -> Iterator[str]:
    unknown = (*home.hidden, *home.excluded)
    for column, value in row.items():
        is_known = not is_stand_in(value) and redaction_of(value) is None
        if column in home.types and column not in unknown and is_known:
            yield column


def _read(
    connection: Connection, home: RevertTarget, columns: Sequence[str], images: Sequence[Row]
) -> Iterable[tuple[int, Row]]:
    """The images that look different now, by their place; without values that a type refuses."""
    listed = tuple(
        (_sql(quote_identifier(c)), _sql(home.types[c]), c in home.foreign) for c in columns
    )
    sql = render("queries/as_typed_now", columns=listed)
    try:
        with answered(), prepared_session(connection):
            found = fetch(connection, sql, {"images": exact_json.dumps(list(images))})
    except AuditError:
        if len(columns) == 1:
            return
        for column in columns:
            yield from _read(connection, home, [column], [{column: i[column]} for i in images])
        return
    yield from ((row["place"] - 1, exact_json.loads(row["image"])) for row in found)


def _same_keys(
    connection: Connection, home: RevertTarget, events: Iterable[Event], *, retyped: bool
) -> dict[str, str]:
    columns = read_key_columns(connection, home.table.oid)
    if not columns or (not retyped and all(column.is_exact for column in columns)):
        return {}
    named = dict.fromkeys(k for e in events for k in (e.key_before, e.row_key) if k is not None)
    keys = [key for key in named if _fits(key, len(columns))]
    if len(keys) < 2:
        return {}
    listed = tuple(
        (_sql(quote_identifier(c.name)), _sql(c.unlimited_type_name), _sql(c.collation))
        for c in columns
    )
    asked = {"keys": exact_json.dumps([key_values_of(home.table, key) for key in keys])}
    try:
        with answered(), prepared_session(connection):
            found = fetch(connection, render("queries/same_keys", columns=listed), asked)
    except AuditError:  # keys of a former type
        return {}
    return {keys[row["place"] - 1]: keys[row["first"] - 1] for row in found}


def _fits(key: str, columns: int) -> bool:
    """Whether a key, as the trail has it, is one of so many columns."""
    if columns == 1:
        return True
    try:
        values = exact_json.loads(key)
    except ValueError:
        return False
    return isinstance(values, list) and len(values) == columns


def _sql(text: str | None) -> Sql | None:
    return Sql(text.replace("%", "%%")) if text else None
