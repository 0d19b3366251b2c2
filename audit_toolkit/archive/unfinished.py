"""What a redaction still has to do in archives once it is committed.

It is noted in the database, so that whoever comes next does it: the new files are there by then, and the database
names the manifests that go with them. What is left is to write these, and to remove what had the values; both can be
done any number of times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive.store import Store, unfinished
from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.templates import query, render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

COMMAND = "archive redaction"
"""The row of `maintenance` with what is left to do; there is none when nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What is left to do in one archive."""

    archive: str
    """Its URL."""
    manifests: dict[str, str]
    """The content of those that are to be written, by name."""
    remove: tuple[str, ...]
    """Paths of manifests and files that told what was erased, in this order."""


def read_unfinished(connection: Connection, schema: str) -> tuple[Unfinished, ...]:
    """What is left to do; nothing after a redaction that came to its end."""
    rows = fetch(connection, render("archive/exports", schema=schema), {"command": COMMAND})
    values = rows[0]["summary"] if rows else []
    return tuple(Unfinished(**one | {"remove": tuple(one["remove"])}) for one in values)


def note_unfinished(
    connection: Connection, schema: str, todo: Sequence[Unfinished], now: datetime
) -> None:
    """Note it in the transaction of the redaction."""
    summary = json.dumps([asdict(one) for one in todo])
    run = {"command": COMMAND, "now": now, "succeeded": False, "summary": summary}
    connection.execute(render("partitions/finished", schema=schema, **run))


def finish_redaction(connection: Connection, schema: str) -> int:
    """Do what a redaction that was interrupted left to do; returns how many files and manifests were removed.

    The connection has to be outside of a transaction, and belong to the owner of the trail. Raises `AuditError` when a
    store fails: then it is still to be done.
    """
    todo = read_unfinished(connection, schema)
    removed = 0
    for one in todo:
        store = Store.open(one.archive)
        for name, content in one.manifests.items():
            _publish(store, name, content)
        for path in one.remove:
            removed += _remove(store, path)
    if todo:
        values = {"command": COMMAND, "summary": json.dumps([asdict(one) for one in todo])}
        connection.execute(render("archive/finished_redaction", schema=schema), values)
    return removed


def _publish(store: Store, name: str, content: str) -> None:
    if store.has(name):
        store.remove(store.path(unfinished(name)))  # of who was killed just behind
        return
    try:
        with store.create(name) as file:
            file.write(content.encode())
    except AuditError:
        if not store.has(name):  # else another run came before
            raise


def _remove(store: Store, path: str) -> bool:
    is_there = store.has(path)
    store.remove(store.path(path))
    return is_there


def require_finished(connection: Connection, schema: str) -> None:
    """Finish such a redaction, so that the archive can be written to; raises `AuditError` for who is not the owner."""
    if not read_unfinished(connection, schema):
        return
    (row,) = fetch(connection, query("trail"), {"schema": schema})
    if not row["owned"]:
        raise AuditError(
            "a redaction was interrupted, and the archive still has what it erased",
            hint=f"run audit archive run as {row['owner']}, the owner of the trail",
        )
    finish_redaction(connection, schema)


def unfinished_findings(connection: Connection, schema: str) -> Iterator[Finding]:
    """A redaction that was interrupted: archives still have what it erased."""
    for one in read_unfinished(connection, schema):
        yield Finding(
            kind=FindingKind.ARCHIVE_DIFFERS,
            severity=Severity.ERROR,
            subject=one.archive,
            message="a redaction was interrupted: files that it replaced are still there",
            remedy="audit archive run, as the owner of the trail, removes them",
        )
