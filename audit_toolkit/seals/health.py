"""What `audit check` says of seals: whether they keep up, whether checkpoints leave, and whose key it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.seals.checkpoints import NoteError, read_checkpoint
from audit_toolkit.seals.keys import keys_of, read_key
from audit_toolkit.seals.seal import read_known_keys, read_newest
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

MOST_WAITING = timedelta(hours=26)
"""A day, which is what cron often is, and some time for a run that is late."""


def seal_findings(connection: Connection, schema: str, key: Path | None) -> Iterator[Finding]:
    """What is wrong with the seals of a trail; nothing of one that never was sealed, unless a key is configured.

    Reads no sealed event: that is what `audit verify` does.
    """
    (row,) = fetch(connection, render("seals/may_read", schema=schema))
    if not row["allowed"]:
        return
    newest = read_newest(connection, schema)
    if newest is None and key is None:
        return
    yield from _of_key(connection, schema, key, newest)
    up_to_id = newest["up_to_id"] if newest else -(2**63)
    (state,) = fetch(connection, render("seals/waiting", schema=schema), {"up_to_id": up_to_id})
    waiting: timedelta | None = state["waiting"]
    if waiting is not None and waiting > MOST_WAITING:
        yield Finding(
            kind=FindingKind.SEAL_OLD,
            severity=Severity.WARNING,
            subject=f"{schema}.logged_actions",
            message="events have been waiting to be sealed for "
            f"{waiting.days} days and {waiting.seconds // 3600} hours",
            remedy="audit seal",
        )
    summary = state["summary"] if isinstance(state["summary"], dict) else {}
    for one in summary.get("sinks", ()):
        if one.get("failed"):
            yield Finding(
                kind=FindingKind.CHECKPOINT_NOT_KEPT,
                severity=Severity.ERROR,
                subject=f"{one['address']}",
                message=f"the last checkpoint could not be stored: {one['failed']}",
                remedy="audit seal --checkpoint-to PLACE, once the place takes it again",
            )


def _of_key(
    connection: Connection, schema: str, key: Path | None, newest: dict[str, Any] | None
) -> Iterator[Finding]:
    signer = None
    if key is not None:
        try:
            signer = read_key(key)
        except AuditError as error:
            yield Finding(
                kind=FindingKind.SEAL_KEY_MISSING,
                severity=Severity.ERROR,
                subject=str(key),
                message=error.message,
                remedy=error.hint or f"audit keys new --key {key}",
            )
            return
    if newest is None:
        return
    try:
        keys = (
            keys_of(signer) if signer else [one for one, _ in read_known_keys(connection, schema)]
        )
        read_checkpoint(newest["note"], keys)
    except NoteError as error:
        yield Finding(
            kind=FindingKind.SEAL_KEY_UNKNOWN,
            severity=Severity.ERROR,
            subject=f"{schema}.seal_checkpoints",
            message=f"the last checkpoint: {error.message}",
            remedy="audit verify --checkpoints PLACE --key FILE",
        )
    except AuditError:
        return  # without the extra nothing can be said, and nothing is sealed
