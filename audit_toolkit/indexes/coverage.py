"""Whether the leaves of a partitioned table carry the same indexes."""

from __future__ import annotations

from collections.abc import Iterator

from audit_toolkit.findings import Severity
from audit_toolkit.indexes.model import Catalogue, Diagnosis, Index, IndexState, Partition
from audit_toolkit.names import QualifiedName

_SHOWN = 5


def absent(parent: Index, catalogue: Catalogue) -> list[str]:
    """Why the index of a partitioned table is not valid, one reason for each leaf in words."""
    reasons: dict[str, list[str]] = {}
    for partition in catalogue.partitions_of(parent.table_oid):
        if reason := _reason(parent, partition, catalogue):
            reasons.setdefault(reason, []).append(str(partition.name))
    return [f"{reason} {_some(leaves)}" for reason, leaves in reasons.items()]


def _reason(parent: Index, partition: Partition, catalogue: Catalogue) -> str:
    if partition.detach_pending:
        return "first finish the detach (ALTER TABLE … DETACH PARTITION … FINALIZE) of"
    child = catalogue.child(parent.oid, partition)
    if child is not None:
        return "invalid on" if child.broken else ""
    same = same_shape(partition, parent.shape, catalogue)
    if same is None:
        return "missing on"
    return "there and invalid, not attached, on" if same.broken else "there but not attached on"


def same_shape(partition: Partition, shape: str, catalogue: Catalogue) -> Index | None:
    """An index of a partition that could be attached: valid ones first."""
    found = [
        index
        for index in catalogue.on(partition.oid)
        if index.parent_oid is None and index.shape == shape and index.live
    ]
    return min(found, key=lambda index: (index.broken, index.name), default=None)


def uneven(catalogue: Catalogue) -> Iterator[Diagnosis]:
    """Indexes that were made leaf by leaf and are missing on some leaves.

    An index that the partitioned table declares is judged there.
    """
    for table_oid in sorted({partition.parent_oid for partition in catalogue.partitions}):
        yield from _uneven_on(table_oid, catalogue)


def _uneven_on(table_oid: int, catalogue: Catalogue) -> Iterator[Diagnosis]:
    leaves = [p for p in catalogue.partitions_of(table_oid) if not p.detach_pending]
    declared = {index.shape for index in catalogue.on(table_oid)}
    carried: dict[str, dict[int, Index]] = {}
    for leaf in leaves:
        for index in catalogue.on(leaf.oid):
            if index.valid and index.parent_oid is None and index.shape not in declared:
                carried.setdefault(index.shape, {})[leaf.oid] = index
    for _, indexes in sorted(carried.items()):
        lacking = [str(leaf.name) for leaf in leaves if leaf.oid not in indexes]
        if lacking:
            yield _on_some(leaves[0].parent, list(indexes.values()), lacking)


def _on_some(parent: QualifiedName, indexes: list[Index], lacking: list[str]) -> Diagnosis:
    unique = "unique " if indexes[0].unique else ""
    return Diagnosis(
        state=IndexState.SOME_LEAVES_ONLY,
        severity=Severity.WARNING,
        index=indexes[0],
        subject=str(indexes[0].name),
        message=f"only {len(indexes)} of {len(indexes) + len(lacking)} partitions have this index; "
        f"missing on {_some(lacking)}",
        advice="to create it everywhere and reuse the existing ones: audit indexes create 'create "
        f"{unique}index NAME on {parent} using {indexes[0].using}'",
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
