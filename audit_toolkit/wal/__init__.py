"""Changes of tables as a logical slot tells them: `peek`, `read_changes`, keep them, `advance`."""

from __future__ import annotations

from audit_toolkit.wal.changes import (
    CONTEXT_PREFIX,
    Change,
    Done,
    Position,
    full_xid,
    lsn_text,
    read_changes,
)
from audit_toolkit.wal.decoder import Decoder
from audit_toolkit.wal.messages import Cell, Column, Missing, Relation, Row
from audit_toolkit.wal.slot import advance, create_slot, peek

__all__ = [
    "CONTEXT_PREFIX",
    "Cell",
    "Change",
    "Column",
    "Decoder",
    "Done",
    "Missing",
    "Position",
    "Relation",
    "Row",
    "advance",
    "create_slot",
    "full_xid",
    "lsn_text",
    "peek",
    "read_changes",
]
