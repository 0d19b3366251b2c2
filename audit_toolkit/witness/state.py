"""What the witness keeps in the database, in one transaction with what it found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.templates import render
from audit_toolkit.wal import lsn_text
from audit_toolkit.witness.findings import Found
from audit_toolkit.witness.tables import Watched

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(slots=True)
class Counts:
    """What it has looked at since it was made."""

    transactions: int = 0
    changes: int = 0
    events: int = 0
    findings: int = 0
    unjudged: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By table and reason."""


@dataclass(slots=True)
class State:
    """Where the witness is, and what it knows."""

    slot: str
    kept: int
    """Everything that was committed up to here was judged: an LSN."""
    seen: int = 0
    """The commit record of the last transaction that was judged, so that none is judged twice."""
    publications: tuple[str | None, str | None] = (None, None)
    """Their versions."""
    own_entries: tuple[int, ...] = ()
    tables: dict[int, Watched] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    last_run_at: datetime | None = None
    age: float | None = None
    """Seconds since it was kept."""

    def as_dict(self) -> dict[str, Any]:
        """The state as JSON values."""
        counts = self.counts
        return {
            "slot": self.slot,
            "kept": self.kept,
            "seen": self.seen,
            "kept_lsn": lsn_text(self.kept),
            "publications": list(self.publications),
            "own_entries": list(self.own_entries),
            "tables": [table.as_dict() for table in self.tables.values()],
            "transactions": counts.transactions,
            "changes": counts.changes,
            "events": counts.events,
            "findings": counts.findings,
            "unjudged": [[*key, number] for key, number in sorted(counts.unjudged.items())],
        }


def read_state(connection: Connection, schema: str) -> State | None:
    """What was kept; None where no witness was ever made, or it was dropped."""
    rows = fetch(connection, render("witness/state", schema=schema))
    if not rows:
        return None
    (row,) = rows
    said: Mapping[str, Any] = row["summary"]
    tables = [Watched.from_dict(values) for values in said["tables"]]
    return State(
        slot=said["slot"],
        kept=int(said["kept"]),
        seen=int(said["seen"]),
        publications=(said["publications"][0], said["publications"][1]),
        own_entries=tuple(said["own_entries"]),
        tables={table.oid: table for table in tables},
        counts=Counts(
            transactions=said["transactions"],
            changes=said["changes"],
            events=said["events"],
            findings=said["findings"],
            unjudged=Counter({(table, why): n for table, why, n in said["unjudged"]}),
        ),
        last_run_at=row["last_run_at"],
        age=row["age"],
    )


def keep(connection: Connection, schema: str, state: State, found: list[Found]) -> list[int]:
    """Keep the state and what was found, in one transaction; the events of the findings."""
    state.counts.findings += len(found)
    with connection.transaction():
        events = [
            fetch(
                connection,
                render("witness/note", schema=schema.replace("%", "%%")),
                {"said": json.dumps(one.as_dict())},
            )[0]["event_id"]
            for one in found
        ]
        connection.execute(
            render("witness/keep", schema=schema.replace("%", "%%")),
            {"summary": json.dumps(state.as_dict())},
        )
    return events
