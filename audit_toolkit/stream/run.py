"""One instance of a consumer: the trail as it grows, out through a sink, and its place kept behind it.

The place moves when the sink has confirmed. So an event that was delivered right before a crash comes
again, with the same id; none is left out. Per row events leave in their order: a batch that fails is tried
again until it goes through, and nothing overtakes it. What a sink refuses for good is tried so many times,
then put aside as a dead letter.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from audit_toolkit.errors import AuditError, BusyError, ConnectError, UsageError
from audit_toolkit.plurals import counted
from audit_toolkit.schema.location import read_location
from audit_toolkit.stream import consumers
from audit_toolkit.stream.archived import Past, fits, with_past
from audit_toolkit.stream.consumers import Consumer, DeadLetter, Lease
from audit_toolkit.stream.formats import Origin
from audit_toolkit.stream.messages import Format, Message, Outcome
from audit_toolkit.stream.read_ahead import Ahead
from audit_toolkit.stream.session import require_own_session
from audit_toolkit.stream.sinks import Sink
from audit_toolkit.stream.sinks.base import clock
from audit_toolkit.stream.wakeups import Pump
from audit_toolkit.tracing import span
from audit_toolkit.trail import (
    Action,
    Batch,
    Blocker,
    Event,
    Filter,
    Position,
    Selection,
)
from audit_toolkit.trail.event import require_numbers
from audit_toolkit.trail.history.cursor import find_position
from audit_toolkit.trail.history.events import events_there
from audit_toolkit.trail.history.follow import follow_subject, settle
from audit_toolkit.trail.rows.lookup import Tables, find_tables

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 60.0
"""Seconds before a sink that failed is tried again: twice as long each time."""
LONGEST_ASKED = 3600.0
"""Seconds that a sink is left alone at most, whatever it asks for."""
LEASE_PAUSE = 0.5
"""Seconds between two looks whether the other instance is gone."""
LOOK_AFTER = 1.0
"""Seconds without a word with the server after which an instance sees whether the lease is still its own before it
delivers: it may have been paused, and replaced."""
HELD_SECONDS = 3.0
"""So long nobody is told which transactions it waits for."""
NOTE_EVERY = 1.0
"""Seconds after which a place is noted that only moved past events nobody asked for."""
LETTERS_EVERY = 5.0
"""Seconds after which one that does not catch up looks for dead letters that are to be delivered again."""
LOOK_SHARE = 20.0
"""Reading dead letters takes at most one such part of the time, however many there are."""

_KEEPALIVE = (
    "select set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '3', false),"
    " set_config('tcp_keepalives_count', '3', false)"
)
"""So that the server notices within seconds that this machine is gone, and gives the lock to another."""


class AfterRefusal(StrEnum):
    """What becomes of a row's later events when its sink refused one for good."""

    GO_ON = "go-on"
    HOLD = "hold"
    """They wait, as dead letters, until that one is delivered or given up; then they go by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events a consumer is for; all, if nothing is said."""

    tables: tuple[str, ...] = ()
    actions: frozenset[Action] = frozenset()
    actor: str | None = None
    context: tuple[tuple[str, str], ...] = ()
    changed: str | None = None
    """A column that they changed."""
    since: datetime | None = None

    @property
    def filter(self) -> Filter:
        """The same for the trail."""
        return Filter(
            since=self.since,
            actions=self.actions,
            actor=self.actor,
            context=self.context,
            changed=self.changed,
        )

    def as_dict(self) -> dict[str, Any]:
        """What was said, as JSON values."""
        said: dict[str, Any] = {
            "tables": list(self.tables),
            "actions": sorted(action.name.lower() for action in self.actions),
            "actor": self.actor,
            "context": dict(self.context),
            "changed": self.changed,
            "since": self.since and self.since.isoformat(),
        }
        return {name: value for name, value in said.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a consumer delivers."""

    wanted: Wanted = field(default_factory=Wanted)
    batch: int = 1000
    """Events that a sink is handed at most at a time."""
    tries: int = 5
    """So often an event is refused before it is put aside."""
    after_refusal: AfterRefusal = AfterRefusal.GO_ON
    once: bool = False
    """Whether to end when everything certain was delivered."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What else the database keeps of how it was started: sink and format."""
    hold_for: str | None = None
    """How long retention waits for it, at most: a span as PostgreSQL reads it."""
    past: Past | None = None
    """Events that have left the trail, to be delivered as well: `audit_toolkit.archive.archived_events`."""
    patience: float | None = None
    """Seconds after which a sink that takes nothing ends the run, and with `once` also a transaction that stays open;
    None: never."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for a batch that would take nothing, and for fewer than one try."""
        for what, number in (("batch", self.batch), ("tries", self.tries)):
            if number < 1:
                raise UsageError(f"{what}={number} is not a number of at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What an instance did just now; given out after each step, however small."""

    event_id: int
    """Its place."""
    delivered: int = 0
    put_aside: int = 0
    error: str | None = None
    """Why the sink took nothing; it is tried again."""
    hint: str | None = None
    """What to do about it."""
    waits_for: int | None = None
    """The pid of the session of the instance that delivers."""
    held_by: tuple[Blocker, ...] = ()
    """The open transactions that it has waited for, for some time, as events before others may come of them."""
    is_idle: bool = False


def run(
    connection: Connection,
    name: str,
    sink: Sink,
    form: Format,
    terms: Terms | None = None,
    *,
    begin: int | datetime | None = 0,
    schema: str = "audit",
    came_from: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Generator[Progress, None, None]:
    """Deliver to a sink, without end: each `next` does a step, and closing stops between two of them.

    A consumer that is not known begins behind the event `begin`, at that time, or with what commits from now
    on (None); one that is known goes on where it was. While another instance delivers, this one waits.
    The connection is for this alone, in autocommit mode, on the primary. Who lost one and has another now says from
    which timeline he `came_from`: on that of a standby which was promoted since, the consumer goes on.

    Raises `UsageError` for a place on another server or timeline, and behind a pooler that shares sessions;
    `BusyError` when another instance took over; where the patience for a sink is at its end `ConnectError` or
    `AuditError`, with what the sink said; with `once`, `BusyError` when a transaction stays open for longer than that.
    """
    terms = terms or Terms()
    if not connection.autocommit:
        raise UsageError(
            "a consumer cannot run inside a transaction",
            hint="give it a connection of its own: psycopg.connect(…, autocommit=True)",
        )
    require_own_session(connection)
    consumers.require_at_home(connection, schema)
    options = {**terms.wanted.as_dict(), **terms.told}
    if terms.past is not None:
        options["archived_up_to"] = terms.past.last
    if not consumers.is_known(connection, name, schema=schema):
        find_tables(connection, terms.wanted.tables, schema=schema)
        consumers.register(connection, name, begin, options, schema=schema)
    elif terms.past is None:
        _require_no_past(consumers.find_consumer(connection, name, schema=schema))
    lease = yield from _wait_for_lease(connection, name, options, terms, schema, sleep)
    try:
        delivery = _Delivery(connection, lease, sink, form, terms, sleep)
        with closing(delivery.run(came_from)) as steps:
            yield from steps
    finally:
        consumers.give_back(connection, lease)


def replay(
    connection: Connection,
    table: str | Sequence[str] = (),
    *,
    into: Callable[[Event], object],
    after: int = 0,
    schema: str = "audit",
) -> int:
    """Call a function with each certain event of a table, of several or of all, in order; the last number.

    For read models: keep the number with what the function builds, in one transaction, and hand it on as
    `after` the next time. Without `after`, from the first event on.

    Raises `UsageError` for tables that the trail does not know, for a number that it has not reached, and for a
    connection in a transaction: follow the trail with one, and change the read model with another.
    """
    require_numbers(after)
    names = [table] if isinstance(table, str) else list(table)
    scope = find_tables(connection, names, schema=schema)
    reached = after
    # A place in the trail: it may be the number of an event of another table.
    position = replace(find_position(connection, scope), event_id=after)
    with closing(follow_subject(connection, scope, Filter(), position)) as batches:
        for batch in batches:
            for event in batch.events:
                into(event)
            reached = batch.position.event_id
            if not batch.events and not batch.held_by:
                return reached
    raise AssertionError("following never ends")


def _require_no_past(consumer: Consumer) -> None:
    """Raise `UsageError` where a consumer is in the middle of what left the trail: it would step over the rest."""
    last = consumer.options.get("archived_up_to", 0)
    if consumer.event_id < last:
        raise UsageError(
            f"{consumer.name} is at event {consumer.event_id}, and has not delivered the whole archive, "
            f"up to event {last}",
            hint="continue with --from-archive URL, or skip the rest of the archive: "
            f"audit stream reset {shlex.quote(consumer.name)} --to {last}",
        )


def _wait_for_lease(
    connection: Connection,
    name: str,
    options: Mapping[str, Any],
    terms: Terms,
    schema: str,
    sleep: Callable[[float], None],
) -> Generator[Progress, None, Lease]:
    while True:
        lease = consumers.take_lease(connection, name, options, terms.hold_for, schema=schema)
        if isinstance(lease, Lease):
            return lease
        consumer = consumers.find_consumer(connection, name, schema=schema)
        yield Progress(event_id=consumer.event_id, waits_for=lease)
        sleep(LEASE_PAUSE)


class _Delivery:
    """Of the instance that has the lease."""

    def __init__(
        self,
        connection: Connection,
        lease: Lease,
        sink: Sink,
        form: Format,
        terms: Terms,
        sleep: Callable[[float], None],
    ) -> None:
        self._own_connection = connection
        self._ahead: Ahead | None = None
        self._lease = lease
        self._sink = sink
        self._form = form
        self._terms = terms
        self._sleep = sleep
        self._pump = Pump(connection, lease.schema)
        self._place = 0
        self._seen = 0
        """Up to where the trail was found to have something new."""
        self._held: set[tuple[str, str, str | None]] = set()
        """Rows with dead letters, for which later events wait."""
        self._letters: list[DeadLetter] = []
        """The dead letters as they were looked at last."""
        self._rows: dict[int, set[tuple[str, str, str | None]]] = {}
        """The rows that dead letters are about, where rows are held."""
        self._aside: set[int] = set()
        """Events that were put aside since dead letters were last sent."""
        self._leased_at = clock()
        """When the lease was known to be ours."""
        self._noted_at = 0.0
        self._looked_at = self._look_took = 0.0

    @property
    def _connection(self) -> Connection:
        """The connection, once it is not read from."""
        if self._ahead is not None:
            self._ahead.settle()
        return self._own_connection

    def run(self, came_from: int | None = None) -> Generator[Progress, None, None]:
        """Follow the trail, and deliver what it brings."""
        schema = self._lease.schema
        scope = find_tables(self._connection, self._terms.wanted.tables, schema=schema)
        consumer = consumers.find_consumer(self._connection, self._lease.name, schema=schema)
        position = consumers.position_of(self._connection, consumer, scope, came_from)
        if position.timeline != consumer.timeline:
            consumers.note_timeline(self._connection, self._lease, position)
        self._place = self._seen = position.event_id
        self._connection.execute(_KEEPALIVE)
        batches = follow_subject(
            self._connection, scope, self._terms.wanted.filter, position, wait=self._pump.wait
        )
        past = self._terms.past
        if past is not None and past.last > self._place:
            settle(self._connection, schema, _Holding(self._terms).require)
            wanted = partial(fits, wanted=self._terms.wanted.filter, scope=scope)
            batches = with_past(batches, past.read(self._place), wanted)
        with ExitStack() as ending:
            ending.callback(self._pump.rest)
            ahead = self._ahead = ending.enter_context(
                closing(Ahead(self._own_connection, batches))
            )
            yield from self._due_letters()
            holding = _Holding(self._terms)
            while True:
                batch = ahead.take()
                holding.require(batch.held_by)
                if batch.held_by:
                    held_by = batch.held_by if holding.is_long else ()
                    yield Progress(event_id=self._place, held_by=held_by)
                if batch.position.event_id > self._seen:
                    self._seen = batch.position.event_id
                    self._pump.found(self._seen)
                if batch.events:
                    ahead.begin()
                yield from self._deliver(batch)
                if batch.events:
                    yield from self._due_letters(LETTERS_EVERY)
                if not batch.events and not batch.held_by:
                    yield from self._due_letters(0.0 if self._terms.once else NOTE_EVERY)
                    self._note(batch.position, 0, None, now=self._terms.once)
                    yield Progress(event_id=self._place, is_idle=True)
                    if self._terms.once:
                        return

    def _deliver(self, batch: Batch) -> Iterator[Progress]:
        delivered = aside = 0
        for events in _parts(batch.events, self._terms.batch):
            free, letters = self._without_held(events)
            if letters:
                self._keep(letters)
            aside += len(letters)
            for step in self._send(free):
                delivered += step.delivered
                aside += step.put_aside
                if step.error:
                    yield step
        latest = max(batch.events, key=lambda event: event.event_id, default=None)
        self._note(batch.position, delivered, latest, now=bool(batch.events))
        if batch.events:
            yield Progress(event_id=self._place, delivered=delivered, put_aside=aside)

    def _note(self, position: Position, delivered: int, latest: Event | None, *, now: bool) -> None:
        """Keep the place, in the database; soon where nothing was delivered, at once where it was."""
        moved = position.event_id > self._place
        if moved and (now or time.monotonic() - self._noted_at > NOTE_EVERY):
            consumers.advance(self._connection, self._lease, position, delivered, latest)
            self._noted_at = time.monotonic()
            self._leased_at = clock()
            self._place = position.event_id

    def _without_held(
        self, events: Sequence[Event]
    ) -> tuple[list[Event], list[tuple[Event, int, str]]]:
        """The events that may go, and those that wait for a dead letter of their row."""
        if not self._held:
            return list(events), []
        free: list[Event] = []
        letters: list[tuple[Event, int, str]] = []
        for event in events:
            if _rows(event) & self._held:
                self._held |= _rows(event)  # the row goes on under another key
                letters.append((event, 0, "waits for an earlier event of its row"))
            else:
                free.append(event)
        return free, letters

    def _send(self, events: Sequence[Event]) -> Iterator[Progress]:
        """Hand events to the sink until each was taken or put aside; none overtakes another."""
        messages = [m for event in events if (m := self._form(event)) is not None]
        tries, pause = 0, FIRST_PAUSE
        patience = _Patience(self._terms.patience)
        while messages:
            outcome = self._hand_over(messages)
            if outcome.done:
                tries, pause = 0, FIRST_PAUSE
                patience = _Patience(self._terms.patience)
            messages = messages[outcome.done :]
            aside = 0
            tries += outcome.refused is not None
            if outcome.refused is not None and tries >= self._terms.tries:
                messages, aside = self._put_aside(messages, tries, outcome.refused)
                tries, reason = 0, None
            else:
                reason = outcome.error or outcome.refused
                if reason is None and not outcome.done:
                    reason = "the sink took nothing, and gave no reason"
            if outcome.done or aside:
                yield Progress(event_id=self._place, delivered=outcome.done, put_aside=aside)
            if reason is not None:
                consumers.fail(self._connection, self._lease, reason)
                yield Progress(event_id=self._place, error=reason, hint=outcome.hint)
                asked = min(max(pause, outcome.wait), LONGEST_ASKED)
                patience.require(asked, outcome)
                self._pump.rest()
                self._sleep(asked)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _hand_over(self, messages: Sequence[Message]) -> Outcome:
        if clock() - self._leased_at > LOOK_AFTER:
            consumers.require_lease(self._connection, self._lease)
            self._leased_at = clock()
        with span("stream.send", consumer=self._lease.name, events=len(messages)) as sending:
            outcome = self._sink.send(messages)
            sending.note(delivered=outcome.done)
            if outcome.refused or outcome.error:
                sending.fail("refused" if outcome.refused else "not taken")
        return outcome

    def _put_aside(
        self, messages: Sequence[Message], tries: int, reason: str
    ) -> tuple[list[Message], int]:
        """Put the first message aside, and where its row is to be held the later ones of it; the rest."""
        first, rest = messages[0], list(messages[1:])
        letters = [(first.event, tries, reason)]
        if self._holds:
            self._held |= _rows(first.event)
            free, held = self._without_held([message.event for message in rest])
            letters += held
            ids = {event.event_id for event in free}
            rest = [message for message in rest if message.event.event_id in ids]
        self._keep(letters)
        self._aside |= {event.event_id for event, _, _ in letters}
        return rest, len(letters)

    def _keep(self, letters: Sequence[tuple[Event, int, str]]) -> None:
        consumers.put_aside(self._connection, self._lease, letters)
        if self._holds:
            self._rows |= {event.event_id: _rows(event) for event, _, _ in letters}

    def _due_letters(self, every: float = 0.0) -> Iterator[Progress]:
        """Deliver dead letters that somebody wants delivered again, in the order of their ids.

        Where rows are held also those that wait for nothing any more; and none before an earlier one of its row.
        """
        began = time.monotonic()
        if every and began - self._looked_at < max(every, LOOK_SHARE * self._look_took):
            return
        letters = consumers.read_letters(
            self._connection, self._lease.name, due=not self._holds, schema=self._lease.schema
        )
        self._looked_at = time.monotonic()
        self._look_took = self._looked_at - began
        if letters == self._letters:
            return  # none of them may go
        self._letters = letters
        self._held = set()
        ids = {letter.event_id for letter in letters}
        self._rows = {event_id: rows for event_id, rows in self._rows.items() if event_id in ids}
        for some in _parts(letters, self._terms.batch):
            events = self._may_go(some)
            self._aside = set()
            yield from self._send(events)
            there = [event.event_id for event in events if event.event_id not in self._aside]
            consumers.forget_delivered(self._connection, self._lease, there)

    def _may_go(self, letters: Sequence[DeadLetter]) -> list[Event]:
        """The events of dead letters that may be delivered now; the rows of the others are held."""
        events: dict[int, Event] = {}
        if asked := self._that_may_go(letters):
            chosen = Selection(event_ids=tuple(asked))
            found = events_there(self._connection, chosen, schema=self._lease.schema)
            events = {event.event_id: event for event in found}
        self._rows |= {event_id: _rows(event) for event_id, event in events.items()}
        going: list[Event] = []
        for letter in letters:
            event = events.get(letter.event_id)
            rows = self._rows.get(letter.event_id, {letter.row})
            # What has left the trail stays a dead letter.
            if event is not None and letter.may_go and not rows & self._held:
                going.append(event)
            elif self._holds:
                self._held |= rows
        return going

    def _that_may_go(self, letters: Sequence[DeadLetter]) -> list[int]:
        """The events to be read: that may go, as far as is known, or of which the rows are not known."""
        asked: list[int] = []
        held: set[tuple[str, str, str | None]] = set()
        for letter in letters:
            rows = self._rows.get(letter.event_id)
            if rows is None or (letter.may_go and not (rows & held or rows & self._held)):
                asked.append(letter.event_id)
            else:
                held |= rows
        return asked

    @property
    def _holds(self) -> bool:
        return self._terms.after_refusal is AfterRefusal.HOLD


class _Holding:
    """How long transactions may stay open that a run has to wait for, if it is to end by itself."""

    def __init__(self, terms: Terms) -> None:
        self._seconds = terms.patience if terms.once else None
        self._since: float | None = None

    @property
    def is_long(self) -> bool:
        """Whether it is worth a word by now."""
        return self._since is not None and time.monotonic() - self._since > HELD_SECONDS

    def require(self, held_by: Sequence[Blocker]) -> None:
        """Raise `BusyError` where there have been some for longer than that."""
        if not held_by:
            self._since = None
            return
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if self._seconds is None or now - self._since < self._seconds:
            return
        first, more = held_by[0], len(held_by) - 1
        since = f", open since {first.since:%Y-%m-%d %H:%M:%S} UTC" if first.since else ""
        others = f", and {counted(more, 'other')}" if more else ""
        raise BusyError(
            f"not all events are certain after {self._seconds:g} seconds: "
            f"{first.who}{since}{others}, may still add some",
            hint="commit it or roll it back, then run this again: it goes on where it stopped",
        )


class _Patience:
    """How long a sink may take nothing."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._began = time.monotonic()
        self._paused = 0.0

    def require(self, pause: float, outcome: Outcome) -> None:
        """Raise where another pause would be beyond it."""
        self._paused += pause
        waited = max(self._paused, time.monotonic() - self._began + pause)
        if self._seconds is None or waited <= self._seconds:
            return
        kind = ConnectError if outcome.is_unreachable else AuditError
        raise kind(
            f"the sink took nothing for {self._seconds:g} seconds: {outcome.error or outcome.refused}",
            hint=outcome.hint
            or "fix the sink, then run the command again: it resumes where it stopped",
        )


def _rows(event: Event) -> set[tuple[str, str, str | None]]:
    return {(event.schema_name, event.table_name, key) for key in (event.row_key, event.key_before)}


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def find_origin(connection: Connection, schema: str = "audit") -> Origin:
    """Where the events of this trail come from, as messages say it."""
    here = find_position(connection, Tables(schema=schema))
    place = read_location(connection, schema).present
    return Origin(
        database=connection.info.dbname,
        schema=schema,
        system_identifier=here.system_identifier,
        trail=f"{place.database_oid}.{place.trail_oid}",
    )
