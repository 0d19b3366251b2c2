"""The archive as a part of maintenance: writing what is detached, and a veto on what may be dropped."""

from __future__ import annotations

from collections.abc import Callable

from audit_toolkit.archive.export import finish_interrupted
from audit_toolkit.archive.iceberg import register_own
from audit_toolkit.archive.manifest import MOST_BYTES, Manifest, difference
from audit_toolkit.archive.store import Store
from audit_toolkit.archive.unfinished import require_finished
from audit_toolkit.archive.verify import Progress, read_back
from audit_toolkit.archive.write import archive_leaf
from audit_toolkit.partitions import Entry, Run, Task


def archiver(
    run: Run,
    url: str,
    progress: Callable[[str], Progress],
    iceberg: str | None = None,
) -> Callable[[Task], None]:
    """For `Run.archive`: archives the leaf of a task; `progress` gives the counter of a leaf's events.

    Files of a former archive of it are removed from the Iceberg table first. A task without a leaf brings that table in
    line with the archive.
    """

    def register_files() -> None:
        if iceberg:
            register_own(run.connection, Store.open(url), run.schema, iceberg)

    def archive(task: Task) -> None:
        if task.oid is None:
            register_files()
            return
        partitions = run.read()
        entry = partitions.entry(task.oid)
        if entry is not None:
            store = Store.open(url)
            require_finished(run.connection, run.schema)
            finish_interrupted(run.connection, store, run.schema, now=partitions.now)
            archive_leaf(
                run.connection,
                store,
                run.schema,
                entry,
                now=partitions.now,
                whole=run.policy.archive_again,
                before_removal=register_files,
                progress=progress(entry.name),
            )

    return archive


def archive_gate(run: Run, url: str | None = None) -> Callable[[Task], str]:
    """For `Run.gate`: why a leaf must not be dropped, as its archive no longer is what was written.

    An archive that was moved to `url` since is looked for there first.
    """

    def refusal(task: Task) -> str:
        entry = run.read().entry(task.oid or 0)
        if entry is None or not entry.is_archived:
            return ""
        problems = read_again(entry, Store.open(url) if url else None)
        return f"its archive does not match what was written: {problems[0]}" if problems else ""

    return refusal


def read_again(entry: Entry, given: Store | None = None) -> tuple[str, ...]:
    """What is wrong with the archive that the record of a leaf names; reads all of it."""
    store, name = Store.of(entry.archive or "", given)
    manifest = Manifest.from_bytes(store.read_bytes(name, most=MOST_BYTES), name)
    digest, recorded = entry.archive_digest, entry.archive_manifest
    if what := difference(manifest, digest=digest, recorded=recorded):
        return (f"{what} differs from the one recorded",)
    return read_back(store, manifest).problems
