"""The history of a table or of a row: who changed it, when, from what to what."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.templates import render
from audit_toolkit.trail.chain import in_order_streamed, lives
from audit_toolkit.trail.model import Action, Event
from audit_toolkit.trail.subject import Subject, find_subject, trail_table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

FETCH_SIZE = 500
"""Rows that a streamed history asks the server for at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events of a history are wanted; the default is all."""

    since: datetime | None = None
    """The first moment."""
    until: datetime | None = None
    """The first moment that is too late."""
    actions: frozenset[Action] = frozenset()
    """Kinds of events; empty for all."""
    limit: int | None = None
    """How many events: the newest so many."""
    actor: str | None = None
    """Who, as the application claimed it; the login role where it claimed nothing."""
    context: tuple[tuple[str, str], ...] = ()
    """Keys of the context and the values they must have, as text."""
    role: str | None = None
    """The role that logged in, or that it took on with SET ROLE."""
    transaction: int | None = None
    """The transaction that made the change."""
    changed: str | None = None
    """The column that has another value after the event."""
    newest_first: bool = False

    def __post_init__(self) -> None:
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise UsageError(
                    f"{moment.isoformat()} has no time zone",
                    hint="say which zone it is in: datetime(…, tzinfo=UTC)",
                )
        if self.since and self.until and self.since >= self.until:
            raise UsageError(
                f"no time is since {self.since.isoformat()} and before {self.until.isoformat()}",
                hint="the beginning has to be before the end",
            )
        if self.limit is not None and self.limit < 1:
            raise UsageError(
                f"a limit of {self.limit} events leaves nothing", hint="ask for at least one"
            )


def history(
    connection: Connection,
    table: str,
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
    changed: str | None = None,
    newest_first: bool = False,
    schema: str = "audit",
) -> list[Event]:
    """The events of a table, or of the row with this key, oldest first.

    A row's history is all that happened under its key, to whatever rows had the key in turn. Where
    an update changed a row's key, it goes on under the other key, before and after; what happened
    there to other rows is left out. TRUNCATE is part of it while the row was there, and so is every
    gap in capture since its first event.

    Events are ordered by id, and inside a transaction so that each row's images follow each other.
    `limit` keeps the newest so many; the other filters are those of `Filter`.
    Takes no lock beyond that of a SELECT. Raises what `find_subject` raises.
    """
    wanted = Filter(
        since=since,
        until=until,
        actions=frozenset(actions),
        limit=limit,
        actor=actor,
        context=tuple((context or {}).items()),
        role=role,
        transaction=transaction,
        changed=changed,
        newest_first=newest_first,
    )
    subject = find_subject(connection, table, key, schema=schema)
    return list(stream_events(connection, subject, wanted))


def stream_events(
    connection: Connection, subject: Subject, wanted: Filter | None = None
) -> Generator[Event, None, None]:
    """The events of a subject as `history` orders them, with flat memory however many they are.

    Until the generator is exhausted or closed, a cursor and a transaction stay open.
    """
    wanted = wanted or Filter()
    with closing(_read_events(connection, subject, wanted)) as events:
        yield from in_order_streamed(events, newest_first=wanted.newest_first)


def _read_events(
    connection: Connection, subject: Subject, wanted: Filter
) -> Generator[Event, None, None]:
    from psycopg.rows import dict_row

    query, parameters = history_query(subject, wanted, _own_events(connection, subject))
    with (
        connection.transaction(),
        connection.cursor("audit_history", row_factory=dict_row) as cursor,
    ):
        cursor.itersize = FETCH_SIZE
        cursor.execute(query, parameters)
        for record in cursor:
            yield Event.from_record(record)


def history_query(
    subject: Subject, wanted: Filter, own_events: Iterable[Event] | None = None
) -> tuple[str, Mapping[str, object]]:
    """The SQL of a history and its parameters; the rows are for `Event.from_record`.

    `own_events` are those of the row, where its key alone does not tell them.
    """
    own = list(own_events) if own_events is not None else None
    sql = render(
        "queries/history",
        trail=trail_table(subject.schema),
        by_key=subject.key is not None and own is None,
        by_ids=own is not None,
        since=wanted.since is not None,
        until=wanted.until is not None,
        actions=bool(wanted.actions),
        newest=wanted.limit is not None,
        actor=wanted.actor is not None,
        context=bool(wanted.context),
        role=wanted.role is not None,
        transaction=wanted.transaction is not None,
        changed=wanted.changed is not None,
        descending=wanted.newest_first,
    )
    parameters = {
        "since": wanted.since,
        "until": wanted.until,
        "actions": sorted(action.value for action in wanted.actions),
        "limit": wanted.limit,
        "actor": wanted.actor,
        "context_keys": [key for key, _ in wanted.context],
        "context_values": [value for _, value in wanted.context],
        "role": wanted.role,
        "transaction_id": None if wanted.transaction is None else str(wanted.transaction),
        "changed": wanted.changed,
        "event_ids": [event.event_id for event in own or ()],
        "row_keys": list({event.row_key for event in own or ()}),
    }
    return sql, subject.parameters | parameters


def _own_events(connection: Connection, subject: Subject) -> list[Event] | None:
    """All events of the rows that ever had the key, under whatever key; None if no key changed."""
    if not subject.key_changed:
        return None
    known: dict[int, Event] = {}
    own: list[Event] = []
    asked: set[str | None] = set()
    keys: set[str | None] = {subject.key}
    while keys - asked:
        known |= {
            event.event_id: event for event in _events_of_keys(connection, subject, keys - asked)
        }
        asked |= keys
        rows = lives(known[event_id] for event_id in sorted(known))
        own = [event for row in rows if subject.key in _keys(row) for event in row]
        keys = _keys(own)
    return own


def _keys(events: Iterable[Event]) -> set[str | None]:
    return {key for event in events for key in (event.row_key, event.key_before)}


def _events_of_keys(
    connection: Connection, subject: Subject, keys: Iterable[str | None]
) -> Iterator[Event]:
    sql = render("queries/events_of_keys", trail=trail_table(subject.schema))
    rows = fetch(connection, sql, subject.parameters | {"row_keys": list(keys)})
    return map(Event.from_record, rows)
