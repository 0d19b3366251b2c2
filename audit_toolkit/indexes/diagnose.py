"""What is the matter with the indexes that were read, and why. Pure: no database.

The facts behind each verdict (which flags a cancelled CREATE, REINDEX or DROP leaves behind, in which
phase) were reproduced on PostgreSQL 15 to 18; `tests/indexes` produces each again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from audit_toolkit.findings import Severity
from audit_toolkit.indexes.advice import unneeded
from audit_toolkit.indexes.coverage import absent, uneven
from audit_toolkit.indexes.model import UNSAFE_SERVERS, Catalogue, Diagnosis, Index, IndexState

_COPY = re.compile(r"_cc(new|old)\d*$")
_REPACK = re.compile(r"index_\d+$")


def diagnose(catalogue: Catalogue, *, unused_after: float = 30) -> list[Diagnosis]:
    """All findings, the worst first; `unused_after` is in days of statistics."""
    findings = [
        *_server(catalogue),
        *(finding for index in catalogue.indexes for finding in _verdicts(index, catalogue)),
        *uneven(catalogue),
        *unneeded(catalogue, unused_after),
    ]
    return sorted(findings, key=lambda f: (-f.severity.rank, f.subject))


def original(index: Index, catalogue: Catalogue) -> Index | None:
    """The index that this one is a copy of: REINDEX CONCURRENTLY names it `…_ccnew` or `…_ccold`."""
    base = _COPY.sub("", index.name.name)
    if base == index.name.name:
        return None
    same = (
        i for i in catalogue.on(index.table_oid) if i.oid != index.oid and i.shape == index.shape
    )
    # A long name is cut to make room for the suffix.
    return next(
        (i for i in same if i.name.name.startswith(base) and not _COPY.search(i.name.name)), None
    )


def _server(catalogue: Catalogue) -> Iterator[Diagnosis]:
    if catalogue.server_version in UNSAFE_SERVERS:
        yield Diagnosis(
            state=IndexState.UNSAFE_SERVER,
            severity=Severity.ERROR,
            index=None,
            subject=f"PostgreSQL 14.{catalogue.server_version % 100}",
            message="indexes that this server built or rebuilt CONCURRENTLY may lack rows",
            advice="upgrade to 14.4 or newer, then REINDEX; no index is repaired before",
        )


def _verdicts(index: Index, catalogue: Catalogue) -> Iterator[Diagnosis]:
    copied = original(index, catalogue)
    worker = _worker(index, catalogue) if index.broken else None
    if worker is not None:
        yield _finding(
            IndexState.BUILDING, Severity.OK, index, f"session {worker} is working on it"
        )
    elif copied is not None:
        yield _copy(index, copied)
    elif index.partitioned and not index.valid:
        yield _parent(index, catalogue)
    elif index.broken:
        yield _broken(index, catalogue)


def _worker(index: Index, catalogue: Catalogue) -> int | None:
    """The session at work on it; on a partitioned table, on the same index of one of its leaves."""
    if index.busy_pid is not None or not index.partitioned:
        return index.busy_pid
    below = (i for p in catalogue.partitions_of(index.table_oid) for i in catalogue.on(p.oid))
    workers = (_worker(i, catalogue) for i in below if i.broken and i.shape == index.shape)
    return next(filter(None, workers), None)


def _copy(index: Index, copied: Index) -> Diagnosis:
    state = IndexState.CCOLD if "_ccold" in index.name.name else IndexState.CCNEW
    if index.valid:
        message = f"a finished copy of {copied.name}: an interrupted REINDEX was itself rebuilt"
    elif state is IndexState.CCNEW:
        message = f"left by an interrupted REINDEX of {copied.name}, which itself is unchanged"
    else:
        message = f"left by a REINDEX of {copied.name} that succeeded"
    return _finding(state, Severity.WARNING, index, message + _cost(index))


def _broken(index: Index, catalogue: Catalogue) -> Diagnosis:
    parent = catalogue.by_oid.get(index.parent_oid or 0)
    if parent is not None and parent.valid:
        return _finding(
            IndexState.INVALID_UNDER_VALID_PARENT,
            Severity.ERROR,
            index,
            f"queries through {parent.name} cannot use it here, although {parent.name} is "
            "marked valid",
        )
    state, message, advice = _cause(index)
    needed = index.protected or index.ready or parent is not None
    return _finding(
        state,
        Severity.ERROR if needed and index.live else Severity.WARNING,
        index,
        message + _reliance(index, parent) + _cost(index),
        advice,
    )


def _cause(index: Index) -> tuple[IndexState, str, str]:
    if index.exclusion:
        return (
            IndexState.INVALID_EXCLUSION,
            "an exclusion constraint that is not enforced for all rows",
            f"in a maintenance window: REINDEX INDEX {index.name}, which blocks writes",
        )
    if _REPACK.fullmatch(index.name.name):
        return IndexState.REPACK_LEFTOVER, "left by an interrupted pg_repack", ""
    if not index.live:
        return IndexState.CANCELLED_DROP, "a DROP INDEX CONCURRENTLY that did not finish", ""
    if not index.ready:
        return (
            IndexState.FAILED_CREATE,
            "a CREATE INDEX CONCURRENTLY that failed before or during the build",
            "",
        )
    message = (
        "a CREATE INDEX CONCURRENTLY that failed during validation, or a cancelled DROP "
        "INDEX CONCURRENTLY: the catalog does not tell which"
    )
    advice = "choose one: audit indexes fix --unfinished rebuild, or --unfinished drop"
    return IndexState.UNFINISHED, message, advice


def _parent(index: Index, catalogue: Catalogue) -> Diagnosis:
    reasons = absent(index, catalogue)
    message = "; ".join(reasons) or "all its partitions are fine, but it was never validated again"
    return _finding(
        IndexState.PARENT_INVALID,
        Severity.ERROR if index.constraint else Severity.WARNING,
        index,
        f"not valid on the partitioned table: {message}",
    )


def _reliance(index: Index, parent: Index | None) -> str:
    if index.constraint:
        return f"; constraint {index.constraint.name} relies on it"
    if index.replica_identity:
        return "; it is the replica identity"
    if parent is not None:
        return f"; it is a part of {parent.name}"
    return ""


def _cost(index: Index) -> str:
    size = f"{index.size / 2**20:.1f} MB" if index.size >= 2**20 else f"{index.size // 1024} kB"
    if index.ready:
        return f"; every write maintains it, in vain ({size})"
    return f"; it takes {size}" if index.size else ""


def _finding(
    state: IndexState, severity: Severity, index: Index, message: str, advice: str = ""
) -> Diagnosis:
    return Diagnosis(
        state=state,
        severity=severity,
        index=index,
        subject=str(index.name),
        message=message,
        advice=advice,
    )
