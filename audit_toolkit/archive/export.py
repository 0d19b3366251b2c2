"""A detached leaf to Parquet: streamed, digested on both sides, the manifest last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count, groupby
from typing import IO, TYPE_CHECKING, Any

from audit_toolkit.archive.columns import (
    COLUMNS,
    NAMES,
    SCHEMA_NAME,
    TABLE_NAME,
    arrow_schema,
    as_table,
)
from audit_toolkit.archive.extra import parquet
from audit_toolkit.archive.manifest import (
    ArchivedFile,
    Manifest,
    Origin,
    fingerprint,
    hive_name,
    newest,
    read_manifests,
)
from audit_toolkit.archive.origin import after, read_origin, require_own
from audit_toolkit.archive.store import EVENTS, Store
from audit_toolkit.archive.verify import read_back
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions import Entry
from audit_toolkit.templates import query, render
from audit_toolkit.version import __version__

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

ROWS_AT_ONCE = 32_768
CHARACTERS_AT_ONCE = 16 * 2**20
"""A row group ends at the first of the two, which bounds the memory whatever the events are."""

Progress = Callable[[int], None]
"""Called with the number of events done since the last call."""


def archive_leaf(
    connection: Connection,
    store: Store,
    schema: str,
    entry: Entry,
    *,
    now: datetime,
    progress: Progress = lambda events: None,  # noqa: ARG005 - by default nobody looks
) -> Manifest:
    """Write a detached leaf to the store, read it back, compare, and note it in the database.

    Its digest is computed by the server and again from the bytes that come back from the store; only when both
    agree the manifest is written. Raises `AuditError` when they do not, the store fails, or the archive is written by
    another database too: the leaf then counts as not archived. Nothing that a manifest names is overwritten.
    Lock: SHARE on the detached leaf while it is read.
    """
    leaf = QualifiedName(schema, entry.current_name or entry.name)
    origin = read_origin(connection, schema)
    earlier = read_manifests(store, origin.place)
    require_own(connection, store, origin, earlier)
    (rights,) = fetch(connection, query("rights"), {"schema": schema})
    by_function = rights["archives_by_function"]
    folder = "archiver" if by_function else "archive"
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        connection.execute(render(f"{folder}/freeze", schema=schema, leaf=leaf, oid=entry.oid))
        digest = _digest(connection, schema, leaf)
        names = _Names(store, origin, entry, digest, earlier)
        files = _write(connection, store, leaf, names, progress)
        if by_function:
            connection.execute(render("archiver/thaw", schema=schema, oid=entry.oid))
    manifest = _manifest(connection, entry, origin, digest, files, earlier, now)
    found = read_back(store, manifest, progress)
    if found.problems:
        raise AuditError(
            f"the archive of {leaf} does not hold what the leaf holds: {found.problems[0]}",
            hint="nothing was dropped; find out why the store returns other bytes, then run it again",
        )
    with store.create(manifest.name) as file:
        file.write(manifest.as_bytes())
    values = {"schema": schema, "oid": entry.oid, "digest": digest, "now": now}
    connection.execute(render(f"{folder}/archived", archive=store.address(manifest.name), **values))
    _remove_former(store, manifest, earlier)
    return manifest


@dataclass(frozen=True, slots=True)
class _Names:
    """The paths of an archived partition's files: new ones, whatever is in the archive."""

    store: Store
    origin: Origin
    entry: Entry
    digest: str
    earlier: list[Manifest]

    def path(self, schema_name: str, table_name: str, month: str) -> str:
        """A path that no manifest names; what an interrupted run left there is removed."""
        relation = hive_name(f"{schema_name}.{table_name}")
        folder = f"{EVENTS}/{self.origin.place}/relation={relation}/month={month}"
        token = self.digest.rpartition(":")[2][:12]
        name = f"{folder}/{self.entry.name}-{self.entry.oid}-{token}"
        named = {file.path for manifest in self.earlier for file in manifest.files}
        endings = chain([""], (f"-{number}" for number in count(2)))
        path = next(p for p in (f"{name}{ending}.parquet" for ending in endings) if p not in named)
        self.store.remove(self.store.path(path))
        return path


def _remove_former(store: Store, manifest: Manifest, earlier: list[Manifest]) -> None:
    """Remove what was archived of a partition before: who reads the folder would count its events twice."""
    kept = {file.path for one in newest([*earlier, manifest]) for file in one.files}
    for former in earlier:
        if (former.leaf, former.oid) == (manifest.leaf, manifest.oid):
            for file in former.files:
                if file.path not in kept:
                    store.remove(store.path(file.path))


def _digest(connection: Connection, schema: str, leaf: QualifiedName) -> str:
    row = fetch(connection, render("archive/digest", schema=schema, leaf=leaf))[0]
    if tuple(row["columns"]) != NAMES:
        raise AuditError(
            f"{leaf} has other columns than an event: {', '.join(row['columns'])}",
            hint="the archive would lose some: drop the added columns, or keep the leaf",
        )
    digest: str = row["digest"]
    return digest


def _write(
    connection: Connection, store: Store, leaf: QualifiedName, names: _Names, progress: Progress
) -> list[ArchivedFile]:
    statement = render("archive/copy_out", leaf=leaf, columns=COLUMNS)
    written = []
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([*(column.postgres for column in COLUMNS), "text"])
        by_file = groupby(copy.rows(), key=lambda row: (row[SCHEMA_NAME], row[TABLE_NAME], row[-1]))
        for (schema_name, table_name, month), rows in by_file:
            path = names.path(schema_name, table_name, month)
            written.append(_write_file(store, path, rows, progress))
    return written


class _Hashing:
    """A file that hashes and counts what is written to it."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.size, self._sha256 = file, 0, hashlib.sha256()

    def write(self, data: Any) -> int:
        content = memoryview(data)
        self._sha256.update(content)
        self._file.write(content)
        self.size += content.nbytes
        return content.nbytes

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """The store flushes when it closes the file."""

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def _write_file(
    store: Store, path: str, rows: Iterator[tuple[Any, ...]], progress: Progress
) -> ArchivedFile:
    events = 0
    options = {"compression": "zstd", "write_statistics": True, "version": "2.6"}
    with store.create(path) as file:
        target = _Hashing(file)
        with parquet().ParquetWriter(target, arrow_schema(), **options) as writer:
            for group in _groups(rows):
                writer.write_table(as_table(group))
                events += len(group)
                progress(len(group))
    return ArchivedFile(path=path, bytes=target.size, sha256=target.hexdigest(), events=events)


def _groups(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    group: list[tuple[Any, ...]] = []
    characters = 0
    for row in rows:
        group.append(row[:-1])
        characters += sum(len(value) for value in row if isinstance(value, str))
        if len(group) >= ROWS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _manifest(
    connection: Connection,
    entry: Entry,
    origin: Origin,
    digest: str,
    files: list[ArchivedFile],
    earlier: list[Manifest],
    now: datetime,
) -> Manifest:
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
    )
