"""How the witness stands: for `audit witness status`, for `audit check`, and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.findings import Finding, FindingKind, Metric, Severity
from audit_toolkit.plurals import counted
from audit_toolkit.templates import render
from audit_toolkit.wal import lsn_text
from audit_toolkit.witness.findings import Found
from audit_toolkit.witness.instance import running_instance
from audit_toolkit.witness.slot import Names, Server, read_server
from audit_toolkit.witness.state import State, read_state
from audit_toolkit.witness.tables import Watched

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

STOPPED_AFTER = 900.0
"""Seconds after which a witness that does not run is a finding."""
MOST_FOUND = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The witness, its slot, and what it has looked at."""

    names: Names
    state: State
    server: Server
    pid: int | None
    """Of the server process of the instance that runs; None where none does."""
    open_findings: int
    """Findings since the last review."""

    @property
    def is_running(self) -> bool:
        """Whether an instance runs."""
        return self.pid is not None

    @property
    def watched(self) -> list[Watched]:
        """The tables that it compares, by name."""
        return [one for one in self._tables if one.entry is not None and one.trouble is None]

    @property
    def not_watched(self) -> list[Watched]:
        """Those it does not, by name."""
        return [one for one in self._tables if one.entry is None or one.trouble is not None]

    @property
    def _tables(self) -> list[Watched]:
        return sorted(self.state.tables.values(), key=lambda one: (one.schema, one.table))

    def as_dict(self) -> dict[str, Any]:
        """The status as JSON values."""
        state, counts = self.state, self.state.counts
        return {
            "slot": self.names.slot,
            "publications": [self.names.publication, self.names.inserts],
            "is_running": self.is_running,
            "pid": self.pid,
            "last_run_at": state.last_run_at and state.last_run_at.astimezone(UTC).isoformat(),
            "kept_lsn": lsn_text(state.kept),
            "has_slot": self.server.has_slot,
            "wal_status": self.server.wal_status,
            "retained_bytes": self.server.retained_bytes,
            "transactions": counts.transactions,
            "changes": counts.changes,
            "events": counts.events,
            "findings": counts.findings,
            "open_findings": self.open_findings,
            "not_judged": [
                {"table": table, "reason": reason, "count": number}
                for (table, reason), number in sorted(counts.unjudged.items())
            ],
            "tables": [
                {
                    "table": str(one.name),
                    "is_watched": one.entry is not None and one.trouble is None,
                    "compares": compared(one),
                    "trouble": one.trouble,
                }
                for one in self._tables
            ],
        }


def compared(table: Watched) -> str:
    """What can be compared of a table."""
    if not table.has_identity:
        return "inserts and truncates alone: it has no replica identity"
    if table.masked:
        return "all changes; masked values are not compared"
    return "all changes"


def read_status(connection: Connection, schema: str) -> Status | None:
    """How the witness stands; None where there is none."""
    state = read_state(connection, schema)
    if state is None:
        return None
    names = Names.of(connection, schema)
    return Status(
        names=names,
        state=state,
        server=read_server(connection, names),
        pid=running_instance(connection, schema),
        open_findings=len(read_found(connection, schema)),
    )


def read_found(
    connection: Connection, schema: str, *, reviewed: bool = False
) -> list[tuple[int, datetime, Found]]:
    """What was found, the newest first, each with its event: what nobody has reviewed, or all of it."""
    sql = render("witness/found", schema=schema, reviewed=reviewed, most=MOST_FOUND)
    rows = fetch(connection, sql)
    found = [(row["event_id"], row["action_tstamp"], Found.from_dict(row["said"])) for row in rows]
    return [(number, moment, one) for number, moment, one in found if one is not None]


def witness_findings(connection: Connection, schema: str) -> Iterator[Finding]:
    """What the witness found since the last review, and what keeps it from seeing more."""
    for event_id, _, found in read_found(connection, schema):
        yield found.finding(event_id)
    status = read_status(connection, schema)
    if status is None:
        return
    server, name = status.server, f"slot {status.names.slot}"
    if server.is_standby:
        return
    if why := _blind(status):
        yield Finding(
            kind=FindingKind.WITNESS_BLIND,
            severity=Severity.ERROR,
            subject=name,
            message=f"{why}: the witness does not see what commits now",
            remedy="audit witness run recreates it and records the gap; or audit witness drop",
        )
    elif not -STOPPED_AFTER < (status.state.age or 0) <= STOPPED_AFTER:
        yield _stopped(status, name)
    elif server.wal_status == "unreserved":
        yield Finding(
            kind=FindingKind.WITNESS_STOPPED,
            severity=Severity.ERROR,
            subject=name,
            message="it is so far behind that the next checkpoint may remove the WAL it needs",
            remedy="audit witness run, or raise max_slot_wal_keep_size",
        )


def _stopped(status: Status, name: str) -> Finding:
    """Of one that does not run, or whose process is paused, or that nobody can tell by a clock that was set back."""
    age = status.state.age or 0
    last = (
        f"{_minutes(age)} ago" if age > 0 else "at a time that the server's clock has not reached"
    )
    kept = f"its slot keeps {_size(status.server.retained_bytes)} of WAL"
    if status.is_running:
        return Finding(
            kind=FindingKind.WITNESS_STOPPED,
            severity=Severity.WARNING,
            subject=name,
            message=f"the witness last noted its place {last}: its process is paused, or it compares a very large "
            f"transaction; {kept}",
            remedy="look at its process, and start it again if it stands still",
        )
    return Finding(
        kind=FindingKind.WITNESS_STOPPED,
        severity=Severity.ERROR,
        subject=name,
        message=f"the witness last ran {last}, and {kept}",
        remedy="audit witness run, or audit witness drop if it is not wanted any more",
    )


def metrics(status: Status) -> list[Metric]:
    """The same for Prometheus."""
    counts = status.state.counts
    values: list[tuple[str, str, str, float]] = [
        ("running", "gauge", "Whether an instance runs.", status.is_running),
        ("blind", "gauge", "Whether its slot is gone or lost.", _blind(status) is not None),
        ("retained_bytes", "gauge", "WAL kept for it.", status.server.retained_bytes or 0),
        ("age_seconds", "gauge", "Time since it last noted its place.", status.state.age or 0),
        ("open_findings", "gauge", "Findings that nobody has reviewed.", status.open_findings),
        ("findings_total", "counter", "Findings.", counts.findings),
        ("transactions_total", "counter", "Transactions compared.", counts.transactions),
        ("changes_total", "counter", "Row changes compared.", counts.changes),
        ("events_total", "counter", "Events compared.", counts.events),
        (
            "not_judged_total",
            "counter",
            "Changes and events that could not be judged.",
            counts.unjudged.total(),
        ),
    ]
    return [
        Metric(name=f"audit_witness_{name}", help=text, samples=[({}, float(value))], type=kind)
        for name, kind, text, value in values
    ]


def _blind(status: Status) -> str | None:
    server = status.server
    if server.wal_level != "logical":
        return f"wal_level is {server.wal_level}"
    if not server.has_slot:
        return "it was dropped"
    if server.lost_because:
        return f"it was lost ({server.lost_because})"
    if not server.publication or not server.inserts:
        return "its publication was dropped"
    return None


def _minutes(seconds: float | None) -> str:
    return counted(int((seconds or 0) // 60), "minute")


def _size(number: int | None) -> str:
    return f"{(number or 0) / 2**20:,.0f} MB"
