"""SQL over an archive, by DuckDB: only what the manifests name, only the columns and files that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from audit_toolkit.archive.manifest import newest, read_manifests
from audit_toolkit.archive.optional_packages import duckdb
from audit_toolkit.archive.store import Store
from audit_toolkit.errors import AuditError, UsageError

VIEW = "logged_actions"


def query_archive(store: Store, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns and rows of a query on the view `logged_actions`, times in UTC.

    Beside the trail's columns it has `relation` and `month`, which prune files. Raises `AuditError` with DuckDB's
    reason, `UsageError` when the archive is empty.
    """
    engine = duckdb()
    files = [file.path for manifest in newest(read_manifests(store)) for file in manifest.files]
    if not files:
        raise UsageError(
            f"the archive {store.url} has no events", hint="audit archive list shows what it has"
        )
    with opened(store, files) as connection:
        try:
            result = connection.execute(sql)
            return [column[0] for column in result.description or ()], result.fetchall()
        except engine.Error as error:
            reason = str(error).splitlines()[0]
            raise AuditError(
                f"DuckDB: {reason}",
                hint="the file is damaged or gone; run: audit archive verify"
                if any(path in reason for path in files)
                else "query the view logged_actions; its JSON columns are text: new_row::json",
            ) from error


@contextmanager
def opened(store: Store, files: Sequence[str], **options: Any) -> Iterator[Any]:
    """A connection of DuckDB that has the events of these files as the view `logged_actions`, times in UTC.

    `options` are those of its `read_parquet`.
    """
    engine = duckdb()
    with engine.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        if not store.is_local:
            connection.register_filesystem(store.filesystem)
        places = [store.path(path) if store.is_local else store.address(path) for path in files]
        try:
            connection.read_parquet(places, hive_partitioning=True, **options).create_view(VIEW)
        except engine.Error as error:
            raise AuditError(
                f"DuckDB: {str(error).splitlines()[0]}",
                hint="for details, run: audit archive verify",
            ) from error
        yield connection
