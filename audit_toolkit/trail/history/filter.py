"""Which events of a history are wanted, and the SQL that reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from audit_toolkit.errors import UsageError
from audit_toolkit.templates import render
from audit_toolkit.trail.event import BIGGEST, Action, Event, require_numbers
from audit_toolkit.trail.rows.key_range import KeyRange
from audit_toolkit.trail.rows.lookup import Scope, Tables, trail_table
from audit_toolkit.trail.rows.table_names import TableName

_OF_NO_ROW = frozenset({Action.TRUNCATE, Action.GAP, Action.DDL})
"""What befalls whole tables: the index on rows finds it, as it has no key."""


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
    """How many events: the newest so many, or with `after` alone the oldest."""
    actor: str | None = None
    """Who, as the application claimed it; the login role where it claimed nothing."""
    context: tuple[tuple[str, str], ...] = ()
    """Keys of the context and the values they must have, as text."""
    role: str | None = None
    """The role that logged in, or that it took on with SET ROLE."""
    transaction: int | None = None
    """The transaction that made the change."""
    transaction_start: datetime | None = None
    """When that transaction began: where a trail went on in another cluster, numbers repeat."""
    changed: str | None = None
    """The column that has another value after the event."""
    newest_first: bool = False
    before: int | None = None
    """The number of an event: only those with lower ones."""
    after: int | None = None
    """The number of an event: only those with higher ones."""
    keys: KeyRange | None = None
    """Rows with keys in a range; `find_range` makes it."""
    reason: str | None = None
    """Text that the reason contains, in whatever case: the number of a ticket."""
    oldest: bool = False
    """Whether `limit` keeps the oldest also where `before` is given."""

    def __post_init__(self) -> None:
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise UsageError(
                    f"{moment.isoformat()} has no time zone",
                    hint="give one: datetime(…, tzinfo=UTC)",
                )
        if self.since and self.until and self.since >= self.until:
            raise UsageError(
                f"since must be earlier than until: {self.since.isoformat()} is not before "
                f"{self.until.isoformat()}",
                hint="the beginning has to be before the end",
            )
        # A page may extend to before the first event.
        require_numbers(self.transaction, *(abs(n) for n in (self.before, self.after) if n))
        if self.limit is not None and self.limit < 1:
            raise UsageError(
                f"limit must be at least 1, not {self.limit}", hint="ask for at least one event"
            )
        if self.limit is not None and self.limit > BIGGEST:
            raise UsageError(
                f"a limit of {self.limit} events is too high", hint="leave it out for all"
            )
        if self.after is not None and self.before is not None and self.after >= self.before:
            raise UsageError(
                f"after must be less than before: {self.after} is not below {self.before}",
                hint="events after 5 and before 7 are after=5, before=7",
            )

    @property
    def of_no_row(self) -> bool:
        """Whether it asks for nothing but what befalls whole tables, which an index finds."""
        return bool(self.actions) and self.actions <= _OF_NO_ROW

    @property
    def oldest_of(self) -> bool:
        """Whether `limit` keeps the oldest events: a page forward."""
        return self.oldest or (self.after is not None and self.before is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far the trail is complete, for a tail that may not step over what is not committed yet."""

    event_id: int
    """No event up to this one can still appear."""
    transaction_id: int
    """All transactions below this one are over: what they did is there as a whole."""


def history_query(
    subject: Scope,
    wanted: Filter,
    own_events: Iterable[Event] | None = None,
    *,
    reach: Reach | None = None,
    brief: bool = False,
    with_changed: bool = False,
    forward: bool | None = None,
    at_most: int | None = None,
    most_bytes: int | None = None,
    moves: bool = False,
) -> tuple[str, Mapping[str, object]]:
    """The SQL of a history and its parameters; the rows are for `Event.from_record`.

    `own_events` are those of the row, where its key alone does not tell them. `brief` rows are only
    the numbers, tables and keys of the events; rows `with_changed` have that as text, which saves who
    writes it more time than it costs the server. `forward` says whether a limit keeps the oldest, where that
    is not what `before` and `after` say. `at_most` is how many rows to read, whatever is wanted.
    With `most_bytes`, the only row says how many `events` there are, and how many of the first are `fitting`: no more
    is stored of them; and how much is stored of the `largest`.
    With `moves`, what left the row's key for another is there, too.
    """
    own = list(own_events) if own_events is not None else None
    keys = wanted.keys
    sql = render(
        "queries/history",
        trail=trail_table(subject.schema),
        trail_schema=subject.schema,
        names=_names(subject, wanted),
        tables=_which_tables(subject),
        by_key=subject.key is not None and own is None,
        by_ids=own is not None,
        by_range=keys,
        spans=keys is not None and bool(keys.singles or keys.spans),
        since=wanted.since is not None,
        until=wanted.until is not None,
        actions=bool(wanted.actions),
        of_no_row=wanted.of_no_row,
        paged=wanted.limit is not None,
        oldest=wanted.oldest_of if forward is None else forward,
        actor=wanted.actor is not None,
        context=bool(wanted.context),
        role=wanted.role is not None,
        reason=wanted.reason is not None,
        transaction=wanted.transaction is not None,
        transaction_start=wanted.transaction_start is not None,
        changed=wanted.changed is not None,
        before=wanted.before is not None,
        after=wanted.after is not None,
        reach=reach is not None,
        brief=brief,
        with_changed=with_changed,
        descending=wanted.newest_first,
        at_most=at_most is not None,
        most_bytes=most_bytes is not None,
        moves=moves,
    )
    parameters = {
        "since": wanted.since,
        "until": wanted.until,
        "actions": sorted(action.value for action in wanted.actions),
        "limit": wanted.limit,
        "at_most": at_most,
        "most_bytes": most_bytes,
        "actor": wanted.actor,
        "context_keys": [key for key, _ in wanted.context],
        "context_values": [value for _, value in wanted.context],
        "role": wanted.role,
        "reason": wanted.reason,
        "transaction_id": None if wanted.transaction is None else str(wanted.transaction),
        "transaction_start": wanted.transaction_start,
        "changed": wanted.changed,
        "before": wanted.before,
        "after": wanted.after,
        "event_ids": [event.event_id for event in own or ()],
        "row_keys": list({event.row_key for event in own or ()}),
        **reach_parameters(reach),
        **(keys.parameters if keys else {}),
    }
    return sql, subject.parameters | parameters


def _names(subject: Scope, wanted: Filter) -> tuple[TableName, ...]:
    """The names that the query has to know one by one: of several tables only for the columns that they had."""
    if isinstance(subject, Tables):
        return subject.named if wanted.changed is not None else ()
    return subject.names


def _which_tables(subject: Scope) -> str:
    if isinstance(subject, Tables):
        return "several" if subject.names else "all"
    return "one"


def reach_parameters(reach: Reach | None) -> dict[str, object]:
    """What a query that stays within reach is sent with."""
    if reach is None:
        return {}
    return {"reach": reach.event_id, "finished": str(reach.transaction_id)}
