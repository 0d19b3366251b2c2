"""From the partitions as they are and a policy to what is to be done: pure, printable, in five stages.

The order is that of a run: finish what was interrupted, create ahead, detach, archive, drop. Each stage is
planned from what the database is after the stages before it. Where the clock is not believed, nothing is planned that
depends on the time.
"""

from __future__ import annotations

from collections.abc import Iterator

from audit_toolkit.errors import UsageError
from audit_toolkit.partitions.boundaries import literal
from audit_toolkit.partitions.clock import TRUST, Doubt
from audit_toolkit.partitions.creation import plan_create, plan_past
from audit_toolkit.partitions.model import Entry, Leaf, Partitions, PartitionState, Policy
from audit_toolkit.partitions.tasks import Stage, Steps, Task, one_by_one
from audit_toolkit.plan import Step

_CONCURRENT = (
    "SHARE UPDATE EXCLUSIVE on the trail, ACCESS EXCLUSIVE on the partition: blocks nobody"
)


def plan_partitions(partitions: Partitions, policy: Policy) -> tuple[Task, ...]:
    """All stages at once, from the partitions as they are now.

    Raises `UsageError` when the policy does not go with the trail.
    """
    return tuple(task for stage in Stage for task in plan_stage(stage, partitions, policy))


def plan_stage(stage: Stage, partitions: Partitions, policy: Policy) -> Iterator[Task]:
    """The tasks of one stage."""
    policy.check(partitions)
    doubt = policy.doubt(partitions)
    if doubt and stage is Stage.CREATE:
        return iter((_refused(partitions, doubt),))
    if doubt and stage in (Stage.DETACH, Stage.DROP):
        return iter(())
    match stage:
        case Stage.FINALIZE:
            return plan_finalize(partitions)
        case Stage.CREATE:
            return plan_create(partitions, policy)
        case Stage.ARCHIVE:
            return plan_archive(partitions, policy)
        case Stage.DETACH:
            return plan_detach(partitions, policy)
        case Stage.DROP:
            return plan_drop(partitions, policy)


def _refused(partitions: Partitions, doubt: Doubt) -> Task:
    """What stands in the place of all that depends on the time."""
    return Task(
        stage=Stage.CREATE,
        what=f"Create, detach and drop by the clock, which says {literal(partitions.now)}",
        plan=one_by_one(),
        refused=f"{doubt.message}; {TRUST}",
    )


def plan_finalize(partitions: Partitions) -> Iterator[Task]:
    """Finish an interrupted detach, and bring the record in line with the catalogue."""
    if partitions.pending:
        yield _finalize(partitions, partitions.pending)
    for entry in partitions.entries:
        step = _reconcile(partitions, entry)
        if step:
            yield Task(stage=Stage.FINALIZE, what=step.why, plan=one_by_one(step))


def plan_archive(partitions: Partitions, policy: Policy) -> Iterator[Task]:
    """Archive the detached leaves that have no verified archive, where there is an archive."""
    for entry in partitions.entries if policy.archived_only else ():
        if is_archivable(entry, policy):
            yield Task(
                stage=Stage.ARCHIVE,
                what=f"Archive {entry.name}, and verify it",
                leaf=partitions.trail_sibling(entry.name),
                oid=entry.oid,
                plan=one_by_one(),
            )


def is_archivable(entry: Entry, policy: Policy) -> bool:
    """Whether a leaf is detached, under its own name, and not archived yet."""
    return (
        entry.state is PartitionState.DETACHED
        and entry.current_name == entry.name
        and (not entry.is_archived or policy.archive_again)
    )


def plan_detach(partitions: Partitions, policy: Policy) -> Iterator[Task]:
    """Take off the partitions that are older than the retention, the oldest first, a few at once."""
    due = [leaf for leaf in partitions.bounded if is_due(partitions, leaf, policy)]
    tasks = [_detach(partitions, leaf, policy) for leaf in due[: policy.most_at_once]]
    yield from tasks
    if not partitions.default and not partitions.strays and any(not t.deferred for t in tasks):
        yield plan_past(partitions, "The past reaches up to the first partition that is left")


def is_due(partitions: Partitions, leaf: Leaf, policy: Policy) -> bool:
    """Whether retention asks for a partition to be detached, and nobody holds it.

    What holds the present or the future by any clock, or the newest event, never is.
    """
    if not policy.retention or not leaf.plain or not leaf.upper:
        return False
    entry = partitions.entry(leaf.oid)
    held = entry is not None and entry.hold_reason is not None
    clock, cutoff = partitions.clock, policy.retention.before(policy.present(partitions))
    newest = clock.newest_event is not None and leaf.covers(clock.newest_event)
    kept_from = partitions.kept_from(cutoff)
    return leaf.upper <= min(kept_from, clock.earliest) and not held and not newest


