"""Up to which event the trail is closed, as the exports of an archive note it: without waiting for long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from audit_toolkit.archive.exports import Exports
from audit_toolkit.trail.history.watermark import find_watermark

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.trail.history.follow import Blocker

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Up to where events are certain."""

    event_id: int | None
    """The last one; None where none is certain yet."""
    exports: Exports
    """With the marks that are not reached yet, to be noted for the next run."""
    held_by: tuple[Blocker, ...] = ()
    """The open transactions that keep it from going further."""


def find_reach(
    connection: Connection, schema: str, exports: Exports, origin: str, *, wait: float
) -> Reach:
    """How far the trail is closed, after at most `wait` seconds for running transactions to end.

    The connection has to be in autocommit mode and outside a transaction.
    """
    if exports.origin != origin:  # numbers of transactions are those of another cluster
        exports = replace(exports, origin=origin, marks=())
    found = find_watermark(connection, schema, exports.marks, wait=wait)
    return Reach(
        event_id=found.event_id,
        exports=replace(exports, marks=found.marks),
        held_by=found.held_by,
    )
