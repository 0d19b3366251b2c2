"""Consumers as the database knows them: their places, their one instance, and what their sinks refused.

One instance delivers. It holds an advisory lock, which ends with its connection however it dies, and
changes the consumer under a lease that was given with the lock: whoever lost the one without knowing
changes nothing any more. The number of the lock is drawn; where somebody holds it who is no instance, another is.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import AuditError, BusyError, UsageError
from audit_toolkit.schema.location import read_location
from audit_toolkit.schema.moved_trail import adopt_command
from audit_toolkit.templates import render
from audit_toolkit.trail import Event, Position
from audit_toolkit.trail.event import require_numbers
from audit_toolkit.trail.history.cursor import find_position, last_number
from audit_toolkit.trail.history.follow import settle
from audit_toolkit.trail.rows.lookup import Tables, require_readable_trail

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

MOST_COUNTED = 100_000
"""A consumer that is further behind is said to be so many events behind."""

_UNLOCK = "select pg_advisory_unlock(%(lock_key)s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A consumer, and how it stands."""

    name: str
    event_id: int
    """Everything up to it was delivered, put aside or not asked for."""
    event_tstamp: datetime | None
    """When the last event that was delivered happened, in UTC."""
    system_identifier: str | None
    timeline: int | None
    is_active: bool
    """Whether an instance of it is connected."""
    lease_pid: int | None
    """Of the session of its last instance."""
    options: Mapping[str, Any]
    """What its last instance was started with."""
    delivered: int
    delivered_at: datetime | None
    failures: int
    """Attempts in a row that failed."""
    last_error: str | None
    last_error_at: datetime | None
    hold_for: str | None
    """How long retention waits for it, at most."""
    dead_letters: int
    lag_events: int
    """Events behind its place, of any table; at most `MOST_COUNTED` are counted."""
    lag_seconds: float | None
    """The age of the first of them."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The consumer of a row of our query."""
        moments = ("event_tstamp", "delivered_at", "last_error_at")
        utc = {name: record[name] and record[name].replace(tzinfo=UTC) for name in moments}
        return cls(**{**record, **utc, "options": json.loads(record["options"])})

    def as_dict(self) -> dict[str, Any]:
        """The consumer as JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        for name, value in values.items():
            if isinstance(value, datetime):
                values[name] = value.isoformat(timespec="microseconds")
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that a sink refused for good, or that waits for such of its row."""

    event_id: int
    event_tstamp: datetime
    schema_name: str
    table_name: str
    row_key: str | None
    tries: int
    """How often it was refused; 0 where it only waits."""
    reason: str
    refused_at: datetime
    is_due: bool
    """Whether it is to be delivered again."""

    @property
    def may_go(self) -> bool:
        """Whether it may be delivered once no earlier one of its row waits."""
        return self.is_due or not self.tries

    @property
    def row(self) -> tuple[str, str, str | None]:
        """The row that it is about: schema, table and key."""
        return self.schema_name, self.table_name, self.row_key

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The dead letter of a row of our query."""
        utc = {n: record[n].replace(tzinfo=UTC) for n in ("event_tstamp", "refused_at")}
        return cls(**{**record, **utc})

    def as_dict(self) -> dict[str, Any]:
        """The dead letter as JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {n: values[n].isoformat() for n in ("event_tstamp", "refused_at")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to deliver for a consumer, as long as the connection lives and no other took it."""

    name: str
    schema: str
    token: str
    lock_key: int


def has_consumers(connection: Connection, schema: str = "audit") -> bool:
    """Whether the trail has a place for consumers; one of an older release has not."""
    return bool(fetch(connection, render("stream/is_there", schema=schema))[0]["is_there"])


def read_consumers(connection: Connection, *, schema: str = "audit") -> list[Consumer]:
    """All consumers of the trail, by name. Raises `UsageError` where it cannot have any."""
    _require(connection, schema)
    sql = _sql("find", schema, named=False, most=MOST_COUNTED)
    return [Consumer.from_record(row) for row in fetch(connection, sql, {})]


def find_consumer(connection: Connection, name: str, *, schema: str = "audit") -> Consumer:
    """The consumer of that name. Raises `UsageError` where there is none."""
    _require(connection, schema)
    sql = _sql("find", schema, named=True, most=MOST_COUNTED)
    if rows := fetch(connection, sql, {"name": name}):
        return Consumer.from_record(rows[0])
    there = ", ".join(consumer.name for consumer in read_consumers(connection, schema=schema))
    raise UsageError(
        f"the trail has no consumer {name!r}",
        hint=f"known consumers: {there}" if there else "create one: audit stream run NAME --to …",
    )


def is_known(connection: Connection, name: str, *, schema: str = "audit") -> bool:
    """Whether there is a consumer of that name. Raises `UsageError` where there cannot be any."""
    _require(connection, schema)
    return any(c.name == name for c in read_consumers(connection, schema=schema))


def partitions_left(
    connection: Connection, consumer: Consumer | None, *, schema: str = "audit"
) -> int:
    """How many partitions have left the trail that may have events which a consumer did not get; a new one: all."""
    since = consumer.event_tstamp if consumer else None
    [row] = fetch(connection, _sql("left", schema), {"since": since})
    return int(row["partitions"])


def register(
    connection: Connection,
    name: str,
    begin: int | datetime | None,
    options: Mapping[str, Any],
    *,
    schema: str = "audit",
) -> None:
    """Make a consumer that begins behind an event, at a time, or (None) with what commits from now on.

    The last waits until transactions that are open now are over.
    """
    if not name.strip():
        raise UsageError("a consumer needs a name", hint="audit stream run NAME --to …")
    here = _here(connection, schema)
    where = replace(here, event_id=_place(connection, begin, schema))
    sql = _sql("register", schema)
    fetch_none(connection, sql, _of_position(where) | {"name": name, "options": _json(options)})


def reset(
    connection: Connection, name: str, begin: int | datetime | None, *, schema: str = "audit"
) -> int:
    """Let a consumer go on behind another event, at a time, or with what commits from now on; the event.

    Raises `BusyError` while an instance delivers, and `UsageError` for a name that there is not.
    """
    consumer = find_consumer(connection, name, schema=schema)
    if consumer.is_active:
        raise BusyError(
            f"an instance of {name} is delivering (pid {consumer.lease_pid})",
            hint="stop it first, or it would continue from its old position",
        )
    here = _here(connection, schema)
    where = replace(here, event_id=_place(connection, begin, schema))
    fetch_none(connection, _sql("reset", schema), _of_position(where) | {"name": name})
    return where.event_id


def drop(connection: Connection, name: str, *, schema: str = "audit") -> None:
    """Forget a consumer, with its place and its dead letters; raises what `reset` raises."""
    consumer = find_consumer(connection, name, schema=schema)
    if consumer.is_active:
        raise BusyError(
            f"an instance of {name} is delivering (pid {consumer.lease_pid})", hint="stop it first"
        )
    fetch_none(connection, _sql("drop", schema), {"name": name})


def take_lease(
    connection: Connection,
    name: str,
    options: Mapping[str, Any],
    hold_for: str | None = None,
    *,
    schema: str = "audit",
) -> Lease | int:
    """The lease of a consumer, or the pid of the session that has it. Waits for nobody.

    The connection keeps it, outside of any transaction, until it ends.
    """
    while True:
        rows = fetch(connection, _sql("lock", schema), {"name": name})
        if not rows:
            raise UsageError(f"the trail has no consumer {name!r}", hint="it was dropped just now")
        row = rows[0]
        asked = {"name": name, "lock_key": row["lock_key"]}
        if row["is_locked"]:
            values = asked | {"options": _json(options), "hold_for": hold_for}
            if leased := fetch(connection, _sql("lease", schema), values):
                token = leased[0]["lease"]
                return Lease(name=name, schema=schema, token=token, lock_key=row["lock_key"])
            # The lock became another one in between.
            fetch(connection, _UNLOCK, {"lock_key": row["lock_key"]})
            continue
        holders = fetch(connection, _sql("lock_holder", schema), asked)
        if not holders:
            continue
        if holders[0]["is_instance"]:
            return int(holders[0]["pid"])
        fetch_none(connection, _sql("new_lock", schema), asked)


def give_back(connection: Connection, lease: Lease) -> None:
    """End a lease at once: its lock would last until the server notices the end of the connection."""
    if connection.closed or connection.broken:
        return
    # Whatever ended the delivery is what its caller has to hear of.
    with suppress(import_psycopg().Error):
        fetch(connection, _UNLOCK, {"lock_key": lease.lock_key})


def require_lease(connection: Connection, lease: Lease) -> None:
    """Raise `BusyError` where the lease is another's, and what psycopg raises where the session is gone."""
    if not fetch(connection, _sql("leased", lease.schema), _of(lease)):
        raise _taken_over(connection, lease)


def advance(
    connection: Connection, lease: Lease, position: Position, delivered: int, latest: Event | None
) -> None:
    """Note that everything up to a position is done.

    Raises `BusyError` where the lease is another's, and `AuditError` where the consumer is gone.
    """
    values = {
        "event_id": position.event_id,
        "event_tstamp": latest and latest.action_tstamp,
        "delivered": delivered,
    }
    if not fetch(connection, _sql("advance", lease.schema), values | _of(lease)):
        raise _taken_over(connection, lease)


def fail(connection: Connection, lease: Lease, reason: str) -> int:
    """Note an attempt that failed; how many have in a row. Raises `BusyError` without the lease."""
    rows = fetch(connection, _sql("fail", lease.schema), {"reason": reason, **_of(lease)})
    if not rows:
        raise _taken_over(connection, lease)
    return int(rows[0]["failures"])


def put_aside(
    connection: Connection, lease: Lease, letters: Iterable[tuple[Event, int, str]]
) -> None:
    """Keep events that were refused so many times, with the reason."""
    values = [
        {
            "event_id": event.event_id,
            "event_tstamp": event.action_tstamp.isoformat(),
            "schema_name": event.schema_name,
            "table_name": event.table_name,
            "row_key": event.row_key,
            "tries": tries,
            "reason": reason,
        }
        for event, tries, reason in letters
    ]
    asked = {"letters": _json(values), **_of(lease)}
    if values and not fetch_none(connection, _sql("put_aside", lease.schema), asked):
        raise _taken_over(connection, lease)


def read_letters(
    connection: Connection,
    name: str,
    *,
    due: bool = False,
    event_ids: Sequence[int] | None = None,
    schema: str = "audit",
) -> list[DeadLetter]:
    """The dead letters of a consumer, or those that are to be delivered again, the oldest first."""
    sql = _sql("letters", schema, due=due, chosen=event_ids is not None)
    rows = fetch(connection, sql, {"name": name, "event_ids": list(event_ids or ())})
    return [DeadLetter.from_record(row) for row in rows]


def retry_letters(
    connection: Connection, name: str, event_ids: Sequence[int] | None, *, schema: str = "audit"
) -> int:
    """Have dead letters delivered again, by the instance that delivers; how many."""
    return _letters(connection, "retry", name, event_ids, schema)


def forget_letters(
    connection: Connection, name: str, event_ids: Sequence[int] | None, *, schema: str = "audit"
) -> int:
    """Give up dead letters; how many."""
    return _letters(connection, "forget", name, event_ids, schema)


def forget_delivered(connection: Connection, lease: Lease, event_ids: Sequence[int]) -> None:
    """Forget dead letters that were delivered after all; nothing without the lease."""
    sql = _sql("forget", lease.schema, chosen=True, leased=True)
    if event_ids:
        fetch_none(connection, sql, {"event_ids": list(event_ids), **_of(lease)})


def note_timeline(connection: Connection, lease: Lease, position: Position) -> None:
    """Keep that the consumer goes on where a standby was promoted; raises what `advance` raises."""
    values = {"timeline": position.timeline, **_of(lease)}
    if not fetch_none(connection, _sql("promoted", lease.schema), values):
        raise _taken_over(connection, lease)


def position_of(
    connection: Connection, consumer: Consumer, scope: Any, came_from: int | None = None
) -> Position:
    """Where a consumer goes on. Raises `UsageError` where that is on another server or timeline.

    Who comes from its timeline, and has lost the connection to it, goes on on a later one: a standby was promoted. The
    place came there with the events before it.
    """
    hint = (
        f"compare what was delivered with the trail, then: audit stream reset {shlex.quote(consumer.name)} "
        "--to EVENT, the last event that both have"
    )
    here = find_position(connection, scope)
    there = replace(
        here,
        event_id=consumer.event_id,
        system_identifier=consumer.system_identifier,
        timeline=consumer.timeline,
    )
    later = None not in (came_from, here.timeline) and (here.timeline or 0) > (came_from or 0)
    if later and consumer.timeline == came_from:
        there = replace(there, timeline=here.timeline)
    try:
        there.require_same(here)
    except UsageError as error:
        raise UsageError(
            error.message.replace("the cursor", f"the place of {consumer.name}"),
            hint=hint,
        ) from error
    newest = last_number(connection, scope.schema)
    if newest is not None and consumer.event_id > newest:
        raise UsageError(
            f"the place of {consumer.name} is event {consumer.event_id}, and the newest of the trail is {newest}: "
            "the trail was put back to an earlier state, or the place was moved",
            hint=hint,
        )
    return replace(here, event_id=consumer.event_id)


def require_at_home(connection: Connection, schema: str) -> None:
    """Raise `UsageError` for a copy of a trail: the consumers of the original deliver what it had."""
    if read_location(connection, schema).moved:
        raise UsageError(
            "the trail was restored or copied into this database, and nobody said that it continues here: "
            "consumers could deliver twice, also to the receivers of the original",
            hint=f"if it does continue here: {adopt_command(schema)}; in a copy, drop the consumers first "
            "(audit stream drop NAME)",
        )


def fetch_none(connection: Connection, sql: str, values: Mapping[str, object]) -> int:
    """Run a statement that gives no rows; how many it changed."""
    return connection.execute(sql, values).rowcount


def _letters(
    connection: Connection, what: str, name: str, event_ids: Sequence[int] | None, schema: str
) -> int:
    find_consumer(connection, name, schema=schema)
    sql = _sql(what, schema, chosen=event_ids is not None, leased=False)
    return fetch_none(connection, sql, {"name": name, "event_ids": list(event_ids or ())})


def _here(connection: Connection, schema: str) -> Position:
    _require(connection, schema)
    return find_position(connection, Tables(schema=schema))


def _place(connection: Connection, begin: int | datetime | None, schema: str) -> int:
    if isinstance(begin, int):
        return _captured(connection, begin, schema)
    if begin is None:
        return settle(connection, schema).event_id
    [row] = fetch(connection, _sql("before_time", schema), {"since": begin})
    return int(row["event_id"])


def _captured(connection: Connection, event_id: int, schema: str) -> int:
    """That event; raises `UsageError` for one that was not captured yet: those that come would be stepped over."""
    require_numbers(event_id)
    newest = last_number(connection, schema)
    if newest is not None and event_id > newest:  # who may not know it is believed
        raise UsageError(
            f"there is no event {event_id} yet: the newest is {newest}",
            hint="for what commits from now on: now",
        )
    return event_id


def _require(connection: Connection, schema: str) -> None:
    if not has_consumers(connection, schema):
        require_readable_trail(connection, schema)
        raise UsageError(
            "the trail was created by an older release, which had no consumers",
            hint="audit upgrade --upgrade",
        )


def _taken_over(connection: Connection, lease: Lease) -> AuditError:
    if not is_known(connection, lease.name, schema=lease.schema):
        return AuditError(
            f"the consumer {lease.name} is no longer in the database: it was dropped or renamed",
            hint="to see what there is: audit stream list",
        )
    return BusyError(
        f"another instance of {lease.name} has taken over", hint="this one stopped delivering"
    )


def _of(lease: Lease) -> dict[str, object]:
    return {"name": lease.name, "lease": lease.token}


def _of_position(position: Position) -> dict[str, object]:
    return {
        "event_id": position.event_id,
        "system_identifier": position.system_identifier,
        "timeline": position.timeline,
    }


def _sql(name: str, schema: str, **values: Any) -> str:
    return render(f"stream/{name}", schema=schema.replace("%", "%%"), **values)


def _json(values: Any) -> str:
    return json.dumps(values, default=str)
