"""Indexes that could go: duplicates, prefixes of others, unused ones. Advice only, nothing is dropped."""

from __future__ import annotations

from collections.abc import Iterator

from audit_toolkit.findings import Severity
from audit_toolkit.indexes.model import Catalogue, Diagnosis, Index, IndexState


def unneeded(catalogue: Catalogue, unused_after: float) -> Iterator[Diagnosis]:
    """Valid indexes that cost writes and that no query needs; leaves are judged with their parent."""
    victims = [i for i in catalogue.indexes if _may_go(i)]
    for index in victims:
        keeper = next((o for o in catalogue.on(index.table_oid) if _covers(o, index)), None)
        if keeper is not None:
            yield _redundant(index, keeper)
        elif catalogue.statistics_days >= unused_after and not _scans(index, catalogue):
            yield _unused(index, catalogue.statistics_days)


def _may_go(index: Index) -> bool:
    return index.valid and not (index.protected or index.toast or index.parent_oid is not None)


def _covers(keeper: Index, index: Index) -> bool:
    """Whether `keeper` serves every query that `index` serves."""
    if (
        keeper.oid == index.oid
        or not keeper.valid
        or keeper.access_method != index.access_method
        or keeper.predicate != index.predicate
        or not set(index.included) <= set(keeper.included)
    ):
        return False
    if keeper.keys == index.keys:
        # Of two equal indexes, keep the one that something depends on, otherwise the older one.
        alike = len(keeper.included) == len(index.included) and _may_go(keeper)
        return not alike or keeper.oid < index.oid
    ordered = index.access_method == "btree"  # elsewhere the first column has no such meaning
    return ordered and keeper.keys[: len(index.keys)] == index.keys


def _redundant(index: Index, keeper: Index) -> Diagnosis:
    same = keeper.keys == index.keys
    return Diagnosis(
        state=IndexState.DUPLICATE if same else IndexState.REDUNDANT,
        severity=Severity.INFO,
        index=index,
        subject=str(index.name),
        message=f"{keeper.name} {'is the same index' if same else 'begins with the same columns'}",
        advice=_drop(index),
    )


def _scans(index: Index, catalogue: Catalogue) -> int:
    children = (i for i in catalogue.indexes if i.parent_oid == index.oid)
    return index.scans + sum(_scans(child, catalogue) for child in children)


def _unused(index: Index, days: float) -> Diagnosis:
    return Diagnosis(
        state=IndexState.UNUSED,
        severity=Severity.INFO,
        index=index,
        subject=str(index.name),
        message=f"not scanned on this server in the {days:.0f} days since statistics began; replicas "
        "count their own scans",
        advice=f"if no replica and no yearly report needs it: {_drop(index)}",
    )


def _drop(index: Index) -> str:
    # PostgreSQL cannot drop the index of a partitioned table concurrently.
    return f"DROP INDEX {'' if index.partitioned else 'CONCURRENTLY '}{index.name}"
