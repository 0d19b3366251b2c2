"""Read an archive back, every byte, and compare it with what its manifest and the database say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from audit_toolkit.archive.columns import Digest
from audit_toolkit.archive.extra import arrow, parquet
from audit_toolkit.archive.manifest import ArchivedFile, Manifest
from audit_toolkit.archive.store import Store
from audit_toolkit.errors import AuditError

BATCH = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What came back of one leaf."""

    leaf: str
    digest: str
    events: int
    problems: tuple[str, ...]
    """What is not as it ought to be; empty when all is well."""


def read_back(
    store: Store,
    manifest: Manifest,
    progress: Callable[[int], None] = lambda events: None,  # noqa: ARG005 - by default nobody looks
) -> ReadBack:
    """Fetch all files of a leaf and compute its digest from their bytes; memory does not grow with the leaf."""
    digest, problems = Digest(), []
    for file in manifest.files:
        try:
            problems += _read_file(store, file, digest, progress)
        except AuditError as error:
            problems.append(error.message)
    if str(digest) != manifest.digest and not problems:
        problems.append(
            f"the events are not those of the leaf: {digest} instead of {manifest.digest}"
        )
    return ReadBack(
        leaf=manifest.leaf, digest=str(digest), events=digest.events, problems=tuple(problems)
    )


def _read_file(
    store: Store, file: ArchivedFile, digest: Digest, progress: Callable[[int], None]
) -> list[str]:
    problems = []
    with store.fetched(file.path) as (copy, sha256):
        if sha256 != file.sha256:
            problems.append(f"{file.path}: the bytes are not those that were written")
        before = digest.events
        try:
            with parquet().ParquetFile(copy) as opened:
                for batch in opened.iter_batches(batch_size=BATCH):
                    digest.add(batch)
                    progress(batch.num_rows)
        except (arrow().ArrowException, OSError, KeyError) as error:
            return [*problems, f"{file.path}: cannot be read: {str(error).splitlines()[0]}"]
        if digest.events - before != file.events:
            problems.append(
                f"{file.path}: {digest.events - before} events instead of {file.events}"
            )
    return problems