def plan_drop(partitions: Partitions, policy: Policy) -> Iterator[Task]:
    """Drop what was detached for longer than the quarantine and, where asked for, is archived."""
    for entry in partitions.entries:
        if is_droppable(partitions, entry, policy):
            yield _drop(partitions, entry)


def is_droppable(partitions: Partitions, entry: Entry, policy: Policy) -> bool:
    """Whether a detached leaf has served its quarantine, under its own name, without a hold."""
    return (
        policy.drop
        and entry.state is PartitionState.DETACHED
        and entry.detached_at is not None
        and entry.detached_at <= policy.quarantine.before(policy.present(partitions))
        and entry.hold_reason is None
        and entry.current_name == entry.name
        and (entry.is_archived or not policy.archived_only)
        and entry.oid not in {leaf.oid for leaf in partitions.leaves}
    )


def plan_hold(partitions: Partitions, name: str, reason: str) -> Task:
    """Keep a partition, attached or detached, from retention."""
    if not reason.strip():
        raise UsageError("a hold needs a reason", hint="add --reason 'why, and until when'")
    leaf = find_leaf(partitions, name)
    step = Steps(partitions).step(
        f"Hold {name}: {reason}",
        "hold",
        oid=leaf.oid,
        name=_plain_name(leaf),
        lower=leaf.lower,
        upper=leaf.upper,
        reason=reason,
        now=partitions.now,
    )
    return Task(stage=Stage.FINALIZE, what=step.why, plan=one_by_one(step))


def plan_end_of_hold(partitions: Partitions, name: str) -> Task:
    """End a hold."""
    leaf = find_leaf(partitions, name)
    entry = partitions.entry(leaf.oid)
    if entry is None or entry.hold_reason is None:
        raise UsageError(
            f"{name} is not on hold", hint="audit partitions list shows partitions and their holds"
        )
    step = Steps(partitions).step(f"Release {name}", "release", oid=leaf.oid)
    return Task(stage=Stage.FINALIZE, what=step.why, plan=one_by_one(step))


def plan_attach(partitions: Partitions, name: str, reason: str) -> Task:
    """Bring a detached partition back, and hold it, or the next run would take it off again."""
    entry = find_leaf(partitions, name)
    if not isinstance(entry, Entry) or entry.state is not PartitionState.DETACHED:
        raise UsageError(
            f"{name} is not a detached partition of the trail",
            hint="audit partitions list shows partitions and their states",
        )
    make, past = Steps(partitions), partitions.past
    if past and past.upper and (entry.lower is None or entry.lower >= past.upper):
        past = None  # not in the way
    _refuse_overlap(partitions, entry, past)
    attach = make.step(
        f"Attach {name} again",
        "attach_again",
        leaf=partitions.trail_sibling(entry.current_name or entry.name),
        lower=entry.lower,
        upper=entry.upper,
        past=past.name if past else None,
        past_upper=entry.lower,
        lock="ACCESS EXCLUSIVE on the trail, for milliseconds"
        if past
        else "SHARE UPDATE EXCLUSIVE on the trail: blocks nobody",
    )
    hold = plan_hold(partitions, name, reason).plan.steps
    record = make.record(entry, PartitionState.ATTACHED)
    return Task(stage=Stage.CREATE, what=attach.why, plan=one_by_one(*hold, attach, record))


def _refuse_overlap(partitions: Partitions, entry: Entry, past: Leaf | None) -> None:
    """Refuse what PostgreSQL would only refuse when the partition is held already."""
    for leaf in partitions.leaves:
        if leaf.is_default or (past and leaf.oid == past.oid):
            continue
        begins_before = leaf.lower is None or entry.upper is None or leaf.lower < entry.upper
        ends_after = leaf.upper is None or entry.lower is None or entry.lower < leaf.upper
        if begins_before and ends_after:
            raise UsageError(
                f"{entry.name} ({entry.range}) overlaps {leaf.name.name} ({leaf.range}), "
                "which has taken its place",
                hint="its events can be read from "
                f"{partitions.schema}.{entry.current_name or entry.name} as it is; "
                f"{leaf.name.name} must be detached before it can come back",
            )


def find_leaf(partitions: Partitions, name: str) -> Leaf | Entry:
    """The leaf of that name: attached, half detached, or detached; raises `UsageError`."""
    plain = name.removeprefix(f"{partitions.schema}.")
    for leaf in partitions.leaves:
        if leaf.name.name == plain:
            return leaf
    for entry in partitions.entries:
        if plain in (entry.current_name, entry.name) and entry.state is not PartitionState.DROPPED:
            return entry
    raise UsageError(
        f"the trail has no partition {name!r}", hint="audit partitions list shows them"
    )


