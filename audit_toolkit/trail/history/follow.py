"""The trail as it grows, in the order of its ids, with nothing missed and nothing twice.

Ids are drawn before their transactions commit, so whoever remembers the highest id that he saw
steps over what commits late. A tail goes up to an id only when no lower one can appear any more:

1. It looks for the newest event that it can see, L. The sequence gives ids in order (CACHE 1), so
   every lower id was drawn by now.
2. It waits until every transaction that has drawn an id has a number of its own, then takes a number
   X itself: whoever drew an id up to L has a lower one. In this order, in statements apart.
3. It waits until the oldest running transaction is younger than X. All ids up to L are decided now.
4. It waits until the WAL up to here is on disk: with synchronous_commit = off others see what a
   crash can still take back, and ids would be given again.

Taking L from what can be seen needs no right on the sequence, and costs no transaction number while
nothing happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import UsageError
from audit_toolkit.names import QualifiedName, quote_plainly
from audit_toolkit.templates import query, render
from audit_toolkit.trail.event import Action, Event
from audit_toolkit.trail.history.cursor import Position, find_position, last_number
from audit_toolkit.trail.history.filter import Filter, Reach, history_query, reach_parameters
from audit_toolkit.trail.history.ordering import WINDOW, Around, in_order, in_runs
from audit_toolkit.trail.history.pages import cut_page, require_event_of
from audit_toolkit.trail.history.read import find_scope, first_events, with_range
from audit_toolkit.trail.history.row_events import events_around, keys_of, own_events, with_moves
from audit_toolkit.trail.rows.lookup import Scope, Tables, find_subject, find_tables, trail_table
from audit_toolkit.trail.sources.session import pause

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two looks at the trail: more and more while nothing happens."""
SHORTEST_WAIT, LONGEST_WAIT = 0.01, 0.25
"""Seconds between two looks at transactions that have to end."""
ALL_LEAVES_AFTER = 60.0
"""Seconds after which an idle tail looks into all leaves, whatever the clocks said."""
MOST_BYTES, FEWEST = 1 << 24, 2
"""So much of events is read at a time, but at least so many of them."""
SMALL = 2000
"""Bytes of an event, of which some hundred kB can be unpacked at most."""
_RECENT = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """An open transaction that a tail has to wait for, as events before others could come of it."""

    transaction_id: str | None
    """None where it has no number yet."""
    pid: int | None
    """Of its session; None for a prepared transaction."""
    prepared_name: str | None = None
    since: datetime | None = None
    """When it began, in UTC, or was prepared; None where this role may not know."""
    role_name: str | None = None
    application_name: str | None = None
    database_name: str | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The blocker of a row of our query."""
        since = record["since"]
        return cls(**{**record, "since": since and since.replace(tzinfo=UTC)})

    @property
    def who(self) -> str:
        """Whose transaction it is: pid or name, role, application and database, as far as this role may know."""
        role = f" of {self.role_name}" if self.role_name else ""
        where = f" in the database {self.database_name}" if self.database_name else ""
        if self.prepared_name is not None:
            return f"the prepared transaction {self.prepared_name!a}{role}{where}"
        program = f" ({self.application_name})" if self.application_name else ""
        return f"the transaction of pid {self.pid}{role}{program}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a tail delivers at a time; often nothing."""

    events: tuple[Event, ...] = ()
    position: Position
    """Where the tail stands behind these events; saved after they were used, it is where to go on."""
    held_by: tuple[Blocker, ...] = ()
    """Whose end the tail is waiting for."""


