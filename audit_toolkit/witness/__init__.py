"""The witness: what the WAL says was written, compared with what the trail says, transaction by transaction."""

from __future__ import annotations

from audit_toolkit.witness.findings import Found
from audit_toolkit.witness.run import Round, Witness
from audit_toolkit.witness.slot import Names, drop, read_server
from audit_toolkit.witness.state import State, read_state

__all__ = ["Found", "Names", "Round", "State", "Witness", "drop", "read_server", "read_state"]
