"""An archived leaf back into PostgreSQL, compared before it counts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive.columns import COLUMNS
from audit_toolkit.archive.manifest import ArchivedFile, Manifest, difference, fingerprint
from audit_toolkit.archive.optional_packages import parquet
from audit_toolkit.archive.store import Store, split_address
from audit_toolkit.archive.verify import BATCH, Progress, read_back, unwatched
from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def restore_leaf(
    connection: Connection,
    store: Store,
    schema: str,
    manifest: Manifest,
    *,
    now: datetime,
    name: str | None = None,
    foreign: bool = False,
    progress: Progress = unwatched,
) -> QualifiedName:
    """Copy an archived leaf into a new table like the leaves of the trail, detached and on hold.

    The digest that counts is the one that the database recorded when it archived the leaf; with `foreign`, of an
    archive that this database did not write, that of the manifest. All in one transaction, which is taken back when
    the new table has another one (`AuditError`).
    Raises `UsageError` when the name is taken. Lock: none, the table is new.
    """
    leaf = QualifiedName(schema, name or manifest.leaf)
    if not foreign:
        _require_recorded(connection, schema, manifest)
    if manifest.version == 1:
        _require_sound(store, manifest)
    try:
        with connection.transaction():
            connection.execute(render("archive/new_table", schema=schema, leaf=leaf))
            for file in manifest.files:
                _copy(connection, store, leaf, manifest, file, progress)
            digest = _compare(connection, schema, leaf, manifest)
            connection.execute(_record(store, schema, leaf, manifest, digest, now))
    except import_psycopg().errors.DuplicateTable as error:
        raise UsageError(
            f"a table {leaf} already exists", hint="restore it under another name: --as NAME"
        ) from error
    return leaf


def rehearse_restore(
    connection: Connection,
    store: Store,
    schema: str,
    manifest: Manifest,
    scratch: str,
    *,
    foreign: bool = False,
    progress: Progress = unwatched,
) -> None:
    """Do what `restore_leaf` does, with a table in the new schema `scratch`, and take both away again.

    Nothing is left of it, however it ends. Raises `AuditError` as `restore_leaf` does, and `UsageError` where there is
    a schema of that name.
    """
    leaf = QualifiedName(scratch, manifest.leaf)
    if not foreign:
        _require_recorded(connection, schema, manifest)
    if manifest.version == 1:
        _require_sound(store, manifest)
    try:
        with connection.transaction():
            connection.execute(render("archive/scratch_table", schema=schema, leaf=leaf))
            for file in manifest.files:
                _copy(connection, store, leaf, manifest, file, progress)
            _compare(connection, schema, leaf, manifest)
            connection.execute(render("archive/drop_scratch", leaf=leaf))
    except import_psycopg().errors.DuplicateSchema as error:
        raise UsageError(
            f"a schema {scratch!r} already exists",
            hint="name one that does not: --scratch-schema NAME",
        ) from error


def _copy(
    connection: Connection,
    store: Store,
    leaf: QualifiedName,
    manifest: Manifest,
    file: ArchivedFile,
    progress: Progress,
) -> None:
    # What an older archive does not have stays NULL.
    names = [column.name for column in COLUMNS if column.name in manifest.columns]
    missing = (None,) * (len(COLUMNS) - len(names))
    known = [column for column in COLUMNS if column.name in names]
    columns = [*known, *(column for column in COLUMNS if column.name not in names)]
    statement = render("archive/copy_in", leaf=leaf, columns=columns)
    with store.fetched(file.path) as (copy_of_file, sha256):
        if sha256 != file.sha256:
            raise AuditError(
                f"{file.path}: the file was changed since it was written",
                hint="nothing was restored; for details, run: audit archive verify",
            )
        with (
            parquet().ParquetFile(copy_of_file) as opened,
            connection.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            for batch in opened.iter_batches(batch_size=BATCH, columns=names):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    copy.write_row(row + missing)
                progress(batch.num_rows)


def _require_recorded(connection: Connection, schema: str, manifest: Manifest) -> None:
    entries = fetch(connection, render("partitions/entries", schema=schema))
    digests = {row["archive_digest"] for row in entries if row["name"] == manifest.leaf}
    if manifest.digest not in digests:
        known = digests - {None}
        raise AuditError(
            (
                f"{manifest.leaf}: the digest in the archive differs from the one that this "
                "database recorded"
            )
            if known
            else f"this database has no record of archiving {manifest.leaf}",
            hint="nothing was restored; for details, run: audit archive verify"
            + (
                f". To restore what another database archived: --from {manifest.place}"
                if manifest.place
                else ""
            ),
        )
    named = [row for row in entries if split_address(row["archive"] or "")[1] == manifest.name]
    if named and all(
        difference(manifest, digest=row["archive_digest"], recorded=row["archive_manifest"])
        for row in named
    ):
        raise AuditError(
            f"{manifest.leaf}: its manifest differs from the one that this database recorded",
            hint="nothing was restored; for details, run: audit archive verify",
        )


def _require_sound(store: Store, manifest: Manifest) -> None:
    """Of an archive from before 0.3 the digest is another one than the database computes now."""
    for problem in read_back(store, manifest).problems:
        raise AuditError(
            problem, hint="nothing was restored; for details, run: audit archive verify"
        )


def _compare(connection: Connection, schema: str, leaf: QualifiedName, manifest: Manifest) -> str:
    found: str = fetch(connection, render("archive/digest", schema=schema, leaf=leaf))[0]["digest"]
    same = found.partition("/")[0] == str(manifest.events)
    if not same or (manifest.version > 1 and found != manifest.digest):
        raise AuditError(
            f"the restored rows do not match the archive: digest {found} instead of "
            f"{manifest.digest}",
            hint="nothing was restored; for details, run: audit archive verify",
        )
    return manifest.digest


def _record(
    store: Store, schema: str, leaf: QualifiedName, manifest: Manifest, digest: str, now: datetime
) -> str:
    return render(
        "archive/restored",
        schema=schema,
        leaf=leaf,
        lower=manifest.lower,
        upper=manifest.upper,
        archive=store.address(manifest.name),
        digest=digest,
        fingerprint=fingerprint(manifest),
        now=now,
    )