def follow(
    connection: Connection,
    table: str | Sequence[str] = (),
    key: object = None,
    *,
    after: Position | int | None = None,
    limit: int | None = None,
    since: datetime | None = None,
    actions: Iterable[Action] = (),
    actor: str | None = None,
    context: Mapping[str, str] | None = None,
    role: str | None = None,
    transaction: int | None = None,
    changed: str | None = None,
    from_key: object = None,
    to_key: object = None,
    schema: str = "audit",
) -> Generator[Batch, None, None]:
    """The events of `history`, then each new one as soon as it is certain; without end.

    Batches come in the order of ids, and inside a transaction as in `history`. Where nothing
    happened they are empty, about once a second, so that the caller can stop; while a transaction
    is waited for they say whose. `after` is an event, or the position of a batch that was used
    before: `position.save(path)` after each batch and `Position.load(path)` at the next start
    deliver every event at least once. `limit` begins with the newest so many.

    A row is followed where its key changes. What took the key of a row is followed from then on.

    The connection has to be in autocommit mode and outside a transaction, on the primary. Needs no
    more than the right to read the trail, holds no transaction open between batches, and takes a
    transaction number only when there is something new.

    Raises:
        UsageError: what `find_subject` and `find_range` raise, a standby, a connection in a
            transaction, or a position of another server, timeline, table or row.
    """
    subject = find_scope(connection, table, key, schema=schema)
    wanted = Filter(
        since=since,
        actions=frozenset(actions),
        limit=limit,
        actor=actor,
        context=tuple((context or {}).items()),
        role=role,
        transaction=transaction,
        changed=changed,
    )
    return follow_subject(
        connection, subject, with_range(connection, subject, wanted, from_key, to_key), after
    )


def follow_subject(
    connection: Connection,
    subject: Scope,
    wanted: Filter,
    after: Position | int | None = None,
    *,
    wait: Callable[[float], None] | None = None,
) -> Generator[Batch, None, None]:
    """Like `follow`, of a subject that was found already. A limit is that of the beginning only.

    While nothing happens, `wait` is called with the seconds until the next look, and may come back sooner.
    """
    from psycopg.pq import TransactionStatus

    if not connection.autocommit or connection.info.transaction_status != TransactionStatus.IDLE:
        raise UsageError(
            "follow cannot run inside a transaction, which would never see new events",
            hint="use a connection of its own: psycopg.connect(…, autocommit=True)",
        )
    position = find_position(connection, subject)
    if isinstance(after, Position):
        after.require_same(position)
        position = replace(position, event_id=after.event_id)
        wanted = replace(wanted, limit=None)
    elif after is not None:
        require_event_of(connection, subject, after)
        position = replace(position, event_id=after)
    _require_given(connection, position)
    return _tail(connection, subject, wanted, position, wait or partial(pause, connection))


def _require_given(connection: Connection, position: Position) -> None:
    """Raise `UsageError` for a position that the trail has not reached: those that come would be stepped over."""
    newest = last_number(connection, position.trail)
    if newest is not None and position.event_id > newest:
        raise UsageError(
            f"there is no event {position.event_id} yet: the newest is {newest}",
            hint="if the trail was put back to an earlier state, compare what was read with it, and go on "
            "behind the last event that both have",
        )


def _tail(
    connection: Connection,
    subject: Scope,
    wanted: Filter,
    position: Position,
    wait: Callable[[float], None],
) -> Generator[Batch, None, None]:
    watch, reader = _Watch(connection, subject), _Reader(connection, subject, wanted)
    seconds = SHORTEST_PAUSE
    while True:
        newest = watch.look(position.event_id)
        if newest is None:
            yield Batch(position=position)
            wait(seconds)
            seconds = min(2 * seconds, LONGEST_PAUSE)
            continue
        seconds = SHORTEST_PAUSE
        reach = yield from _settle(connection, subject, position, newest)
        for events, event_id in reader.read(reach, position.event_id):
            position = replace(position, event_id=event_id)
            yield Batch(events=events, position=position)


def settle(
    connection: Connection,
    schema: str = "audit",
    waiting_for: Callable[[tuple[Blocker, ...]], None] = lambda _: None,
) -> Reach:
    """Wait until all events that can be seen, and all with lower numbers, are decided; up to which.

    Waits for every transaction that is open now and may write; `waiting_for` is told of them at each look.
    """
    subject = Tables(schema=schema)
    newest = _Watch(connection, subject).look(0) or 0
    waiting = _settle(connection, subject, find_position(connection, subject), newest)
    while True:
        try:
            waiting_for(next(waiting).held_by)
        except StopIteration as end:
            reach: Reach = end.value
            return reach


