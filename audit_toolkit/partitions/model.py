"""What the partitions of the trail are, and how they ought to be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from audit_toolkit.config import Interval
from audit_toolkit.errors import UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions.boundaries import Span, floor, following, literal
from audit_toolkit.partitions.clock import Clock, Doubt
from audit_toolkit.partitions.rate import next_shorter, suitable_interval

TAIL_NAME = "logged_actions_tail"
PAST_NAME = "logged_actions_past"
TAIL_MARGIN = timedelta(days=1)
"""Nearer than this to now, the tail is never taken off, not for a moment: it may be needed."""
HEADROOM = timedelta(days=31)
"""How far beyond now a tail that took events is given its upper bound. A run that is killed in the middle leaves
that bound behind as a CHECK, and the next one has so long to come."""


WEEK = Span(days=7)


class PartitionState(StrEnum):
    """Where a leaf is on its way out (`partition_lifecycle.state`)."""

    ATTACHED = "attached"
    DETACHING = "detaching"
    DETACHED = "detached"
    DROPPED = "dropped"


def _range(lower: datetime | None, upper: datetime | None) -> str:
    return f"{literal(lower) if lower else 'MINVALUE'} to {literal(upper) if upper else 'MAXVALUE'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A partition of the trail as the catalogue has it; a bound is None where there is none."""

    oid: int
    name: QualifiedName
    lower: datetime | None
    upper: datetime | None
    is_default: bool = False
    plain: bool = True
    """Whether it is an ordinary table: foreign tables and further levels of partitions are left alone."""
    detach_pending: bool = False
    guarded: bool = True
    capped: bool = False
    """Whether an interrupted relabelling left a CHECK on it, which refuses events beyond."""
    has_rows: bool = False
    """Known of the tail, of the past and of a DEFAULT only."""
    first_event: datetime | None = None
    """Known of a tail that has rows."""
    bytes: int = 0
    filled: bool = False
    """Whether its file holds anything: of one that is not, nothing need be asked."""

    @property
    def is_tail(self) -> bool:
        """Whether it takes everything from its lower bound on."""
        return self.upper is None and not self.is_default

    @property
    def is_past(self) -> bool:
        """Whether it is what takes events from before the first partition: a clock was behind."""
        bounded = self.lower is None and self.upper is not None
        return bounded and self.plain and self.name.name.startswith(PAST_NAME)

    def covers(self, moment: datetime) -> bool:
        """Whether an event of that moment belongs here."""
        after = self.lower is None or self.lower <= moment
        return after and (self.upper is None or moment < self.upper)

    @property
    def range(self) -> str:
        """Its bounds in words."""
        return "DEFAULT" if self.is_default else _range(self.lower, self.upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A leaf in the record of those that are held, on their way out, or gone."""

    oid: int
    name: str
    """Its name when it was recorded."""
    lower: datetime | None
    upper: datetime | None
    state: PartitionState
    detached_at: datetime | None = None
    hold_reason: str | None = None
    archive: str | None = None
    archive_digest: str | None = None
    archive_manifest: str | None = None
    """The fingerprint of its manifest; None from before 0.3."""
    archived_at: datetime | None = None
    dropped_at: datetime | None = None
    current_name: str | None = None
    """Its name now, None when the table is gone."""

    @property
    def range(self) -> str:
        """Its bounds in words."""
        return _range(self.lower, self.upper)

    @property
    def is_archived(self) -> bool:
        """Whether a verified archive counts; one from before 0.3, whose digest could be forged, does not."""
        return self.archive_digest is not None and "/sha256:" in self.archive_digest

    @property
    def renamed(self) -> bool:
        """Whether somebody gave it another name."""
        return self.current_name not in (None, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A table of the trail's making that is no partition of it."""

    oid: int
    name: QualifiedName
    has_rows: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachBlocker:
    """A transaction that has used the trail for long, so that a detach would wait for it."""

    who: str
    """The process of its session, or under which name it was prepared."""
    application: str
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerHold:
    """A consumer of the trail that has not had all events yet, and for which retention waits."""

    since: datetime
    """When the first of them happened."""
    hold_for: timedelta
    """How long their partitions stay beyond the retention, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitions:
    """The partitions of one trail at one moment of the database's clock."""

    schema: str
    now: datetime
    interval: Interval
    leaves: tuple[Leaf, ...]
    """What is attached, or half detached, by lower bound."""
    entries: tuple[Entry, ...] = ()
    strays: tuple[Stray, ...] = ()
    blockers: tuple[DetachBlocker, ...] = ()
    taken_names: frozenset[str] = frozenset()
    by_function: bool = False
    """Whether this role changes the trail by functions, as a maintainer, and not as its owner."""
    last_success: datetime | None = None
    """When a run of the partitions last succeeded."""
    clock: Clock
    consumer_holds: tuple[ConsumerHold, ...] = ()
    events_a_day: float | None = None
    """How many events came lately; None where too little is known."""

    def kept_from(self, cutoff: datetime) -> datetime:
        """From when on partitions stay, with what consumers have not had, where retention says `cutoff`."""
        held = (max(hold.since, cutoff - hold.hold_for) for hold in self.consumer_holds)
        return min([cutoff, *held])

    @property
    def trail(self) -> QualifiedName:
        """The partitioned table."""
        return QualifiedName(self.schema, "logged_actions")

    def trail_sibling(self, name: str) -> QualifiedName:
        """A table in the schema of the trail."""
        return QualifiedName(self.schema, name)

    @property
    def bounded(self) -> tuple[Leaf, ...]:
        """The leaves with an upper bound that take rows, by time; without the past."""
        kept = [
            leaf
            for leaf in self.leaves
            if leaf.upper and not leaf.detach_pending and not leaf.is_past
        ]
        return tuple(
            sorted(kept, key=lambda leaf: (leaf.lower is not None, leaf.lower, leaf.upper))
        )

    @property
    def tail(self) -> Leaf | None:
        """The partition up to MAXVALUE that takes rows."""
        return next((p for p in self.leaves if p.is_tail and not p.detach_pending), None)

    @property
    def past(self) -> Leaf | None:
        """The partition from MINVALUE on that takes what is before all others."""
        return next((p for p in self.leaves if p.is_past and not p.detach_pending), None)

    @property
    def default(self) -> Leaf | None:
        """The DEFAULT partition, if somebody brought one."""
        return next((leaf for leaf in self.leaves if leaf.is_default), None)

    @property
    def pending(self) -> Leaf | None:
        """The partition of an unfinished DETACH CONCURRENTLY: PostgreSQL allows one at a time."""
        return next((leaf for leaf in self.leaves if leaf.detach_pending), None)

    @property
    def spare_tail(self) -> Stray | None:
        """The tail, taken off by a run that ended before it was put back."""
        return next((s for s in self.strays if s.name.name.startswith(TAIL_NAME)), None)

    @property
    def end(self) -> datetime | None:
        """Where the last bounded leaf ends."""
        return max((leaf.upper for leaf in self.bounded if leaf.upper), default=None)

    @property
    def horizon(self) -> timedelta:
        """How long from now on every moment has a bounded leaf; zero or less when now has none."""
        reached = self.now
        for leaf in self.bounded:
            if leaf.upper and leaf.upper > reached and (not leaf.lower or leaf.lower <= reached):
                reached = leaf.upper
        if reached > self.now:
            return reached - self.now
        return min((self.end or self.now) - self.now, timedelta(0))

    @property
    def gaps(self) -> tuple[tuple[datetime, datetime], ...]:
        """Ranges that no leaf takes: between leaves, before the tail, and from now to the first leaf."""
        leaves = [leaf for leaf in (self.past, *self.bounded, self.tail) if leaf]
        found = [
            (before.upper, after.lower)
            for before, after in pairwise(leaves)
            if before.upper and after.lower and before.upper < after.lower
        ]
        if leaves and leaves[0].lower and leaves[0].lower > self.now:
            found.insert(0, (floor(self.interval, self.now), leaves[0].lower))
        return tuple(found)

    @property
    def blocked(self) -> str:
        """What a DETACH CONCURRENTLY would wait for; empty when nothing is in its way."""
        return ", ".join(
            f"waits for {b.who} ({b.application}), in a transaction for {b.seconds} s"
            for b in self.blockers
        )

    def entry(self, oid: int) -> Entry | None:
        """The record of a table that is not dropped."""
        return next(
            (e for e in self.entries if e.oid == oid and e.state is not PartitionState.DROPPED),
            None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the partitions ought to be."""

    interval: Interval | None = None
    """The length of new leaves; None keeps that of the trail."""
    interval_by_rate: bool = False
    """Whether the length of new leaves is what suits the rate of events."""
    ahead: int | None = None
    """How many leaves are kept ahead of the present one; None takes what suits the interval."""
    retention: Span | None = None
    """How old events get before their leaf leaves; None keeps everything."""
    quarantine: Span = WEEK
    """How long a detached leaf is kept before it is dropped."""
    drop: bool = True
    """Whether leaves are dropped after the quarantine."""
    archived_only: bool = False
    """Whether detached leaves are archived, and only those with a verified archive dropped."""
    trust_clock: bool = False
    """Whether the clock is believed, whatever speaks against it."""
    archive_again: bool = False
    """Whether leaves are archived that were before."""
    blocking_detach: bool = False
    """With a DEFAULT there is no DETACH CONCURRENTLY: allow the one that locks the trail for a moment."""
    most_at_once: int = 3
    """How many leaves one run detaches at most."""

    def __post_init__(self) -> None:
        if self.ahead is not None and self.ahead < 1:
            raise UsageError(
                f"at least one partition must be kept ahead, not {self.ahead}",
                hint="leave out --ahead for a number that fits the interval",
            )

    def check(self, partitions: Partitions) -> None:
        """Raise `UsageError` when the retention is shorter than a leaf."""
        interval = self.new_interval(partitions)
        if self.retention and self.retention.shorter_than(interval):
            raise UsageError(
                f"the retention of {self.retention} is shorter than a partition, which holds "
                f"a {interval}",
                hint="partitions expire as a whole: choose a longer --retention or a shorter --interval",
            )

    def new_interval(self, partitions: Partitions) -> Interval:
        """The interval of leaves yet to be made."""
        if not self.interval_by_rate:
            return self.interval or partitions.interval
        fitting = suitable_interval(partitions.events_a_day, partitions.interval)
        # Partitions expire as a whole: none is longer than what is kept.
        while self.retention and self.retention.shorter_than(fitting) and fitting != Interval.DAY:
            fitting = next_shorter(fitting)
        return fitting

    def doubt(self, partitions: Partitions) -> Doubt | None:
        """Why nothing is done that depends on the time."""
        return None if self.trust_clock else partitions.clock.doubt

    def present(self, partitions: Partitions) -> datetime:
        """The moment from which retention is reckoned."""
        return partitions.now if self.trust_clock else partitions.clock.earliest

    def leaves_ahead(self, partitions: Partitions) -> int:
        """The number of leaves to keep ahead."""
        return self.ahead or self.new_interval(partitions).leaves_ahead

    def wanted_end(self, partitions: Partitions) -> datetime:
        """Up to where leaves are made, when any are made."""
        count = self.leaves_ahead(partitions) + 1
        return following(self.new_interval(partitions), partitions.now, count)

    def refill_below(self, partitions: Partitions) -> datetime:
        """Leaves are made when the last one ends before this: half the usual stretch, so that it is rare.

        Each new leaf makes every session plan its next insert anew.
        """
        count = self.leaves_ahead(partitions) // 2 + 1
        return following(self.new_interval(partitions), partitions.now, count)
