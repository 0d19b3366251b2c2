"""The archive as a part of maintenance: what is to be written, and what may be dropped."""

from __future__ import annotations

from collections.abc import Callable

from audit_toolkit.archive.export import Progress, archive_leaf
from audit_toolkit.archive.manifest import Manifest
from audit_toolkit.archive.store import Store
from audit_toolkit.archive.verify import read_back
from audit_toolkit.connection import first_line, import_psycopg
from audit_toolkit.errors import AuditError
from audit_toolkit.partitions import Entry, Outcome, Partitions, Result, Run, State, Task

ARCHIVE = "archive"


def to_archive(partitions: Partitions, *, again: bool = False) -> list[Entry]:
    """The detached leaves that have no verified archive yet, the oldest first; with `again` all of them."""
    return [
        entry
        for entry in partitions.entries
        if entry.state is State.DETACHED
        and entry.current_name == entry.name
        and (again or entry.archive is None)
    ]


def archive_all(
    run: Run, store: Store, *, again: bool = False, progress: Callable[[Entry], Progress]
) -> list[Outcome]:
    """Archive what is detached, leaf by leaf: one that fails does not stop the others."""
    partitions = run.read()
    outcomes = [
        _attempt(run, store, entry, partitions, progress(entry))
        for entry in to_archive(partitions, again=again)
    ]
    run.outcomes += outcomes
    return outcomes


def _attempt(
    run: Run, store: Store, entry: Entry, partitions: Partitions, progress: Progress
) -> Outcome:
    what = f"Archive {entry.name} to {store.url}"
    values = {"stage": ARCHIVE, "what": what, "leaf": str(partitions.trail_sibling(entry.name))}
    try:
        archive_leaf(
            run.connection, store, run.schema, entry, now=partitions.now, progress=progress
        )
    except (AuditError, import_psycopg().Error) as error:
        if run.connection.closed:
            raise
        hint = error.hint if isinstance(error, AuditError) else None
        reason = error.message if isinstance(error, AuditError) else first_line(error)
        return Outcome(**values, result=Result.FAILED, message=reason, hint=hint)
    return Outcome(**values, result=Result.DONE)


def archive_gate(run: Run) -> Callable[[Task], str]:
    """Why a leaf must not be dropped: its archive does not come back as it was written. Empty when it does."""

    def refusal(task: Task) -> str:
        entry = run.read().entry(task.oid or 0)
        if entry is None or entry.archive is None:
            return ""
        problems = read_again(entry)
        return f"its archive is not what was written: {problems[0]}" if problems else ""

    return refusal


def read_again(entry: Entry) -> tuple[str, ...]:
    """What is wrong with the archive that the record of a leaf names; reads all of it."""
    url, _, name = (entry.archive or "").rpartition("/_manifests/")
    store = Store.open(url)
    manifest = Manifest.from_bytes(store.read_bytes(f"_manifests/{name}"), name)
    if manifest.digest != entry.archive_digest:
        return ("its manifest has another digest than the one recorded",)
    return read_back(store, manifest).problems
