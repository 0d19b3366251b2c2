"""What works on indexes right now: how far it is, how fast, and who it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockingSession:
    """The session that a build waits for."""

    pid: int
    state: str | None
    """As in pg_stat_activity; None where this role may not see it."""
    application: str | None
    transaction_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A session that builds, rebuilds or drops an index."""

    pid: int
    command: str
    phase: str | None
    """None where this role may not see it (pg_read_all_stats shows it)."""
    table: QualifiedName | None
    index: QualifiedName | None
    done: int
    """Blocks, tuples or awaited transactions of this phase."""
    total: int
    """0 where the phase does not say."""
    seconds: float | None
    """Since the statement began."""
    blocker: BlockingSession | None

    @property
    def percent(self) -> float | None:
        """Of this phase, 0 to 100."""
        return min(100.0, 100 * self.done / self.total) if self.total else None

    def rate(self, before: Build | None) -> float | None:
        """Units of this phase done a second since an earlier look at the same build and phase."""
        if before is None or (before.pid, before.phase) != (self.pid, self.phase):
            return None
        if self.seconds is None or before.seconds is None or self.seconds <= before.seconds:
            return None
        return max(self.done - before.done, 0) / (self.seconds - before.seconds)

    def as_dict(self) -> dict[str, Any]:
        """The build as JSON values."""
        blocker = self.blocker
        return {
            "pid": self.pid,
            "command": self.command,
            "phase": self.phase,
            "percent": None if self.percent is None else round(self.percent, 1),
            "table": self.table and str(self.table),
            "index": self.index and str(self.index),
            "done": self.done,
            "total": self.total,
            "seconds": self.seconds and round(self.seconds, 3),
            "blocker": blocker
            and {
                "pid": blocker.pid,
                "state": blocker.state,
                "application": blocker.application,
                "transaction_seconds": blocker.transaction_seconds
                and round(blocker.transaction_seconds, 3),
            },
        }


def read_builds(connection: Connection) -> list[Build]:
    """All builds of this database, of every role."""
    return [_build(row) for row in fetch(connection, query("index_builds"))]


def _build(row: dict[str, Any]) -> Build:
    done, total = _done(row)
    return Build(
        pid=row["pid"],
        command=row["command"] or "index build",
        phase=row["phase"],
        table=_name(row["table_schema"], row["table_name"]),
        index=_name(row["index_schema"], row["index_name"]),
        done=done,
        total=total,
        seconds=row["seconds"],
        blocker=_blocker(row),
    )


def _done(row: dict[str, Any]) -> tuple[int, int]:
    # Each phase uses one of these counters; those of earlier phases keep their final values.
    waiting = (row["phase"] or "").startswith("waiting")
    kinds = ("lockers",) if waiting else ("tuples", "blocks")
    for kind in kinds:
        if row[f"{kind}_total"]:
            return row[f"{kind}_done"], row[f"{kind}_total"]
    return 0, 0


def _name(schema: str | None, name: str | None) -> QualifiedName | None:
    return QualifiedName(schema, name) if schema and name else None


def _blocker(row: dict[str, Any]) -> BlockingSession | None:
    if row["blocker_pid"] is None:
        return None
    return BlockingSession(
        pid=row["blocker_pid"],
        state=row["blocker_state"],
        application=row["blocker_application"],
        transaction_seconds=row["blocker_seconds"],
    )
