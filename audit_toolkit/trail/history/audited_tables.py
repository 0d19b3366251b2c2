"""The tables that the trail knows, and the rows of several tables at once: what a page of them needs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_installed
from audit_toolkit.connection import fetch, planned_once
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import query, render
from audit_toolkit.trail.event import BIGGEST, Event
from audit_toolkit.trail.history.events import Selection, select_events
from audit_toolkit.trail.history.filter import Filter
from audit_toolkit.trail.history.read import stream_page
from audit_toolkit.trail.rows.lookup import (
    Scope,
    Subject,
    Tables,
    require_readable_trail,
    trail_table,
)
from audit_toolkit.trail.rows.renamed import as_called_now
from audit_toolkit.trail.rows.table_names import TableName, of_names, read_names

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

FIRST_STEP = 20_000
"""Events that are looked through before the time is asked,"""
MOST_STEP = 1_000_000
"""and at most at once, where an index made the steps before quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTable:
    """A table that is captured, or that the trail has events of."""

    table: QualifiedName
    captured: bool
    """Whether capture is installed on it."""
    columns: tuple[str, ...] = ()
    """The columns that it has now, in their order; empty when it was dropped."""
    key: tuple[str, ...] = ()
    """The columns of its primary key."""
    names: tuple[TableName, ...] = ()
    """Its names in the trail, the latest first."""

    def subject(self, schema: str = "audit") -> Subject:
        """The table as what a history is of."""
        return Subject(
            schema=schema,
            table=self.table,
            columns=self.columns,
            is_there=bool(self.columns),
            known=True,
            former_names=self.names,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Events, and where the next page begins."""

    events: tuple[Event, ...]
    border: int | None
    """`before` or `after` of the next page; None where nothing follows."""
    is_unfinished: bool = False
    """Whether the time was over before the page was full: what follows was not looked at."""


def known_tables(connection: Connection, *, schema: str = "audit") -> tuple[KnownTable, ...]:
    """All tables that the trail knows, by name: those that are captured, and those that were.

    A table that was renamed is there once, under its present name. Four queries, however many tables.
    Raises what `require_readable_trail` raises.
    """
    with planned_once(connection):
        return _known_tables(connection, schema)


def _known_tables(connection: Connection, schema: str) -> tuple[KnownTable, ...]:
    require_readable_trail(connection, schema)
    captured = [installed.table for installed in read_installed(connection, schema)]
    rows = fetch(connection, render("queries/trail_tables", trail=trail_table(schema)), {})
    recorded = [QualifiedName(row["schema_name"], row["table_name"]) for row in rows]
    names = read_names(connection, schema, [*captured, *recorded])
    former = {part.table for table in captured for part in names[table] if part.table != table}
    shown = sorted({*captured, *(t for t in recorded if t not in former and t.schema != schema)})
    shapes = _read_shapes(connection, shown)
    return tuple(
        KnownTable(
            table=table,
            captured=table in captured,
            columns=shapes.get(table, ((), ()))[0],
            key=shapes.get(table, ((), ()))[1],
            names=names[table],
        )
        for table in shown
    )


def scope_of(tables: Iterable[KnownTable], *, schema: str = "audit") -> Tables:
    """These tables as what a history is of; at least one."""
    known = tuple(tables)
    if not known:
        raise ValueError("no table: that would be a history of all")
    return Tables(
        schema=schema,
        names=tuple(one.table for one in known),
        known=True,
        columns=tuple(dict.fromkeys(column for one in known for column in one.columns)),
        named=tuple(name for one in known for name in one.names),
    )


def read_page(connection: Connection, scope: Scope, wanted: Filter) -> HistoryPage:
    """A page of the history of a table, a row, of several tables or of all.

    Events stand under the names that their tables and columns have now. Unlike `history`, it takes
    the number of any event for `before` and `after`.
    """
    page, stream = stream_page(connection, scope, wanted)
    events: list[Event] = list(stream)
    if isinstance(scope, Tables):
        events = as_called_now(connection, events, scope.schema) if events else []
    else:  # its query has given the columns their present names
        table = scope.table
        events = [replace(e, schema_name=table.schema, table_name=table.name) for e in events]
    return HistoryPage(events=tuple(events), border=page.border)


def read_page_within(
    connection: Connection, scope: Scope, wanted: Filter, *, seconds: float
) -> HistoryPage:
    """Like `read_page`, newest first, for what no index finds: looks only as long as the time is not over.

    The time is asked between steps, each of which is a part of the trail that is as long as the one before or
    longer. They go back from the newest, or forward where the page is one of the oldest. `border` is the place
    where to go on, also where nothing was found.
    """
    over = time.monotonic() + seconds
    forward, limit = wanted.oldest_of, wanted.limit or FIRST_STEP
    wanted = replace(wanted, newest_first=True, oldest=forward)
    found: tuple[Event, ...] = ()
    step = FIRST_STEP
    place = _nearest(connection, scope, wanted)
    while place is not None:
        began = time.monotonic()
        part, rest, border = _step_from(place, step, wanted)
        page = read_page(connection, scope, replace(part, limit=limit - len(found)))
        found = (*page.events, *found) if forward else (*found, *page.events)
        if page.border is not None:
            return HistoryPage(events=found, border=page.border)
        # What is skipped between two parts may be a wide gap, or of another time.
        place = _nearest(connection, scope, rest)
        now = time.monotonic()
        if place is not None and (now >= over or len(found) >= limit):
            return HistoryPage(events=found, border=border, is_unfinished=len(found) < limit)
        if now - began < seconds / 8:
            step = min(4 * step, MOST_STEP)
    return HistoryPage(events=found, border=None)


def _step_from(place: int, step: int, wanted: Filter) -> tuple[Filter, Filter, int]:
    """The part of the trail from a place on, what is beyond it, and the border that a page has between them."""
    if wanted.oldest_of:
        top = min(place + step, wanted.before or BIGGEST)
        part, rest = replace(wanted, after=place - 1, before=top), replace(wanted, after=top - 1)
        return part, rest, top - 1
    low = max(place - step, wanted.after or 0)
    return (
        replace(wanted, before=place + 1, after=low),
        replace(wanted, before=low + 1),
        low + 1,
    )


def _nearest(connection: Connection, scope: Scope, wanted: Filter) -> int | None:
    """The last event of the time and between the numbers of a filter, or the first, whatever else it asks for."""
    asked = {
        "after": wanted.after or 0,
        "before": BIGGEST if wanted.before is None else wanted.before,
        "since": wanted.since,
        "until": wanted.until,
    }
    sql = render(
        "queries/nearest_within",
        trail=trail_table(scope.schema),
        since=wanted.since is not None,
        until=wanted.until is not None,
        forward=wanted.oldest_of,
    )
    with planned_once(connection):
        rows = fetch(connection, sql, asked)
    return rows[0]["event_id"] if rows else None


def find_event(connection: Connection, event_id: int, *, schema: str = "audit") -> Event:
    """One event, under the names that its table and columns have now. Raises what `select_events` does."""
    events = select_events(connection, Selection(event_ids=(event_id,)), schema=schema)
    return as_called_now(connection, events, schema)[0]


def rows_with_key(
    connection: Connection, tables: Collection[KnownTable], key: str, *, schema: str = "audit"
) -> list[KnownTable]:
    """Those of the tables that have, or had, a row with this key, as the trail writes keys."""
    if not tables or "\x00" in key:
        return []
    sql = render("queries/rows_with_key", trail=trail_table(schema))
    asked = scope_of(tables, schema=schema).parameters | {"row_key": key}
    with planned_once(connection):
        rows = fetch(connection, sql, asked)
    found = {QualifiedName(row["schema_name"], row["table_name"]) for row in rows}
    return [one for one in tables if found & {name.table for name in one.names}]


def rows_there(
    connection: Connection, table: KnownTable, keys: Iterable[str], *, schema: str = "audit"
) -> set[str]:
    """Those of the keys whose rows are there now, as far as the trail knows."""
    names = table.names or (TableName(table=table.table),)
    sql = render("queries/rows_there", trail=trail_table(schema), names=names)
    with planned_once(connection):
        rows = fetch(connection, sql, {**of_names(names), "row_keys": list(keys)})
    return {row["row_key"] for row in rows}


def _read_shapes(
    connection: Connection, tables: Sequence[QualifiedName]
) -> dict[QualifiedName, tuple[tuple[str, ...], tuple[str, ...]]]:
    parameters = {
        "schemas": [table.schema for table in tables],
        "names": [table.name for table in tables],
    }
    return {
        QualifiedName(row["schema_name"], row["table_name"]): (
            tuple(row["columns"]),
            tuple(row["key"]),
        )
        for row in fetch(connection, query("table_shapes"), parameters)
    }
