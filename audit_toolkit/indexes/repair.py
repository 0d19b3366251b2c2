"""Which steps mend a finding: never dropping what a constraint relies on, never losing a definition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from audit_toolkit.indexes import steps
from audit_toolkit.indexes.complete import Completion, Wanted
from audit_toolkit.indexes.model import Catalogue, Diagnosis, Index, IndexState
from audit_toolkit.names import QualifiedName
from audit_toolkit.plan import Step


class Unfinished(StrEnum):
    """What an index becomes that a create or a drop left behind: the catalogue does not tell which."""

    LEAVE = "leave"
    REBUILD = "rebuild"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A finding and the steps that end it; none where it needs somebody's decision."""

    diagnosis: Diagnosis
    steps: tuple[Step, ...]


# An interrupted REINDEX may have left a copy under the name that the next REINDEX wants.
_LEFTOVERS = (
    IndexState.CCNEW,
    IndexState.CCOLD,
    IndexState.REPACK_LEFTOVER,
    IndexState.CANCELLED_DROP,
)


def plan_repairs(
    findings: Sequence[Diagnosis], catalogue: Catalogue, unfinished: Unfinished = Unfinished.LEAVE
) -> list[Repair]:
    """The repairs in the order in which they have to run; a step that ends two findings comes once.

    Nothing on a server whose concurrent builds are not safe (PostgreSQL 14.0 to 14.3).
    """
    if any(finding.state is IndexState.UNSAFE_SERVER for finding in findings):
        return [Repair(diagnosis=finding, steps=()) for finding in findings]
    ordered = sorted(findings, key=_rank)
    dropped = {
        f.index.name for f in ordered if f.index and f.state in _LEFTOVERS and not f.index.valid
    }
    seen: set[tuple[str, ...]] = set()
    repairs = []
    for finding in ordered:
        found = [
            s for s in _steps(finding, catalogue, dropped, unfinished) if s.statements not in seen
        ]
        seen.update(step.statements for step in found)
        repairs.append(Repair(diagnosis=finding, steps=tuple(found)))
    return repairs


def _rank(finding: Diagnosis) -> int:
    if finding.state not in _LEFTOVERS or finding.index is None:
        return 1
    return 2 if finding.index.valid else 0


def _steps(
    finding: Diagnosis, catalogue: Catalogue, dropped: set[QualifiedName], unfinished: Unfinished
) -> Iterator[Step]:
    index = finding.index
    if index is None:
        return
    match finding.state:
        case (
            IndexState.CCNEW
            | IndexState.CCOLD
            | IndexState.REPACK_LEFTOVER
            | IndexState.CANCELLED_DROP
        ):
            if _may_drop(index):
                yield steps.drop(index, finding.message)
        case IndexState.PARENT_INVALID:
            top = catalogue.root(index)
            yield from Completion(catalogue).steps(Wanted.like(top))
        case IndexState.FAILED_CREATE | IndexState.INVALID_UNDER_VALID_PARENT:
            yield from _rebuilt_or_dropped(index, catalogue, dropped)
        case IndexState.UNFINISHED:
            if unfinished is Unfinished.REBUILD or _is_wanted(index, catalogue):
                yield from _rebuilt_or_dropped(index, catalogue, dropped)
            elif unfinished is Unfinished.DROP:
                yield steps.drop(index, "its drop was cancelled, and it was to go")


def _rebuilt_or_dropped(
    index: Index, catalogue: Catalogue, dropped: set[QualifiedName]
) -> Iterator[Step]:
    twin = _valid_twin(index, catalogue)
    if twin is not None and _may_drop(index):
        yield steps.drop(index, f"{twin.name} is the same index, and valid")
        return
    yield steps.rebuild(index, catalogue.names - dropped)
    parent = catalogue.by_oid.get(index.parent_oid or 0)
    if parent is not None:
        yield steps.attach(parent.name, index.name)


def _may_drop(index: Index) -> bool:
    return index.constraint is None and index.parent_oid is None and not index.partitioned


def _is_wanted(index: Index, catalogue: Catalogue) -> bool:
    """Whether something declares it: a constraint, the partitioned table, or a valid twin decides."""
    if index.parent_oid or index.constraint or index.replica_identity:
        return True
    above = {p.parent_oid for p in catalogue.partitions if p.oid == index.table_oid}
    declared = {i.shape for oid in above for i in catalogue.on(oid)}
    return index.shape in declared or _valid_twin(index, catalogue) is not None


def _valid_twin(index: Index, catalogue: Catalogue) -> Index | None:
    same = (i for i in catalogue.on(index.table_oid) if i.valid and i.shape == index.shape)
    return next(same, None)
