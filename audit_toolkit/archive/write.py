"""A detached leaf to Parquet: streamed, digested on both sides, the manifest last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, count, groupby
from typing import IO, TYPE_CHECKING, Any

from audit_toolkit.archive.columns import (
    COLUMNS,
    NAMES,
    SCHEMA_NAME,
    TABLE_NAME,
    TEXT,
    arrow_schema,
    as_table,
)
from audit_toolkit.archive.exports import ranges_of, widest
from audit_toolkit.archive.manifest import (
    ArchivedFile,
    Manifest,
    Origin,
    Range,
    fingerprint,
    hive_name,
    newest,
    read_manifests,
)
from audit_toolkit.archive.optional_packages import arrow, parquet
from audit_toolkit.archive.origin import after, read_origin, require_own
from audit_toolkit.archive.sealed import seal_problems
from audit_toolkit.archive.store import EVENTS, SEALS, Store
from audit_toolkit.archive.verify import Progress, read_back, unwatched
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions import Entry
from audit_toolkit.seals.partition import has_unsealed, sealed_part
from audit_toolkit.templates import query, render
from audit_toolkit.version import __version__

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

ROWS_AT_ONCE = 32_768
CHARACTERS_AT_ONCE = 16 * 2**20
"""A row group ends at the first of the two, which bounds the memory whatever the events are."""
OPTIONS = {"compression": "zstd", "write_statistics": True, "version": "2.6"}
"""Of every Parquet file."""


def archive_leaf(
    connection: Connection,
    store: Store,
    schema: str,
    entry: Entry,
    *,
    now: datetime,
    whole: bool = False,
    before_removal: Callable[[], None] = lambda: None,
    progress: Progress = unwatched,
) -> Manifest:
    """Write a detached leaf to the store, read it back, compare, and note it in the database.

    Its digest is computed by the server and again from the bytes that come back from the store; only when both
    agree the manifest is written. Raises `AuditError` when they do not, the store fails, or the archive is written by
    another database too: the leaf then counts as not archived. Nothing that a manifest names is overwritten.
    What was exported of it before stays where it is and becomes a part of its archive; with `whole` it is written anew.
    `before_removal` is called before what was archived of it before is removed.
    Lock: SHARE on the detached leaf while it is read.
    """
    leaf = QualifiedName(schema, entry.current_name or entry.name)
    if has_unsealed(connection, schema, leaf):
        raise AuditError(
            f"{leaf} has events that are not sealed, and is archived once they are",
            hint="audit seal, or audit maintain --seal-key FILE",
        )
    origin = read_origin(connection, schema)
    earlier = read_manifests(store, origin.place)
    require_own(connection, store, origin, earlier)
    exported = () if whole else ranges_of(newest(earlier), origin, entry.name, entry.oid)
    (rights,) = fetch(connection, query("rights"), {"schema": schema})
    by_function = rights["archives_by_function"]
    folder = "archiver" if by_function else "archive"
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        connection.execute(render(f"{folder}/freeze", schema=schema, leaf=leaf, oid=entry.oid))
        digest = _digest(connection, schema, leaf)
        there = None if whole or entry.is_archived else _already_there(earlier, entry, digest)
        if there and not read_back(store, there, progress).problems:
            # Of a run that was killed before it noted it, or of a copy of this database: nothing is written or removed.
            address = store.address(there.name)
            noted = {"schema": schema, "oid": entry.oid, "digest": digest, "now": now}
            noted |= {"archive": address, "manifest": fingerprint(there)}
            if by_function:
                connection.execute(render("archiver/thaw", schema=schema, oid=entry.oid))
            connection.execute(render(f"{folder}/archived", **noted))
            return there
        token = digest.rpartition(":")[2][:12]
        names = Names(store, origin, f"{entry.name}-{entry.oid}-{token}", earlier)
        files = [file for manifest in exported for file in manifest.files]
        rest = Selection(without=widest(exported))
        files += write_files(connection, store, leaf, names, rest, progress)
        seal = _write_seal(connection, store, schema, leaf, f"{origin.place}/{names.name}")
        if by_function:
            connection.execute(render("archiver/thaw", schema=schema, oid=entry.oid))
    manifest = make_manifest(connection, entry, origin, digest, files, earlier, now, seal)
    found = read_back(store, manifest, progress)
    problems = found.problems or seal_problems(store, manifest)
    if problems:
        raise AuditError(
            f"the archive of {leaf} does not match the partition: {problems[0]}",
            hint="nothing was dropped; find out why the store returns other bytes, then run it again"
            + ("; audit archive run --again rewrites what was exported" if exported else ""),
        )
    with store.create(manifest.name) as file:
        file.write(manifest.as_bytes())
    values = {"schema": schema, "oid": entry.oid, "digest": digest, "now": now}
    values |= {"archive": store.address(manifest.name), "manifest": fingerprint(manifest)}
    connection.execute(render(f"{folder}/archived", **values))
    _remove_former(store, manifest, earlier, before_removal)
    return manifest


def _write_seal(
    connection: Connection, store: Store, schema: str, leaf: QualifiedName, name: str
) -> ArchivedFile | None:
    """Write what verifies the partition without the database; of one that is not sealed there is nothing."""
    part = sealed_part(connection, schema, leaf)
    if part is None:
        return None
    return write_seal_file(store, part, name)


def write_seal_file(store: Store, part: dict[str, Any], name: str) -> ArchivedFile:
    """Write what verifies a partition beside its events; the path is one of `name` with its hash."""
    content = json.dumps(part).encode()
    digest = hashlib.sha256(content).hexdigest()
    path = f"{SEALS}/{name}-{digest[:12]}.json"
    if not store.has(path):
        with store.create(path) as file:
            file.write(content)
    return ArchivedFile(path=path, bytes=len(content), sha256=digest, events=0)


def _already_there(earlier: list[Manifest], entry: Entry, digest: str) -> Manifest | None:
    """What the archive has of the very same partition, with the very same events."""
    same = (entry.name, entry.oid, digest)
    found = [m for m in newest(earlier) if (m.leaf, m.oid, m.digest) == same and not m.exported]
    return found[-1] if found else None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events of a partition."""

    range: Range | None = None
    """All without one."""
    without: tuple[Range, ...] = ()
    part: Entry | None = None
    """The partition, where it is read by way of the trail: by a role that may read the trail and no partition."""

    def as_values(self) -> dict[str, Any]:
        """What the templates that read events want."""
        return {"range": self.range, "without": self.without, "part": self.part}


