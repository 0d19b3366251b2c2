"""What is to be created: leaves ahead, in gaps, and the tail behind them.

With a tail there are two ways, neither of which moves a row, and both end in one transaction that takes the tail off,
attaches leaves and puts a tail behind them: no committed state lacks a partition for any future time. While the tail
is empty and begins well ahead of now, that is all. A tail that has taken events, or soon may, becomes itself a leaf
with bounds: before, a CHECK is added and validated. The swap is a matter of milliseconds under ACCESS EXCLUSIVE; a
great many leaves come in batches, each with a swap of its own, so that the server's lock table holds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, count

from audit_toolkit.config import Interval
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions import boundaries
from audit_toolkit.partitions.model import (
    HEADROOM,
    TAIL_MARGIN,
    TAIL_NAME,
    Leaf,
    Partitions,
    Policy,
)
from audit_toolkit.partitions.tasks import Stage, Steps, Task, one_by_one
from audit_toolkit.plan import Step

BATCH = 50
"""Leaves that one transaction makes at most: each takes about ten places in the server's lock table."""
_SHARE_UPDATE = "SHARE UPDATE EXCLUSIVE on the trail: blocks nobody"
_SWAP = "ACCESS EXCLUSIVE on the trail, for milliseconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLeaf:
    """A leaf to be made."""

    name: QualifiedName
    lower: datetime
    upper: datetime


def plan_create(partitions: Partitions, policy: Policy) -> Iterator[Task]:
    """Change the interval, fill gaps that events could meet, keep leaves ahead and a tail behind them."""
    if policy.new_interval(partitions) is not partitions.interval:
        yield _set_interval(partitions, policy)
    yield from _fill_gaps(partitions, policy)
    tail = partitions.tail
    if partitions.default:
        yield from _beside_default(partitions, policy)
    elif tail is None:
        yield from _without_tail(partitions, policy)
    elif _is_needed(partitions, policy, tail):
        yield from _relabel(partitions, policy, tail)
    elif tail.lower and tail.lower < policy.refill_below(partitions):
        yield _swap(partitions, policy, tail, tail.lower)
    elif tail.capped:
        yield _uncap(partitions, tail)
    if _lacks_past(partitions):
        yield plan_past(partitions, "A partition for events from before the first one")


def plan_past(partitions: Partitions, what: str) -> Task:
    """A partition for events of a clock that was behind; see the function of the trail."""
    lock = "SHARE UPDATE EXCLUSIVE on the trail, or ACCESS EXCLUSIVE for milliseconds"
    step = Steps(partitions).step(what, "ensure_past", lock=lock)
    return Task(stage=Stage.CREATE, what=what, plan=one_by_one(step))


def _lacks_past(partitions: Partitions) -> bool:
    """Whether events from before the first partition with bounds find none.

    What somebody took off by hand may come back, and its range is left free.
    """
    lowest = min((leaf.lower for leaf in partitions.leaves if leaf.lower), default=None)
    past = partitions.past
    if past is None or past.upper is None:
        return not partitions.default and all(leaf.lower for leaf in partitions.leaves)
    behind = lowest is not None and past.upper < lowest <= partitions.now
    return behind and not partitions.strays


def _is_needed(partitions: Partitions, policy: Policy, tail: Leaf) -> bool:
    """Whether the tail has taken events of now, or soon may; those of a clock that was far ahead may stay in it."""
    first = None if partitions.by_function else tail.first_event  # the owner's alone
    far = first is not None and first >= policy.wanted_end(partitions)
    return _too_near(partitions, tail) or (tail.has_rows and not far)


def new_leaves(
    partitions: Partitions, interval: Interval, start: datetime, end: datetime
) -> tuple[NewLeaf, ...]:
    """Leaves from `start` to `end` under names that nobody has."""
    made: list[NewLeaf] = []
    taken = partitions.taken_names
    for lower, upper in boundaries.ranges(interval, start, end):
        name = boundaries.leaf_name(interval, lower, taken)
        taken |= {name}
        made.append(NewLeaf(name=QualifiedName(partitions.schema, name), lower=lower, upper=upper))
    return tuple(made)


def _set_interval(partitions: Partitions, policy: Policy) -> Task:
    interval = policy.new_interval(partitions)
    why = f"Partitions made from now on hold a {interval} instead of a {partitions.interval}"
    if policy.interval_by_rate and partitions.events_a_day is not None:
        why += f", at about {partitions.events_a_day:,.0f} events a day"
    step = Steps(partitions).step(why, "set_interval", interval=interval, lock=_SHARE_UPDATE)
    return Task(stage=Stage.CREATE, what=why, plan=one_by_one(step))


