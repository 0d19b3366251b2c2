"""An independent replayer: rebuilds tables from their events alone.

It shares no code with the toolkit, and knows of a table only its columns. A row is its image: each column with
the text of its JSON value. Keys are not needed, so a table without one is replayed like any other.

Within a transaction, the order of event ids may differ from the order of the changes (a trigger of the
application changes rows again before the first change is captured). Changes are therefore chained: a change
can follow once a row looks like its `old_row`. Between transactions, the last id decides: whoever waited for
a row's lock captured after that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

Connection = psycopg.Connection[TupleRow]

Image = frozenset[tuple[str, str]]
"""A row: its columns and the text of their JSON values."""

# Values as text: Python's own numbers would lose the scale of 1.10.
_EVENTS = """
    select
        table_name, event_id, transaction_id::text, action, row_key, old_row_key,
        (select jsonb_object_agg(key, value::text) from jsonb_each(old_row - %(computed)s::text[])),
        (select jsonb_object_agg(key, value::text) from jsonb_each(new_row - %(computed)s::text[])),
        old_row is not null, new_row is not null
    from audit.logged_actions
    where schema_name = %(schema)s and event_id > %(after)s
    order by table_name, event_id
"""
_COLUMNS = """
    select attname
    from pg_attribute
    where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated <> 'v'
    order by attnum
"""
# Bytes as the server sends rows to clients, with the type of every value; `missing` and `extra` as the trail has it.
_COMPARISON = """
    with live as (
        select record_send(row({columns})) as bytes from {table}
    ), rebuilt as (
        select record_send(row({columns}))
        from unnest(%s::jsonb[]) as image
        cross join lateral jsonb_populate_record(null::{table}, image)
    )
    (select 'missing', bytes from live except all select 'missing', * from rebuilt)
    union all
    (select 'extra', * from rebuilt except all select 'extra', bytes from live)