@dataclass(frozen=True, slots=True)
class Names:
    """The paths of a partition's files: new ones, whatever is in the archive."""

    store: Store
    origin: Origin
    name: str
    earlier: list[Manifest]
    keep: bool = False
    """Whether a file that an interrupted run left there is the same that would be written."""
    _given: set[str] = field(default_factory=set)
    """As two tables can have one folder: "a"."b.c" and "a.b"."c"."""

    def path(self, schema_name: str, table_name: str, month: str) -> str:
        """A path that no manifest names; what an interrupted run left there is removed, or kept."""
        relation = hive_name(f"{schema_name}.{table_name}")
        folder = f"{EVENTS}/{self.origin.place}/relation={relation}/month={month}"
        name = f"{folder}/{self.name}"
        named = {file.path for manifest in self.earlier for file in manifest.files} | self._given
        endings = chain([""], (f"-{number}" for number in count(2)))
        path = next(p for p in (f"{name}{ending}.parquet" for ending in endings) if p not in named)
        self._given.add(path)
        if not self.keep:
            self.store.remove(self.store.path(path))
        return path


def _remove_former(
    store: Store, manifest: Manifest, earlier: list[Manifest], before: Callable[[], None]
) -> None:
    """Remove what was archived of a partition before: who reads the folder would count its events twice."""
    kept = {file.path for one in newest([*earlier, manifest]) for file in one.all_files}
    key = (manifest.leaf, manifest.oid)
    former = [m for m in earlier if (m.leaf, m.oid) == key or m.is_part_of(manifest.origin, *key)]
    paths = {file.path for one in former for file in one.all_files} - kept
    if paths:
        before()
    for path in sorted(paths):
        store.remove(store.path(path))


