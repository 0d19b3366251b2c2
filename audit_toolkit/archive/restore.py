"""An archived leaf back into PostgreSQL, compared before it counts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive.columns import COLUMNS, NAMES
from audit_toolkit.archive.extra import parquet
from audit_toolkit.archive.manifest import ArchivedFile, Manifest
from audit_toolkit.archive.store import Store
from audit_toolkit.archive.verify import BATCH
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
    progress: Callable[[int], None] = lambda events: None,  # noqa: ARG005 - by default nobody looks
) -> QualifiedName:
    """Copy an archived leaf into a new table like the leaves of the trail, detached and on hold.

    All in one transaction, which is taken back when the table's digest is not that of the manifest (`AuditError`).
    Raises `UsageError` when the name is taken. Lock: none, the table is new.
    """
    leaf = QualifiedName(schema, name or manifest.leaf)
    try:
        with connection.transaction():
            connection.execute(render("archive/new_table", schema=schema, leaf=leaf))
            for file in manifest.files:
                _copy(connection, store, leaf, file, progress)
            _compare(connection, schema, leaf, manifest)
            connection.execute(_record(store, schema, leaf, manifest, now))
    except import_psycopg().errors.DuplicateTable as error:
        raise UsageError(
            f"there is a table {leaf} already", hint="restore it under another name: --as NAME"
        ) from error
    return leaf


def _copy(
    connection: Connection,
    store: Store,
    leaf: QualifiedName,
    file: ArchivedFile,
    progress: Callable[[int], None],
) -> None:
    statement = render("archive/copy_in", leaf=leaf, columns=COLUMNS)
    with store.fetched(file.path) as (copy_of_file, sha256):
        if sha256 != file.sha256:
            raise AuditError(
                f"{file.path}: the bytes are not those that were written",
                hint="nothing was restored; see audit archive verify",
            )
        with (
            parquet().ParquetFile(copy_of_file) as opened,
            connection.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            for batch in opened.iter_batches(batch_size=BATCH, columns=list(NAMES)):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    copy.write_row(row)
                progress(batch.num_rows)


def _compare(connection: Connection, schema: str, leaf: QualifiedName, manifest: Manifest) -> None:
    found = fetch(connection, render("archive/digest", schema=schema, leaf=leaf))[0]["digest"]
    if found != manifest.digest:
        raise AuditError(
            f"what was restored is not what was archived: {found} instead of {manifest.digest}",
            hint="nothing was restored; see audit archive verify",
        )


def _record(
    store: Store, schema: str, leaf: QualifiedName, manifest: Manifest, now: datetime
) -> str:
    return render(
        "archive/restored",
        schema=schema,
        leaf=leaf,
        lower=manifest.lower,
        upper=manifest.upper,
        archive=store.address(manifest.name),
        digest=manifest.digest,
        now=now,
    )
