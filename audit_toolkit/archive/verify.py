"""Read an archive back, every byte, and compare it with what its manifests and the database say."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

from audit_toolkit.archive.digest import Digest, SumDigest
from audit_toolkit.archive.exports import Exports, unknown_exports
from audit_toolkit.archive.manifest import (
    ArchivedFile,
    Catalogue,
    Manifest,
    chain_breaks,
    fingerprint,
    newest,
)
from audit_toolkit.archive.optional_packages import arrow, parquet
from audit_toolkit.archive.store import EVENTS, FOLDER, OLD_FOLDER, SEALS, Store
from audit_toolkit.errors import AuditError
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.plurals import counted

BATCH = 16_384

Progress = Callable[[int], None]
"""Called with the number of events done since the last call."""


_FROM_BACKUP = "bring the archive back from a backup"
_WHO_WROTE_IT = (
    "find out who wrote it; if this database goes on for a copy that did: audit archive adopt"
)


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
                problems += read_file(store, file, digest, progress)
            except AuditError as error:
                problems.append(error.message)
        found, events = str(digest), digest.events
    if found != manifest.digest and not problems:
        problems.append(
            f"its events do not match the partition: digest {found} instead of {manifest.digest}"
        )
    if events != manifest.events and not problems:
        problems.append(
            f"its manifest lists {counted(manifest.events, 'event')}, but its files have {events}"
        )
    return ReadBack(leaf=manifest.leaf, digest=found, events=events, problems=tuple(problems))


def read_file(
    store: Store, file: ArchivedFile, digest: Digest | SumDigest, progress: Progress = unwatched
) -> list[str]:
    """Count the events of a file in, and say what is wrong with it."""
    problems = []
    with store.fetched(file.path) as (copy, sha256):
        if sha256 != file.sha256:
            problems.append(f"{file.path}: the file was changed since it was written")
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
    archive: str
    """The address of its manifest."""
    name: str
    """The manifest, inside the archive."""
    digest: str
    fingerprint: str | None
    """That of the manifest; None where it was archived before 0.3."""
    lower: datetime | None
    upper: datetime | None

    @property
    def place(self) -> str:
        """The folder of the database as it was called then, or none before 0.3."""
        return (
            posixpath.dirname(self.name)
            .removeprefix(FOLDER)
            .removeprefix("/")
            .removeprefix(OLD_FOLDER)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What the database recorded of the last time that it took over an archive."""

    archive: str | None
    """The address of the folder of manifests."""
    name: str | None
    """The manifest, inside the archive."""
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the database says about an archive: of the databases that write there, it vouches for one."""

    place: str
    recorded: tuple[Recorded, ...]
    exports: Exports = field(default_factory=Exports)
    adoption: Adoption | None = None
    unfinished: tuple[Finding, ...] = ()
    """Redactions that were interrupted."""


def check_catalogue(
    store: Store, catalogue: Catalogue, expected: Expected | None
) -> tuple[Finding, ...]:
    """What is wrong with the archive as a whole; reads no events.

    Damaged manifests and a broken chain, files that no manifest names, and, where the database says what it
    archived, what is missing and what it knows nothing of.
    """
    counting = newest(catalogue.manifests)
    found = [damaged(name, problem) for name, problem in catalogue.damaged]
    found += [
        _finding(
            FindingKind.ARCHIVE_CHAIN_BROKEN,
            leaf,
            "the previous manifest was removed or changed",
            _FROM_BACKUP,
        )
        for leaf in chain_breaks(catalogue.manifests)
    ]
    found += _strays(store, catalogue, counting)
    if expected:
        found += expected.unfinished
        found += _missing(catalogue, expected)
        found += _unknown(counting, expected)
        found += _of_exports(catalogue, expected, store.address(FOLDER))
        found += _of_adoption(catalogue, expected.adoption, store.address(FOLDER))
    return tuple(found)


def damaged(subject: str, problem: str) -> Finding:
    """A file or a partition of the archive that is not as it was written."""
    return _finding(FindingKind.ARCHIVE_DAMAGED, subject, problem, _FROM_BACKUP)


def _finding(kind: FindingKind, subject: str, message: str, remedy: str) -> Finding:
    return Finding(
        kind=kind, severity=Severity.ERROR, subject=subject, message=message, remedy=remedy
    )


def _strays(store: Store, catalogue: Catalogue, counting: list[Manifest]) -> list[Finding]:
    named = {file.path for manifest in counting for file in manifest.all_files}
    named |= {manifest.name for manifest in catalogue.manifests}
    named |= {name for name, _ in catalogue.damaged}
    inside = [
        name for folder in (EVENTS, FOLDER, OLD_FOLDER, SEALS) for name in store.files(folder)
    ]
    inside += [name for name in store.files_of_old_layout() if name not in inside]
    return [
        _finding(
            FindingKind.ARCHIVE_STRAY_FILE,
            name,
            "no manifest names this file, yet whoever reads the folder would read it",
            "if a run or a redaction was interrupted, the next one of its kind completes or removes it; else find out "
            "who put it there, then remove it",
        )
        for name in inside
        if name not in named
    ]


def _missing(catalogue: Catalogue, expected: Expected) -> Iterator[Finding]:
    names = {manifest.name: manifest for manifest in catalogue.manifests}
    for record in expected.recorded:
        manifest = names.get(record.name)
        if manifest is None:
            dropped = " and dropped" if record.state == "dropped" else ""
            yield _finding(
                FindingKind.ARCHIVE_MISSING,
                record.leaf,
                f"the database archived{dropped} it, but its manifest {record.name} is missing from the archive",
                _FROM_BACKUP,
            )
        elif manifest.digest != record.digest:
            yield _differs(
                record.leaf,
                "the digest in its manifest differs from the one that the database recorded",
            )
        elif (_instant(manifest.lower), _instant(manifest.upper)) != (record.lower, record.upper):
            yield _differs(
                record.leaf,
                "the bounds in its manifest differ from those that the database recorded",
            )
        elif record.fingerprint not in (None, fingerprint(manifest)):
            yield _differs(
                record.leaf, "its manifest differs from the one that the database recorded"
            )


def _differs(leaf: str, message: str) -> Finding:
    return _finding(
        FindingKind.ARCHIVE_DIFFERS,
        leaf,
        message,
        _FROM_BACKUP,
    )


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _unknown(counting: list[Manifest], expected: Expected) -> Iterator[Finding]:
    known = {(record.leaf, record.digest) for record in expected.recorded}
    for manifest in counting:
        is_ours = manifest.place in ("", expected.place) and not manifest.exported
        if is_ours and (manifest.leaf, manifest.digest) not in known:
            yield _not_ours(manifest.leaf)


def _not_ours(subject: str) -> Finding:
    return _finding(
        FindingKind.ARCHIVE_UNKNOWN,
        subject,
        "this database did not archive it: its manifest was forged, or written by a copy of this database",
        _WHO_WROTE_IT,
    )


def _of_exports(catalogue: Catalogue, expected: Expected, archive: str) -> Iterator[Finding]:
    """What is wrong with the ranges of an archive, compared with what the database knows."""
    manifests, exports = catalogue.of(expected.place), expected.exports
    for manifest in unknown_exports(manifests, exports):
        yield _not_ours(manifest.label)
    last = exports.of(archive)
    # Of any database: one that was renamed or copied since has it under its former name.
    if last.sha256 and last.sha256 not in map(fingerprint, catalogue.manifests):
        yield _finding(
            FindingKind.ARCHIVE_MISSING,
            "exports",
            f"the manifest of the last export is missing from the archive: {last.name}",
            _FROM_BACKUP,
        )


def _of_adoption(
    catalogue: Catalogue, adoption: Adoption | None, archive: str
) -> Iterator[Finding]:
    """Whether the manifest by which the database took over an archive is there, and is the one that it wrote."""
    if adoption is None or adoption.fingerprint in map(fingerprint, catalogue.manifests):
        return
    if adoption.name in {manifest.name for manifest in catalogue.manifests}:
        yield _differs("adoption", "its manifest differs from the one that the database recorded")
    elif adoption.archive == archive:
        yield _finding(
            FindingKind.ARCHIVE_MISSING,
            "adoption",
            f"the manifest of the adoption is missing from the archive: {adoption.name}",
            _FROM_BACKUP,
        )