def _digest(connection: Connection, schema: str, leaf: QualifiedName) -> str:
    row = fetch(connection, render("archive/digest", schema=schema, leaf=leaf))[0]
    if tuple(row["columns"]) != NAMES:
        raise AuditError(
            f"{leaf} has columns that an event does not have: {', '.join(row['columns'])}",
            hint="the archive would lose them: drop the added columns, or keep the partition",
        )
    digest: str = row["digest"]
    return digest


def write_files(
    connection: Connection,
    store: Store,
    leaf: QualifiedName,
    names: Names,
    selection: Selection,
    progress: Progress,
) -> list[ArchivedFile]:
    """Write those events of a partition, a file for each table and month."""
    statement = render("archive/copy_out", leaf=leaf, columns=COLUMNS, **selection.as_values())
    written = []
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([*(column.postgres for column in COLUMNS), "text"])
        by_file = groupby(copy.rows(), key=lambda row: (row[SCHEMA_NAME], row[TABLE_NAME], row[-1]))
        for (schema_name, table_name, month), rows in by_file:
            path = names.path(schema_name, table_name, month)
            if store.has(path):
                written.append(_describe_file(store, path))
            else:
                written.append(_write_file(store, path, rows, progress))
    return written


class Hashing:
    """A file that hashes and counts what is written to it."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.size, self._sha256 = file, 0, hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write, and return how many bytes."""
        content = memoryview(data)
        self._sha256.update(content)
        self._file.write(content)
        self.size += content.nbytes
        return content.nbytes

    def tell(self) -> int:
        """How many bytes were written."""
        return self.size

    def flush(self) -> None:
        """The store flushes when it closes the file."""

    def hexdigest(self) -> str:
        """The SHA-256 of what was written."""
        return self._sha256.hexdigest()


def _write_file(
    store: Store, path: str, rows: Iterator[tuple[Any, ...]], progress: Progress
) -> ArchivedFile:
    events = 0
    with store.create(path) as file:
        target = Hashing(file)
        with parquet().ParquetWriter(target, arrow_schema(), **OPTIONS) as writer:
            for group in _groups(rows):
                writer.write_table(as_table(group))
                events += len(group)
                progress(len(group))
    return ArchivedFile(path=path, bytes=target.size, sha256=target.hexdigest(), events=events)


def _describe_file(store: Store, path: str) -> ArchivedFile:
    """A file that is there already; what is in it shows when it is read back."""
    with store.fetched(path) as (copy, sha256):
        try:
            with parquet().ParquetFile(copy) as opened:
                events = opened.metadata.num_rows
        except (arrow().ArrowException, OSError):
            events = 0
        return ArchivedFile(path=path, bytes=copy.stat().st_size, sha256=sha256, events=events)


def _groups(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    group: list[tuple[Any, ...]] = []
    characters = 0
    for row in rows:
        group.append(row[:-1])
        characters += sum(map(len, filter(None, row[TEXT])))
        if len(group) >= ROWS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
    if group:
        yield group


def make_manifest(
    connection: Connection,
    entry: Entry,
    origin: Origin,
    digest: str,
    files: list[ArchivedFile],
    earlier: list[Manifest],
    now: datetime,
    seal: ArchivedFile | None = None,
) -> Manifest:
    """The manifest of an archived partition, behind the earlier ones."""
    return Manifest(
        leaf=entry.name,
        oid=entry.oid,
        lower=entry.lower.isoformat() if entry.lower else None,
        upper=entry.upper.isoformat() if entry.upper else None,
        digest=digest,
        events=sum(file.events for file in files),
        files=tuple(files),
        created_at=after(earlier, now).isoformat(),
        toolkit=__version__,
        server_version=connection.info.server_version,
        previous=fingerprint(earlier[-1]) if earlier else None,
        columns=NAMES,
        origin=origin,
        seal=seal,
    )