def _fill_gaps(partitions: Partitions, policy: Policy) -> Iterator[Task]:
    # The past needs no partition: events carry the time of their capture.
    for lower, upper in partitions.gaps:
        if upper > partitions.now and not partitions.default:
            leaves = new_leaves(partitions, policy.new_interval(partitions), lower, upper)
            yield _create(partitions, leaves, "Close the gap")


def _create(partitions: Partitions, leaves: tuple[NewLeaf, ...], why: str) -> Task:
    what = f"{why}: {_named(leaves)}"
    default = partitions.default is not None
    lock = (
        "SHARE ROW EXCLUSIVE on the trail and ACCESS EXCLUSIVE on the DEFAULT: writes wait"
        if default
        else _SHARE_UPDATE
    )
    make = Steps(partitions)
    steps = [
        make.step(f"{why}: {_named(some)}", "create", leaves=some, has_default=default, lock=lock)
        for some in _batches(leaves)
    ]
    return Task(stage=Stage.CREATE, what=what, plan=one_by_one(*steps))


def _beside_default(partitions: Partitions, policy: Policy) -> Iterator[Task]:
    interval, now = policy.new_interval(partitions), partitions.now
    end = partitions.end
    # Rows in the DEFAULT partition cannot get a partition of their own: start after now.
    start = end if end and end > now else boundaries.following(interval, now)
    if start < policy.refill_below(partitions) and not partitions.tail:
        leaves = new_leaves(partitions, interval, start, policy.wanted_end(partitions))
        yield _create(partitions, leaves, "Partitions ahead, next to a DEFAULT")


def _without_tail(partitions: Partitions, policy: Policy) -> Iterator[Task]:
    spare, interval = partitions.spare_tail, policy.new_interval(partitions)
    start = partitions.end or boundaries.following(interval, partitions.now, -1)
    end = max(policy.wanted_end(partitions), start)
    if spare and spare.has_rows:
        end = start  # it has received far-future events meanwhile: restore its bound
    leaves = new_leaves(partitions, interval, start, end)
    what = f"The catch-all partition from {boundaries.literal(end)}" + (
        f", and {_named(leaves)}" if leaves else ""
    )
    tail = spare.name if spare else _tail_name(partitions)
    # The catch-all partition first, because every future time needs it.
    back = Steps(partitions).step(
        f"The catch-all partition from {boundaries.literal(start)}",
        "put_tail_back",
        tail=tail,
        make_tail=spare is None,
        tail_lower=start,
        lock=_SHARE_UPDATE,
    )
    plan = one_by_one(back, *_extend(partitions, tail, leaves))
    yield Task(stage=Stage.CREATE, what=what, plan=plan)


def _swap(partitions: Partitions, policy: Policy, tail: Leaf, start: datetime) -> Task:
    end = policy.wanted_end(partitions)
    leaves = new_leaves(partitions, policy.new_interval(partitions), start, end)
    # With months of partitions ahead, there is no need to wait for a long transaction.
    patient = partitions.horizon > HEADROOM
    return Task(
        stage=Stage.CREATE,
        what=f"Partitions ahead, and the catch-all partition after them: {_named(leaves)}",
        leaf=tail.name,
        plan=one_by_one(
            *(_cap(partitions, tail, lower=end) if tail.has_rows else ()),
            *_extend(partitions, tail.name, leaves),
        ),
        deferred=partitions.blocked if patient else "",
        undo_on_failure=(
            (_uncap_step(partitions, tail, "Remove the cap again"),) if tail.has_rows else ()
        ),
    )


def _extend(
    partitions: Partitions, tail: QualifiedName, leaves: tuple[NewLeaf, ...]
) -> Iterator[Step]:
    """An empty tail moves back behind new leaves, batch by batch, each in one transaction."""
    for some in _batches(leaves):
        yield Steps(partitions).step(
            f"The catch-all partition moves behind {_named(some)}",
            "extend",
            leaves=some,
            tail=tail,
            make_tail=False,
            tail_lower=some[-1].upper,
            lock=_SWAP,
        )


def _batches(leaves: tuple[NewLeaf, ...]) -> Iterator[tuple[NewLeaf, ...]]:
    for first in range(0, len(leaves), BATCH):
        yield leaves[first : first + BATCH]


def _tail_name(partitions: Partitions) -> QualifiedName:
    names = chain([TAIL_NAME], (f"{TAIL_NAME}_{number}" for number in count(2)))
    return QualifiedName(
        partitions.schema, next(name for name in names if name not in partitions.taken_names)
    )


def _too_near(partitions: Partitions, tail: Leaf) -> bool:
    return tail.lower is None or tail.lower <= partitions.now + TAIL_MARGIN