def _plain_name(leaf: Leaf | Entry) -> str:
    return leaf.name.name if isinstance(leaf, Leaf) else leaf.name


def _finalize(partitions: Partitions, leaf: Leaf) -> Task:
    make = Steps(partitions)
    what = f"Complete the interrupted detach of {leaf.name.name}"
    finalize = make.step(what, "finalize", leaf=leaf.name, oid=leaf.oid, lock=_CONCURRENT)
    # A detach that we did not record was started by somebody else: never drop it.
    entry = partitions.entry(leaf.oid)
    ours = entry is not None and entry.state is PartitionState.DETACHING
    recorded = (make.record(leaf, PartitionState.DETACHED),) if ours else ()
    plan = one_by_one(finalize, *recorded)
    return Task(stage=Stage.FINALIZE, what=what, leaf=leaf.name, oid=leaf.oid, plan=plan)


def _reconcile(partitions: Partitions, entry: Entry) -> Step | None:
    attached = {leaf.oid for leaf in partitions.leaves}
    pending = partitions.pending
    if entry.state is PartitionState.DROPPED or (pending and pending.oid == entry.oid):
        return None
    if (
        entry.current_name is None
        and entry.state is PartitionState.ATTACHED
        and not entry.hold_reason
    ):
        return None  # keep the record: `audit check` reports the missing partition
    if entry.current_name is None:
        return Steps(partitions).step(
            f"Record that {entry.name} was dropped by hand",
            "mark_gone",
            oid=entry.oid,
            now=partitions.now,
        )
    if entry.oid in attached:
        return (
            None
            if entry.state is PartitionState.ATTACHED
            else _record(partitions, entry, PartitionState.ATTACHED)
        )
    # Only partitions that we detached: one that was detached by hand is not ours to drop.
    if entry.state is PartitionState.DETACHING:
        return _record(partitions, entry, PartitionState.DETACHED)
    return None


def _record(partitions: Partitions, entry: Entry, state: PartitionState) -> Step:
    return Steps(partitions).record(entry, state)


def _detach(partitions: Partitions, leaf: Leaf, policy: Policy) -> Task:
    make = Steps(partitions)
    values = {"leaf": leaf.name}
    deferred = partitions.blocked
    if partitions.pending:
        deferred = f"the detach of {partitions.pending.name.name} is not finished"
    if partitions.by_function:
        detach = make.step(
            f"Detach {leaf.name.name}, which ends {leaf.range.split(' to ')[1]}, under a lock, as a maintainer",
            "detach_blocking",
            lock="ACCESS EXCLUSIVE on the trail, for milliseconds",
            **values,
        )
    elif partitions.default is None:
        detach = make.concurrently(
            f"Detach {leaf.name.name}, which ends {leaf.range.split(' to ')[1]}",
            "detach",
            lock=_CONCURRENT,
            **values,
        )
    else:
        detach = make.step(
            f"Detach {leaf.name.name} under a lock, as a DEFAULT partition prevents CONCURRENTLY",
            "detach_blocking",
            lock="ACCESS EXCLUSIVE on the trail, for milliseconds",
            **values,
        )
        deferred = deferred if policy.blocking_detach else _DEFAULT_IN_THE_WAY
    steps = [
        make.record(leaf, PartitionState.DETACHING),
        detach,
        make.record(leaf, PartitionState.DETACHED),
    ]
    if partitions.by_function:
        steps = [detach]  # the function records it, too
    return Task(
        stage=Stage.DETACH,
        what=detach.why,
        leaf=leaf.name,
        oid=leaf.oid,
        plan=one_by_one(*steps),
        deferred=deferred,
    )


_DEFAULT_IN_THE_WAY = (
    "a DEFAULT partition prevents DETACH CONCURRENTLY: convert it (audit partitions "
    "convert-default), or allow --blocking-detach"
)


def _drop(partitions: Partitions, entry: Entry) -> Task:
    leaf = partitions.trail_sibling(entry.name)
    step = Steps(partitions).step(
        f"Drop {entry.name}, detached since {entry.detached_at:%Y-%m-%d}",
        "drop",
        leaf=leaf,
        oid=entry.oid,
        archive_digest=entry.archive_digest if entry.is_archived else None,
        now=partitions.now,
        lock="ACCESS EXCLUSIVE on the detached partition only",
    )
    return Task(stage=Stage.DROP, what=step.why, leaf=leaf, oid=entry.oid, plan=one_by_one(step))