"""


class BrokenTrailError(AssertionError):
    """The events do not tell how the table came to be what it is."""


class Event(NamedTuple):
    """An event as the trail has it; `new` of an update holds the changed columns, or all of them."""

    event_id: int
    transaction: str
    action: str
    row_key: str | None
    old_row_key: str | None
    old: Image | None
    new: Image | None

    @property
    def after(self) -> Image | None:
        """The row after the event."""
        if self.action == "U" and self.old is not None and self.new is not None:
            return frozenset({**dict(self.old), **dict(self.new)}.items())
        return self.new


@dataclass(slots=True)
class Replay:
    """A table as its events tell it: apply them in any number of batches, whole transactions each."""

    rows: Counter[Image] = field(default_factory=Counter)

    def apply(self, events: Iterable[Event]) -> None:
        """Take up further events; raises `BrokenTrailError` for one that no known row can have had."""
        for transaction in _by_transaction(events):
            for truncate, changes in groupby(transaction, key=lambda event: event.action == "T"):
                if truncate:
                    self.rows.clear()
                else:
                    self._chain([event for event in changes if event.action in "IUDS"])

    def _chain(self, events: Sequence[Event]) -> None:
        # Every change takes a row away and brings one. There is an order of the changes in which each finds its
        # row exactly if no row is taken that is not there (the balance is not negative) and each change can be
        # reached from a row that was there or was inserted (Euler: a connected, balanced graph has a trail).
        _require_reachable(events, self.rows)
        self.rows.update(image for event in events if (image := event.after) is not None)
        self.rows.subtract(event.old for event in events if event.old is not None)
        if overdrawn := [dict(image) for image, count in self.rows.items() if count < 0]:
            raise BrokenTrailError(f"rows left more often than they came: {overdrawn}")
        self.rows = +self.rows


def _by_transaction(events: Iterable[Event]) -> list[list[Event]]:
    transactions: dict[str, list[Event]] = {}
    for event in sorted(events):
        transactions.setdefault(event.transaction, []).append(event)
    return sorted(transactions.values(), key=lambda events: events[-1].event_id)


def _require_reachable(events: Sequence[Event], rows: Mapping[Image, int]) -> None:
    reached = set(rows)
    waiting = list(events)
    while waiting:
        ready = [event for event in waiting if event.old is None or event.old in reached]
        if not ready:
            lost = waiting[0]
            raise BrokenTrailError(
                f"event {lost.event_id} ({lost.action} {lost.row_key}): no row was {dict(lost.old or ())}"
            )
        waiting = [event for event in waiting if not (event.old is None or event.old in reached)]
        reached.update(image for event in ready if (image := event.after) is not None)


def read_events(
    connection: Connection, schema: str, after: int = 0, *, computed: Sequence[str] = ()
) -> dict[str, list[Event]]:
    """The events of the tables of a schema with ids above `after`, by table.

    `computed` are columns that the server computes when it reads: they hold nothing, and triggers see NULL.
    """
    found: dict[str, list[Event]] = {}
    parameters = {"schema": schema, "after": after, "computed": list(computed)}
    for table, *facts, old, new, has_old, has_new in connection.execute(_EVENTS, parameters):
        images = (_image(old) if has_old else None, _image(new) if has_new else None)
        found.setdefault(table, []).append(Event._make((*facts, *images)))
    return found


def _image(columns: dict[str, str] | None) -> Image:
    return frozenset((columns or {}).items())


def require_keys(events: Iterable[Event], key: Sequence[str]) -> None:
    """Check that the events name their rows by the key within their images."""
    for event in events:
        if event.action not in "IUDS":
            continue  # about the table, not about a row
        before, after = _key_of(event.old, key), _key_of(event.after, key)
        named = before if event.action == "D" else after
        changed = before if event.action == "U" and before != after else None
        if (event.row_key, event.old_row_key) != (named, changed):
            raise BrokenTrailError(f"{event} does not name its row by {key}")


def _key_of(image: Image | None, key: Sequence[str]) -> str | None:
    if image is None or not key:
        return None
    values = [dict(image)[column] for column in key]
    if len(values) > 1:
        return f"[{', '.join(values)}]"
    return json.loads(values[0]) if values[0].startswith('"') else values[0]


def images_of(
    connection: Connection, table: str, *, computed: Sequence[str] = ()
) -> Counter[Image]:
    """The rows of a table that exists, as images; the session's settings decide how values are printed."""
    query = sql.SQL(
        "select (select jsonb_object_agg(key, value::text)"
        " from jsonb_each(audit.image_of(t) - %s::text[])) from {} as t"
    ).format(_qualified(table))
    return Counter(_image(image) for (image,) in connection.execute(query, (list(computed),)))


def fill(connection: Connection, table: str, like: str, rows: Counter[Image]) -> None:
    """Write rows into an empty table that has the columns of the table `like`, none of them computed."""
    query = sql.SQL(
        "insert into {} select made.* from unnest(%s::jsonb[]) as image"
        " cross join lateral jsonb_populate_record(null::{}, image) as made"
    ).format(_qualified(table), _qualified(like))
    connection.execute(query, ([_as_json(row) for row in rows.elements()],))


def differences(connection: Connection, table: str, rows: Counter[Image]) -> list[TupleRow]:
    """Compare with the live table, byte by byte: rows that the trail is missing, and rows that it has too much.

    `table` is `schema.table`, both unquoted. Columns that the server computes when it reads (virtual ones) are
    left out on both sides; stored generated columns are compared like all others.
    """
    name = _qualified(table)
    columns = [
        sql.Identifier(column)
        for (column,) in connection.execute(_COLUMNS, (name.as_string(connection),))
    ]
    query = sql.SQL(_COMPARISON).format(table=name, columns=sql.SQL(", ").join(columns))
    return connection.execute(query, ([_as_json(row) for row in rows.elements()],)).fetchall()


def require_equal(connection: Connection, table: str, rows: Counter[Image]) -> None:
    """Raise `BrokenTrailError` unless the rebuilt rows are those of the live table, byte by byte."""
    if found := differences(connection, table, rows):
        raise BrokenTrailError(f"{table} is not what its trail says: {found}")


def _as_json(image: Image) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in image) + "}"


def _qualified(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split(".", 1))