class _Watch:
    """Looks for something new, in the leaves of the last day, now and then in all of them."""

    def __init__(self, connection: Connection, subject: Scope) -> None:
        self._connection = connection
        self._trail = trail_table(subject.schema)
        self._recent: datetime | None = None
        self._all_at = 0.0

    def look(self, after: int) -> int | None:
        """The newest event behind that one, None without."""
        if time.monotonic() - self._all_at > ALL_LEAVES_AFTER:
            self._recent, self._all_at = None, time.monotonic()
        sql = render("queries/newest_event", trail=self._trail, recent=self._recent is not None)
        (row,) = fetch(self._connection, sql, {"after": after, "recent": self._recent})
        self._recent = row["looked_at"].replace(tzinfo=UTC) - _RECENT
        newest: int | None = row["event_id"]
        return newest


def _settle(
    connection: Connection, subject: Scope, position: Position, newest: int
) -> Generator[Batch, None, Reach]:
    """Wait until nothing can appear up to the newest event, and nothing of it can be lost."""
    sequence = f"{quote_plainly(subject.schema)}.logged_actions_event_id_seq"
    unnumbered = render("queries/tail_unnumbered", sequence=sequence)
    waits = _waits(connection)
    while rows := fetch(connection, unnumbered):
        held_by = tuple(Blocker(transaction_id=None, pid=row["pid"]) for row in rows)
        yield Batch(position=position, held_by=held_by)
        next(waits)
    number, state = _take_number(connection)
    parameters = {"transaction_id": str(number)}
    waits = _waits(connection)
    while not state["settled"]:
        (state,) = fetch(connection, query("tail_settled"), parameters)
        if state["settled"]:
            break
        rows = fetch(connection, query("tail_blockers"), parameters)
        yield Batch(position=position, held_by=tuple(map(Blocker.from_record, rows)))
        next(waits)
    waits = _waits(connection)
    while not fetch(connection, query("tail_flushed"), state)[0]["flushed"]:
        # The WAL record of this transaction wakes the WAL writer, within 3 * wal_writer_delay.
        fetch(connection, query("next_transaction"))
        next(waits)
    return Reach(event_id=newest, transaction_id=number)


def _take_number(connection: Connection) -> tuple[int, dict[str, Any]]:
    """A transaction's number, and whether all before it were over then already.

    Mostly they were. Asked within the transaction, the WAL to be flushed ends before its own record.
    """
    with connection.transaction():
        number: int = fetch(connection, query("next_transaction"))[0]["transaction_id"]
        before = {"transaction_id": str(number - 1)}
        return number, fetch(connection, query("tail_settled"), before)[0]


def _waits(connection: Connection) -> Iterator[None]:
    seconds = SHORTEST_WAIT
    while True:
        pause(connection, seconds)
        yield
        seconds = min(2 * seconds, LONGEST_WAIT)


