"""What is wrong with the partitions, or soon will be: findings, each with its remedy."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import quote_identifier, quote_literal
from audit_toolkit.partitions.boundaries import literal
from audit_toolkit.partitions.clock import TRUST
from audit_toolkit.partitions.model import Entry, Leaf, Partitions, PartitionState, Policy
from audit_toolkit.partitions.planning import is_droppable
from audit_toolkit.partitions.rate import MOST_EVENTS, events_in, suitable_interval

RUN = "audit partitions run"
FAR = timedelta(days=366)
"""So far ahead of now no partition is made: an event of then is of a clock that was wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a number becomes a finding."""

    horizon_warning: timedelta = timedelta(days=14)
    horizon_critical: timedelta = timedelta(days=3)
    success_warning: timedelta = timedelta(days=2)
    success_critical: timedelta = timedelta(days=7)


def check_partitions(
    partitions: Partitions, policy: Policy, thresholds: Thresholds
) -> tuple[Finding, ...]:
    """All findings, errors first; none when all is well."""
    found = [
        *_clock(partitions, policy),
        *_horizon(partitions, thresholds),
        *_catch_all(partitions),
        *_past(partitions),
        *_gaps(partitions),
        *_leaves(partitions),
        *_outside(partitions),
        *_archive(partitions, policy),
        *_dropped(partitions),
        *_last_success(partitions, thresholds),
        *_interval(partitions, policy),
    ]
    return tuple(sorted(found, key=lambda finding: -finding.severity.rank))


def _clock(partitions: Partitions, policy: Policy) -> Iterator[Finding]:
    doubt = policy.doubt(partitions)
    if doubt:
        yield Finding(
            kind=doubt.kind,
            severity=Severity.ERROR,
            subject=str(partitions.trail),
            message=f"{doubt.message}; nothing is created, detached or dropped by this clock",
            remedy=TRUST,
        )


def _horizon(partitions: Partitions, thresholds: Thresholds) -> Iterator[Finding]:
    days = partitions.horizon / timedelta(days=1)
    if partitions.horizon >= thresholds.horizon_warning:
        return
    critical = partitions.horizon < thresholds.horizon_critical
    reached = (
        f"{days:.1f} days of partitions are left"
        if days > 0
        else "no partition other than the catch-all covers the present"
    )
    yield Finding(
        kind=FindingKind.HORIZON,
        severity=Severity.ERROR if critical else Severity.WARNING,
        subject=str(partitions.trail),
        message=reached,
        remedy=RUN,
    )


def _catch_all(partitions: Partitions) -> Iterator[Finding]:
    tail, default = partitions.tail, partitions.default
    if tail is None and default is None:
        yield Finding(
            kind=FindingKind.NO_TAIL,
            severity=Severity.ERROR,
            subject=str(partitions.trail),
            message="there is no catch-all partition: writes after the end of the last partition "
            "would fail",
            remedy=RUN,
        )
    if tail is not None and tail.has_rows:
        yield _tail_has_rows(partitions, tail)
    if tail is not None and tail.capped:
        yield Finding(
            kind=FindingKind.TAIL_CAPPED,
            severity=Severity.ERROR,
            subject=str(tail.name),
            message="an interrupted run left a CHECK on the catch-all partition that will refuse "
            "later events",
            remedy=RUN,
        )
    if default is not None:
        yield Finding(
            kind=FindingKind.DEFAULT_HAS_ROWS if default.has_rows else FindingKind.DEFAULT_PRESENT,
            severity=Severity.ERROR if default.has_rows else Severity.WARNING,
            subject=str(default.name),
            message="a DEFAULT partition prevents DETACH CONCURRENTLY, and each new partition locks "
            "it",
            remedy="audit partitions convert-default",
        )


def _tail_has_rows(partitions: Partitions, tail: Leaf) -> Finding:
    first = tail.first_event
    if first and first - partitions.now > FAR:
        return Finding(
            kind=FindingKind.FAR_FUTURE,
            severity=Severity.WARNING,
            subject=str(tail.name),
            message=f"it has events from {literal(first)} on: a clock was far ahead when they were "
            "recorded",
            remedy="they may stay; docs/partitions.md says how to move or accept them",
        )
    return Finding(
        kind=FindingKind.TAIL_HAS_ROWS,
        severity=Severity.ERROR,
        subject=str(tail.name),
        message="the catch-all partition has events: no partition was created in time, or a clock "
        "was wrong",
        remedy=RUN,
    )


def _past(partitions: Partitions) -> Iterator[Finding]:
    past, default = partitions.past, partitions.default
    if past is None and default is None and all(leaf.lower for leaf in partitions.leaves):
        yield Finding(
            kind=FindingKind.NO_PAST,
            severity=Severity.WARNING,
            subject=str(partitions.trail),
            message="no partition covers times before the first one: writes with a clock that is far "
            "behind would fail",
            remedy=RUN,
        )
    if past is not None and past.has_rows:
        yield Finding(
            kind=FindingKind.PAST_HAS_ROWS,
            severity=Severity.WARNING,
            subject=str(past.name),
            message="it has events from before the first partition: a clock was behind when they "
            "were recorded",
            remedy="they stay, whatever the retention; docs/partitions.md says how to move or accept them",
        )


def _gaps(partitions: Partitions) -> Iterator[Finding]:
    for lower, upper in partitions.gaps:
        ahead = upper > partitions.now
        known = any(_covers(entry, lower, upper) for entry in partitions.entries)
        if ahead or not known:
            yield Finding(
                kind=FindingKind.GAP,
                severity=Severity.ERROR if ahead else Severity.WARNING,
                subject=str(partitions.trail),
                message=f"no partition from {lower:%Y-%m-%d} to {upper:%Y-%m-%d}"
                + (": writes of that time fail" if ahead else ""),
                remedy=RUN
                if ahead
                else "attach the partition that somebody detached, if it is still there",
            )

    yield from _lost_beginning(partitions)


def _lost_beginning(partitions: Partitions) -> Iterator[Finding]:
    """The first leaves, where they are gone and no run of ours has taken them away."""
    bounded = [entry for entry in partitions.entries if entry.lower and entry.upper]
    reached = min((entry.lower for entry in bounded if entry.lower), default=None)
    lowest = min((leaf.lower for leaf in partitions.leaves if leaf.lower), default=None)
    ours = [leaf for leaf in partitions.leaves if not leaf.is_past]
    if reached is None or lowest is None or any(leaf.lower is None for leaf in ours):
        return
    for entry in sorted(bounded, key=lambda one: one.lower or lowest):
        if entry.state is not PartitionState.ATTACHED and entry.lower == reached and entry.upper:
            reached = entry.upper
    if reached < lowest:
        yield Finding(
            kind=FindingKind.GAP,
            severity=Severity.ERROR,
            subject=str(partitions.trail),
            message=f"no partition from {reached:%Y-%m-%d} to {lowest:%Y-%m-%d}, where the trail begins:"
            " somebody dropped or detached it",
            remedy="attach it again, or restore it from the archive or a backup",
        )


def _covers(entry: Entry, lower: object, upper: object) -> bool:
    return entry.state is not PartitionState.ATTACHED and (
        entry.lower == lower or entry.upper == upper
    )


def _leaves(partitions: Partitions) -> Iterator[Finding]:
    for leaf in partitions.leaves:
        if leaf.detach_pending:
            yield Finding(
                kind=FindingKind.DETACH_PENDING,
                severity=Severity.ERROR if leaf.is_tail else Severity.WARNING,
                subject=str(leaf.name),
                message="its detach was interrupted: its events are hidden, and migrations of the "
                "trail must wait",
                remedy=RUN,
            )
        if leaf.plain and not leaf.guarded:
            yield Finding(
                kind=FindingKind.NOT_GUARDED,
                severity=Severity.ERROR,
                subject=str(leaf.name),
                message="the partition is not append-only: its guard is missing or disabled",
                remedy="psql -c " + shlex.quote(_guard(partitions, leaf)),
            )
        if not leaf.plain:
            yield Finding(
                kind=FindingKind.UNMANAGED,
                severity=Severity.WARNING,
                subject=str(leaf.name),
                message="not an ordinary table: retention and archiving skip it",
                remedy="replace it with an ordinary table, or take care of it yourself",
            )


def _guard(partitions: Partitions, leaf: Leaf) -> str:
    schema = quote_identifier(partitions.schema)
    return f"select {schema}.guard_relation({quote_literal(str(leaf.name))})"


def _outside(partitions: Partitions) -> Iterator[Finding]:
    for stray in partitions.strays:
        if stray == partitions.spare_tail and partitions.tail is None:
            continue  # reported as the missing catch-all partition
        yield Finding(
            kind=FindingKind.UNATTACHED,
            severity=Severity.WARNING,
            subject=str(stray.name),
            message="a partition that somebody detached by hand"
            + (": its events are hidden" if stray.has_rows else ", without events"),
            remedy=f"alter table {partitions.trail} attach partition {stray.name} for values …, or drop it",
        )
    attached = {leaf.oid for leaf in partitions.leaves if not leaf.detach_pending}
    for entry in partitions.entries:
        if entry.state is PartitionState.DETACHED and entry.oid in attached:
            yield Finding(
                kind=FindingKind.RECORD_DIFFERS,
                severity=Severity.WARNING,
                subject=str(partitions.trail_sibling(entry.current_name or entry.name)),
                message="it is recorded as detached, and it is attached: somebody attached it by hand, or "
                "changed the record",
                remedy=RUN,
            )
        if entry.state is PartitionState.DETACHED and entry.renamed:
            yield Finding(
                kind=FindingKind.RENAMED,
                severity=Severity.WARNING,
                subject=str(partitions.trail_sibling(entry.current_name or entry.name)),
                message=f"the detached partition was called {entry.name} when it was recorded: it is "
                "kept, not dropped",
                remedy=f"rename it back to {entry.name}, or put it on hold: audit partitions hold",
            )


def _archive(partitions: Partitions, policy: Policy) -> Iterator[Finding]:
    unarchived = Policy(quarantine=policy.quarantine)
    for entry in partitions.entries:
        due = is_droppable(partitions, entry, unarchived)
        if policy.archived_only and due and not entry.is_archived:
            yield Finding(
                kind=FindingKind.NOT_ARCHIVED,
                severity=Severity.WARNING,
                subject=str(partitions.trail_sibling(entry.name)),
                message="its quarantine is over, but it has no verified archive: it is kept",
                remedy="audit archive run",
            )


def _dropped(partitions: Partitions) -> Iterator[Finding]:
    """What was dropped without an archive, since there is one."""
    since = min((e.archived_at for e in partitions.entries if e.archived_at), default=None)
    for entry in partitions.entries:
        dropped = entry.dropped_at if entry.state is PartitionState.DROPPED else None
        if since and dropped and dropped > since and not entry.archive:
            yield Finding(
                kind=FindingKind.DROPPED_UNARCHIVED,
                severity=Severity.WARNING,
                subject=str(partitions.trail_sibling(entry.name)),
                message=f"dropped here on {dropped:%Y-%m-%d} without being archived, unlike others",
                remedy="restore it from a backup if it is needed; give every run the same --archive",
            )


def _last_success(partitions: Partitions, thresholds: Thresholds) -> Iterator[Finding]:
    last = partitions.last_success
    age = partitions.now - last if last else None
    if age is not None and age < thresholds.success_warning:
        return
    critical = age is not None and age >= thresholds.success_critical
    when = (
        f"last succeeded {age / timedelta(days=1):.1f} days ago" if age else "has never succeeded"
    )
    yield Finding(
        kind=FindingKind.LAST_SUCCESS,
        severity=Severity.ERROR if critical else Severity.WARNING,
        subject=str(partitions.trail),
        message=f"maintenance {when}",
        remedy="check that cron runs audit maintain",
    )


def _interval(partitions: Partitions, policy: Policy) -> Iterator[Finding]:
    """Advice where partitions get too large; who has short ones may have reasons."""
    rate, present = partitions.events_a_day, policy.new_interval(partitions)
    fitting = suitable_interval(rate, present)
    if rate is None or fitting is present or events_in(present, rate) <= MOST_EVENTS:
        return
    yield Finding(
        kind=FindingKind.INTERVAL_TOO_LONG,
        severity=Severity.INFO,
        subject=str(partitions.trail),
        message=f"about {rate:,.0f} events a day make {events_in(present, rate):,} in a partition of a {present}: "
        f"one of a {fitting} would be quicker to archive, index and restore",
        remedy=f"{RUN} --interval {fitting}",
    )
