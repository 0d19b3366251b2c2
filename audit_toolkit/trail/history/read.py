"""The history of a table or of a row: who changed it, when, from what to what."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from audit_toolkit.connection import fetch, import_psycopg, planned_once, refusals
from audit_toolkit.errors import UsageError
from audit_toolkit.trail.event import Action, Event
from audit_toolkit.trail.history.filter import Filter, Reach, history_query
from audit_toolkit.trail.history.full_images import completed, whole_events, with_event
from audit_toolkit.trail.history.ordering import WINDOW, in_order_streamed
from audit_toolkit.trail.history.pages import Page, cut_page, require_event_of, small_page
from audit_toolkit.trail.history.row_events import events_around, own_events
from audit_toolkit.trail.history.transactions import require_one_transaction
from audit_toolkit.trail.rows.key_range import find_range, unreadable_keys
from audit_toolkit.trail.rows.lookup import Scope, Tables, find_subject, find_tables

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

T = TypeVar("T")

FETCH_SIZE = 500
"""Rows that a streamed history asks the server for at a time."""
CHUNK = 50
"""Rows that libpq hands over at a time of an answer that is still coming in: more of them save nothing."""


def history(
    connection: Connection,
    table: str | Sequence[str] = (),
    key: object = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    actions: Iterable[Action] = (),
    limit: int | None = None,
    actor: str | None = None,
    context: Mapping[str, str] | None = None,
    role: str | None = None,
    transaction: int | None = None,
    transaction_start: datetime | None = None,
    changed: str | None = None,
    newest_first: bool = False,
    before: int | None = None,
    after: int | None = None,
    from_key: object = None,
    to_key: object = None,
    schema: str = "audit",
) -> list[Event]:
    """The events of a table, or of the row with this key, oldest first.

    Without a table: those of all tables that the trail knows; with several, those of them.

    A row's history is all that happened under its key, to whatever rows had the key in turn. Where
    an update changed a row's key, it goes on under the other key, before and after; what happened
    there to other rows is left out. TRUNCATE is part of it while the row was there, and so is every
    gap in capture since its first event.

    Instead of a key, `from_key` and `to_key` (both included, either may be left out) choose the
    rows whose keys lie between them, compared as their types compare, deleted rows too. All that
    befell the whole table is part of it.

    Events are ordered by id, and inside a transaction so that each row's images follow each other.
    `limit` keeps the newest so many. With `before` or `after`, numbers of events, it makes pages:
    the newest so many before one event, or the oldest so many after it. A page is longer than
    `limit` where it would end between events that changed places, so that pages joined are the
    history. The other filters are those of `Filter`.
    Takes no lock beyond that of a SELECT. Raises what `find_subject` and `find_range` raise, and
    `UsageError` where `before` or `after` is an event of another table, and for the number of a
    transaction that clusters have given twice, without `transaction_start`, when it began.
    """
    if transaction is not None and transaction_start is None:
        require_one_transaction(connection, transaction, schema, since=since, until=until)
    wanted = Filter(
        since=since,
        until=until,
        actions=frozenset(actions),
        limit=limit,
        actor=actor,
        context=tuple((context or {}).items()),
        role=role,
        transaction=transaction,
        transaction_start=transaction_start,
        changed=changed,
        newest_first=newest_first,
        before=before,
        after=after,
    )
    with planned_once(connection) if key is not None else nullcontext():
        if from_key is None and to_key is None:
            found = _in_one_look(connection, table, key, wanted, schema)
            if found is not None:
                return found
        subject = find_scope(connection, table, key, schema=schema)
        wanted = with_range(connection, subject, wanted, from_key, to_key)
        for event_id in (before, after):
            require_event_of(connection, subject, event_id)
        return list(stream_events(connection, subject, wanted))


def _in_one_look(
    connection: Connection,
    table: str | Sequence[str],
    key: object,
    wanted: Filter,
    schema: str,
) -> list[Event] | None:
    """All events of a row, where they are few and it never had another key; None where more has to be asked."""
    if not isinstance(table, str) or key is None or replace(wanted, newest_first=False) != Filter():
        return None
    subject = find_subject(connection, table, key, schema=schema, look_up=False)
    if subject.is_looked_up:
        return None
    asked = history_query(subject, wanted, at_most=FETCH_SIZE + 1, moves=True)
    with refusals():
        records = fetch(connection, *asked)
        moved = any(record["old_row_key"] is not None for record in records)
        if moved or not 0 < len(records) <= FETCH_SIZE:
            return None
        events = whole_events(connection, records, schema)
    return list(_ordered(connection, subject, wanted, events))


def find_scope(
    connection: Connection, table: str | Sequence[str], key: object = None, *, schema: str
) -> Scope:
    """The table or row as from `find_subject`; several tables or all as from `find_tables`."""
    if isinstance(table, str):
        return find_subject(connection, table, key, schema=schema)
    if len(table) == 1:
        return find_subject(connection, table[0], key, schema=schema)
    if key is not None:
        raise UsageError("a key needs exactly one table", hint="name the table that has the key")
    return find_tables(connection, table, schema=schema)


def with_range(
    connection: Connection, subject: Scope, wanted: Filter, from_key: object, to_key: object
) -> Filter:
    """The filter, with the range of keys if there is one. Raises what `find_range` raises."""
    if from_key is None and to_key is None:
        return wanted
    if isinstance(subject, Tables):
        raise UsageError(
            "a range of keys needs exactly one table", hint="name the table that has the keys"
        )
    if subject.key is not None:
        raise UsageError(
            f"a key ({subject.key!a}) cannot be combined with a range of keys",
            hint="leave out one of them",
        )
    return replace(wanted, keys=find_range(connection, subject, from_key, to_key))


def stream_events(
    connection: Connection, subject: Scope, wanted: Filter | None = None
) -> Generator[Event, None, None]:
    """The events of a subject as `history` orders them, with flat memory however many they are.

    Until the generator is exhausted or closed, a cursor and a transaction stay open.
    """
    _, events = stream_page(connection, subject, wanted or Filter())
    return events


def stream_page(
    connection: Connection, subject: Scope, wanted: Filter
) -> tuple[Page, Generator[Event, None, None]]:
    """The page that `wanted` asks for, and its events as from `stream_events`."""
    own = own_events(connection, subject)
    if wanted.limit is not None and wanted.limit <= WINDOW:
        # Mostly these events are the page, and one more tells that it is not the last.
        asked = replace(wanted, limit=wanted.limit + 1, newest_first=not wanted.oldest_of)
        events = list(read_events(connection, subject, asked, own))
        if found := small_page(connection, subject, wanted, events, own):
            events = sorted(events[: wanted.limit], key=lambda event: event.event_id)
            if wanted.newest_first:
                events.reverse()
            return found, _ordered(connection, subject, wanted, iter(events))
    page = cut_page(connection, subject, wanted, own)
    return page, _stream(connection, subject, page.wanted, own)


def _stream(
    connection: Connection, subject: Scope, wanted: Filter, own: list[Event] | None
) -> Generator[Event, None, None]:
    with closing(read_events(connection, subject, wanted, own)) as events:
        yield from _ordered(connection, subject, wanted, events)


def _ordered(
    connection: Connection, subject: Scope, wanted: Filter, events: Iterator[Event]
) -> Generator[Event, None, None]:
    around = events_around(connection, subject)
    yield from in_order_streamed(events, newest_first=wanted.newest_first, around=around)


def read_events(
    connection: Connection,
    subject: Scope,
    wanted: Filter,
    own: list[Event] | None,
    reach: Reach | None = None,
    *,
    with_changed: bool = False,
) -> Generator[Event, None, None]:
    """The events as the query gives them: by id, each read when it is asked for.

    What is to be written as JSON is read `with_changed`.
    """
    from psycopg.rows import dict_row

    if subject.key is not None:
        few = _few_events(connection, subject, wanted, own, reach)
        if few is not None:
            yield from few
            return
    query, parameters = history_query(subject, wanted, own, reach=reach, with_changed=with_changed)
    with (
        connection.transaction(),
        connection.cursor("audit_history", row_factory=dict_row) as cursor,
        unreadable_keys(wanted.keys),
        refusals(),
    ):
        cursor.execute(query, parameters)
        while records := cursor.fetchmany(FETCH_SIZE):
            yield from whole_events(connection, records, subject.schema)


def first_events(
    connection: Connection,
    subject: Scope,
    wanted: Filter,
    own: list[Event] | None,
    reach: Reach,
    *,
    most_bytes: int,
    fewest: int,
) -> list[Event]:
    """The first events that are wanted, as whole rows: until they are that large, and no fewer than so many.

    They come in one answer, which the server goes on making while the first of them are parsed. For few: all are
    held. What is to be written as JSON has what changed with it.
    """
    if subject.key is not None:
        reading = read_events(connection, subject, wanted, own, reach, with_changed=True)
        with closing(reading) as events:
            return list(_until_large(events, lambda event: event.size, most_bytes, fewest))
    asked = history_query(subject, wanted, own, reach=reach, with_changed=True)
    with unreadable_keys(wanted.keys), refusals(), closing(_rows(connection, *asked)) as rows:
        pairs = _until_large(map(with_event, rows), lambda pair: pair[1].size, most_bytes, fewest)
        read = list(pairs)
    if not any(event.holds_changes_only for _, event in read):
        return [event for _, event in read]
    whole = completed(connection, read, subject.schema)
    return list(_until_large(whole, lambda event: event.size, most_bytes, fewest))


def _rows(
    connection: Connection, query: str, parameters: Mapping[str, object]
) -> Generator[dict[str, Any], None, None]:
    """The rows of a query, as the server makes them."""
    from psycopg.rows import dict_row

    chunked = import_psycopg().capabilities.has_stream_chunked()
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.stream(query, parameters, size=CHUNK if chunked else 1)
        with closing(cast("Generator[dict[str, Any], None, None]", rows)):  # it cancels the rest
            yield from rows


def _until_large(
    items: Iterable[T], size_of: Callable[[T], int], most_bytes: int, fewest: int
) -> Iterator[T]:
    """The first items, until they are larger than that in sum; at least so many."""
    size = 0
    for number, item in enumerate(items, 1):
        yield item
        size += size_of(item)
        if size > most_bytes and number >= fewest:
            return


def _few_events(
    connection: Connection,
    subject: Scope,
    wanted: Filter,
    own: list[Event] | None,
    reach: Reach | None,
) -> Iterator[Event] | None:
    """The events of a row, which mostly are few, without a cursor, whose query is planned each time; None for many."""
    query, parameters = history_query(subject, wanted, own, reach=reach, at_most=FETCH_SIZE + 1)
    with planned_once(connection), refusals():
        records = fetch(connection, query, parameters)
        if len(records) > FETCH_SIZE:
            return None
        return whole_events(connection, records, subject.schema)
