"""Read an archive back, every byte, and compare it with what its manifests and the database say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

from audit_toolkit.archive.digest import Digest, SumDigest
from audit_toolkit.archive.exports import Exports, check_exports
from audit_toolkit.archive.extra import arrow, parquet
from audit_toolkit.archive.manifest import (
    ArchivedFile,
    Catalogue,
    Manifest,
    chain_breaks,
    newest,
)
from audit_toolkit.archive.store import EVENTS, FOLDER, OLD_FOLDER, Store
from audit_toolkit.errors import AuditError

BATCH = 16_384

Progress = Callable[[int], None]
"""Called with the number of events done since the last call."""


def unwatched(_events: int) -> None:
    """Progress that nobody looks at."""


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
    progress: Progress = unwatched,
) -> ReadBack:
    """Fetch all files of a leaf and compute its digest from their bytes; memory does not grow with the leaf."""
    problems: list[str] = []
    with closing(Digest() if manifest.version > 1 else SumDigest(manifest.columns)) as digest:
        for file in manifest.files:
            try:
                problems += _read_file(store, file, digest, progress)
            except AuditError as error:
                problems.append(error.message)
        found, events = str(digest), digest.events
    if found != manifest.digest and not problems:
        problems.append(
            f"the events are not those of the partition: {found} instead of {manifest.digest}"
        )
    if events != manifest.events and not problems:
        problems.append(f"its manifest says {manifest.events} events, and its files have {events}")
    return ReadBack(leaf=manifest.leaf, digest=found, events=events, problems=tuple(problems))


def _read_file(
    store: Store, file: ArchivedFile, digest: Digest | SumDigest, progress: Progress
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the database recorded of an archived partition, which may be gone from it since."""

    leaf: str
    state: str
    name: str
    """The manifest, inside the archive."""
    digest: str
    lower: datetime | None
    upper: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the database says about an archive: of the databases that write there, it vouches for one."""

    place: str
    recorded: tuple[Recorded, ...]
    exports: Exports = field(default_factory=Exports)


def check_catalogue(
    store: Store, catalogue: Catalogue, expected: Expected | None
) -> tuple[tuple[str, str], ...]:
    """What is wrong with the archive as a whole, as (object, message); reads no events.

    Damaged manifests and a broken chain, files that no manifest names, and, where the database says what it
    archived, what is missing and what it knows nothing of.
    """
    counting = newest(catalogue.manifests)
    found = list(catalogue.damaged)
    found += [
        (leaf, "the manifest before this one was removed or changed")
        for leaf in chain_breaks(catalogue.manifests)
    ]
    found += _strays(store, catalogue, counting)
    if expected:
        found += _missing(catalogue, expected)
        found += _unknown(counting, expected)
        mine = catalogue.of(expected.place)
        found += check_exports(mine, expected.exports, store.address(FOLDER))
    return tuple(found)


def _strays(store: Store, catalogue: Catalogue, counting: list[Manifest]) -> list[tuple[str, str]]:
    named = {file.path for manifest in counting for file in manifest.files}
    named |= {manifest.name for manifest in catalogue.manifests}
    named |= {name for name, _ in catalogue.damaged}
    inside = [name for folder in (EVENTS, FOLDER, OLD_FOLDER) for name in store.files(folder)]
    inside += [name for name in store.files_of_old_layout() if name not in inside]
    return [
        (name, "no manifest names this file, and whoever reads the folder would read it")
        for name in inside
        if name not in named
    ]


def _missing(catalogue: Catalogue, expected: Expected) -> list[tuple[str, str]]:
    names = {manifest.name: manifest for manifest in catalogue.manifests}
    found = []
    for record in expected.recorded:
        manifest = names.get(record.name)
        if manifest is None:
            dropped = " and dropped" if record.state == "dropped" else ""
            found.append(
                (
                    record.leaf,
                    f"the database archived{dropped} it, and the archive lacks its manifest {record.name}",
                )
            )
        elif manifest.digest != record.digest:
            found.append(
                (record.leaf, "its manifest has another digest than the database recorded")
            )
        elif (_instant(manifest.lower), _instant(manifest.upper)) != (record.lower, record.upper):
            found.append((record.leaf, "its manifest has other bounds than the database recorded"))
    return found


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _unknown(counting: list[Manifest], expected: Expected) -> list[tuple[str, str]]:
    known = {(record.leaf, record.digest) for record in expected.recorded}
    return [
        (
            manifest.leaf,
            "the database did not archive this: its manifest was forged, or a copy of the database wrote it",
        )
        for manifest in counting
        if manifest.place in ("", expected.place)
        and not manifest.exported
        and (manifest.leaf, manifest.digest) not in known
    ]


_NOT_OURS = (
    "the database did not archive this: its manifest was forged, or a copy of the database wrote it"
)