class _Reader:
    """Reads what is within reach, a part at a time."""

    def __init__(self, connection: Connection, subject: Scope, wanted: Filter) -> None:
        self._connection = connection
        self._subject = subject
        self._wanted = wanted
        self._keys: set[str | None] = set()
        """Of the row that is followed, if its key was ever changed, as far as was read."""
        self._relations = self._find_relations()

    def read(self, reach: Reach, after: int) -> Iterator[tuple[tuple[Event, ...], int]]:
        """The events within reach, about `WINDOW` at a time, fewer of large ones, and the last number behind them.

        Each part is a query of its own, so that a slow reader keeps no snapshot. What a transaction
        did on both sides of the reach is read with it; where its events changed places across, they
        wait for the next time, which reaches further than the whole transaction.
        """
        self._subject = with_moves(self._connection, self._with_names(reach, after))
        if self._keys and not self._is_touched(reach, after):
            yield (), reach.event_id
            return
        own = self._own(reach)
        after = self._beginning(reach, after, own)
        around = events_around(self._connection, self._subject)
        more = True
        held: list[Event] = []
        while more:
            # Events that were read and not returned need not be read again: their order is final.
            last = held[-1].event_id if held else after
            some = replace(self._wanted, after=last, limit=2 * WINDOW - len(held))
            found, more = self._some(some, own, reach, sum(event.size for event in held))
            events = [*held, *found]
            half = WINDOW if len(events) == 2 * WINDOW else (len(events) + 1) // 2
            batch, after, more = _part(events, around, reach.event_id, half if more else None)
            held = [event for event in events if event.event_id > after]
            yield tuple(batch), after

    def _some(
        self, wanted: Filter, own: list[Event] | None, reach: Reach, size: int
    ) -> tuple[list[Event], bool]:
        """The first events that are wanted, fewer where they are large, and whether there may be more.

        Events of that size are held already. How much is stored is asked first; what comes of it, unpacked, is seen
        only when it is there.
        """
        room = max(MOST_BYTES - size, 0)
        asked = history_query(self._subject, wanted, own, reach=reach, most_bytes=room)
        (there,) = fetch(self._connection, *asked)
        limit = min(there["events"], max(there["fitting"], FEWEST))
        if not limit:
            return [], False
        found = first_events(
            self._connection,
            self._subject,
            replace(wanted, limit=limit),
            own,
            reach,
            most_bytes=room,
            fewest=FEWEST,
            are_small=there["largest"] < SMALL,
        )
        more = there["events"] == wanted.limit or limit < there["events"] or len(found) < limit
        return found, more and bool(found)  # a partition may be dropped meanwhile

    def _with_names(self, reach: Reach, after: int) -> Scope:
        """The subject with the names that its tables have by then."""
        subject = self._subject
        if not self._relations:
            return subject
        sql = render("queries/renamed_within", trail=trail_table(subject.schema))
        asked = {"after": after, **reach_parameters(reach)}
        renamed = {
            row["relation"]: QualifiedName(row["schema_name"], row["table_name"])
            for row in fetch(self._connection, sql, asked)
            if row["relation"] in self._relations
        }
        if not renamed:
            return subject
        self._relations |= renamed
        if isinstance(subject, Tables):
            names = map(str, self._relations.values())
            return find_tables(self._connection, names, schema=subject.schema)
        (name,) = self._relations.values()
        now = find_subject(self._connection, str(name), schema=subject.schema)
        return replace(subject, table=now.table, columns=now.columns, former_names=now.former_names)

    def _find_relations(self) -> dict[int, QualifiedName]:
        """The tables of the subject by their OIDs; none where this role may not know them."""
        subject = self._subject
        wanted = subject.names if isinstance(subject, Tables) else (subject.table,)
        errors = import_psycopg().errors
        sql = render("queries/captured_relations", trail_schema=subject.schema)
        try:
            rows = fetch(self._connection, sql) if wanted else []
        except (errors.InsufficientPrivilege, errors.UndefinedTable):
            return {}
        known = {
            row["relation"]: QualifiedName(row["schema_name"], row["table_name"]) for row in rows
        }
        found = {oid: name for oid, name in known.items() if name in wanted}
        return found if len(found) == len(wanted) else {}

    def _own(self, reach: Reach) -> list[Event] | None:
        own = own_events(self._connection, self._subject, reach)
        if own is not None:
            self._keys = {self._subject.key, *keys_of(own)}
        return own

    def _is_touched(self, reach: Reach, after: int) -> bool:
        """Whether anything new is about a key that the row had, or about the whole table."""
        sql = render(
            "queries/keys_touched",
            trail=trail_table(self._subject.schema),
            names=self._subject.names,
        )
        asked = {"row_keys": list(self._keys), "after": after, **reach_parameters(reach)}
        rows = fetch(self._connection, sql, self._subject.parameters | asked)
        return bool(rows[0]["touched"])

    def _beginning(self, reach: Reach, after: int, own: list[Event] | None) -> int:
        """Before the newest so many events, the first time that a limit asks for them."""
        if self._wanted.limit is None:
            return after
        wanted = replace(self._wanted, after=after, before=reach.event_id + 1)
        self._wanted = replace(self._wanted, limit=None)
        page = cut_page(self._connection, self._subject, wanted, own, reach)
        return page.wanted.after or after


def _part(
    events: list[Event], around: Around, reach: int, half: int | None
) -> tuple[list[Event], int, bool]:
    """What may be given out of events by rising id, up to which one that is all, and whether to go on.

    About the first half of them, where there may be more; None where there are not.
    """
    if all(one is other for one, other in zip(events, in_order(events, around), strict=True)):
        within = [event for event in events if event.event_id <= reach]
        if half is not None and len(within) >= half:
            return within[:half], within[half - 1].event_id, True
        return within, reach, False
    batch: list[Event] = []
    for run in in_runs(events, around=around):
        ids = [event.event_id for event in run]
        if max(ids) > reach:
            return batch, min(reach, min(ids) - 1), False
        batch += run
        if half is not None and len(batch) >= half:
            return batch, max(ids), True
    return batch, reach, False