def _relabel(partitions: Partitions, policy: Policy, tail: Leaf) -> Iterator[Task]:
    reach = partitions.now + HEADROOM
    if tail.lower:
        reach = max(reach, tail.lower + timedelta(microseconds=1))
    upper = boundaries.following(policy.new_interval(partitions), reach - timedelta(microseconds=1))
    yield relabelling(partitions, policy, tail, tail.lower, upper)


def relabelling(
    partitions: Partitions, policy: Policy, old: Leaf, lower: datetime | None, upper: datetime
) -> Task:
    """A tail or DEFAULT whose events all lie from `lower` to `upper` becomes a leaf with those bounds.

    Leaves ahead and a tail follow behind the last leaf, in the transaction of the swap.
    """
    interval, make = policy.new_interval(partitions), Steps(partitions)
    start = max(partitions.end or upper, upper)
    end = max(policy.wanted_end(partitions), start)
    name = boundaries.leaf_name(interval, lower or upper, partitions.taken_names)
    after = replace(partitions, taken_names=(partitions.taken_names - {old.name.name}) | {name})
    new_tail = partitions.tail in (None, old)
    leaves = new_leaves(after, interval, start, end) if new_tail else ()
    if old.is_default:
        leaves += tuple(_left_open(after, interval, lower or upper, upper))
    # What does not fit into the transaction of the swap is created after it, in the same way.
    at_once, later = (leaves[:BATCH], leaves[BATCH:]) if new_tail else (leaves, ())
    new_name = QualifiedName(partitions.schema, name)
    what = f"{old.name.name} becomes the partition {name}, {_bounds(lower, upper)}"
    uncap = _uncap_step(partitions, old, "Remove the cap again")
    return Task(
        stage=Stage.CREATE,
        what=what,
        leaf=old.name,
        undo_on_failure=(uncap,),
        plan=one_by_one(
            *_cap(partitions, old, lower=lower, upper=upper),
            make.step(
                what,
                "relabel",
                old=old.name,
                relabelled=new_name,
                guard=not old.guarded,
                lower=lower,
                upper=upper,
                leaves=at_once,
                tail=_tail_name(after) if new_tail else None,
                make_tail=True,
                tail_lower=at_once[-1].upper if later else end,
                lock=_SWAP,
            ),
            *_extend(after, _tail_name(after), later),
        ),
    )


def _left_open(
    partitions: Partitions, interval: Interval, lower: datetime, upper: datetime
) -> Iterator[NewLeaf]:
    """Leaves for what only a DEFAULT took until now, other than the range that it is given itself."""
    for start, end in partitions.gaps:
        if end > partitions.now and (end <= lower or start >= upper):
            yield from new_leaves(partitions, interval, start, end)


def _cap(
    partitions: Partitions, leaf: Leaf, *, lower: datetime | None, upper: datetime | None = None
) -> Iterator[Step]:
    """A CHECK on what a partition holds, validated while nobody waits: it spares the swap a scan."""
    make, bounds = Steps(partitions), _bounds(lower, upper)
    yield make.step(
        f"A cap for what {leaf.name.name} holds: events from {bounds}",
        "cap",
        leaf=leaf.name,
        lower=lower,
        upper=upper,
        lock=_ON_TAIL,
    )
    yield make.patient(
        "Check that every event is within it",
        "validate_cap",
        leaf=leaf.name,
        lock="SHARE UPDATE EXCLUSIVE on one partition: blocks nobody",
    )


def _bounds(lower: datetime | None, upper: datetime | None) -> str:
    ends = (
        boundaries.literal(lower) if lower else "MINVALUE",
        boundaries.literal(upper) if upper else "MAXVALUE",
    )
    return " to ".join(ends)


def _uncap(partitions: Partitions, tail: Leaf) -> Task:
    what = "Remove the cap that an interrupted relabelling left on the catch-all partition"
    step = _uncap_step(partitions, tail, what)
    return Task(stage=Stage.CREATE, what=what, leaf=tail.name, plan=one_by_one(step))


def _uncap_step(partitions: Partitions, leaf: Leaf, why: str) -> Step:
    return Steps(partitions).step(why, "uncap", leaf=leaf.name, lock=_ON_TAIL)


_ON_TAIL = "ACCESS EXCLUSIVE on one partition, for milliseconds"


def _named(leaves: tuple[NewLeaf, ...]) -> str:
    names = [leaf.name.name for leaf in leaves]
    return (
        ", ".join(names)
        if len(names) < 4
        else f"{names[0]} to {names[-1]} ({len(names)} partitions)"
    )
