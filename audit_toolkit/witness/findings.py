"""What the witness found, as a finding for people and as an event of the trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.plurals import counted
from audit_toolkit.wal import lsn_text

SHOWN_KEYS = 10
_OPERATIONS = {"I": "insert", "U": "update", "D": "delete", "T": "truncate"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something that is in the WAL and not in the trail, or the other way round."""

    kind: FindingKind
    subject: str
    """The table, or the trail."""
    message: str
    operation: str | None = None
    keys: tuple[str, ...] = ()
    """Of the rows, the first ones."""
    count: int = 1
    xid: int | None = None
    committed_at: datetime | None = None
    lsn: str | None = None
    event_ids: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    """In which an event says something else."""
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What the trail keeps of it, and JSON shows."""
        moment = self.committed_at
        return {
            "kind": self.kind.value,
            "subject": self.subject,
            "message": self.message,
            "operation": self.operation,
            "keys": list(self.keys),
            "count": self.count,
            "xid": self.xid,
            "committed_at": moment and moment.astimezone(UTC).isoformat(),
            "lsn": self.lsn,
            "event_ids": list(self.event_ids),
            "columns": list(self.columns),
            "remedy": self.remedy,
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Self | None:
        """What an event of the trail says; None where it is none of ours."""
        try:
            kind = FindingKind(said["kind"])
            moment = said["committed_at"]
            return cls(
                kind=kind,
                subject=said["subject"],
                message=said["message"],
                operation=said["operation"],
                keys=tuple(said["keys"]),
                count=said["count"],
                xid=said["xid"],
                committed_at=moment and datetime.fromisoformat(moment),
                lsn=said["lsn"],
                event_ids=tuple(said["event_ids"]),
                columns=tuple(said["columns"]),
                remedy=said["remedy"],
            )
        except (KeyError, ValueError, TypeError):
            return None

    def finding(self, event_id: int | None = None) -> Finding:
        """The same for every command that reports findings."""
        details = {name: value for name, value in self.as_dict().items() if name not in _SHARED}
        return Finding(
            kind=self.kind,
            severity=Severity.ERROR,
            subject=self.subject if event_id is None else f"{self.subject} (event {event_id})",
            message=self.message,
            remedy=self.remedy,
            details=details | {"event_id": event_id},
        )


_SHARED = ("kind", "subject", "message", "remedy")


def of_rows(
    kind: FindingKind,
    table: str,
    action: str,
    keys: list[str | None],
    *,
    xid: int,
    commit_lsn: int,
    committed_at: datetime,
    event_ids: tuple[int, ...] = (),
    columns: tuple[str, ...] = (),
) -> Found:
    """A finding about rows of one table, which one transaction treated alike."""
    operation = _OPERATIONS[action]
    named = [key for key in keys if key is not None]
    shown = tuple(named[:SHOWN_KEYS])
    when = committed_at.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")
    where = (
        f"transaction {xid}, committed {when.removesuffix('+00:00')} UTC at {lsn_text(commit_lsn)}"
    )
    return Found(
        kind=kind,
        subject=table,
        message=f"{_words(kind, operation, len(keys), shown)}{_in(columns)} ({where})",
        operation=operation,
        keys=shown,
        count=len(keys),
        xid=xid,
        committed_at=committed_at,
        lsn=lsn_text(commit_lsn),
        event_ids=event_ids[:SHOWN_KEYS],
        columns=columns,
        remedy=_REMEDIES[kind],
    )


def _in(columns: tuple[str, ...]) -> str:
    if not columns:
        return ""
    return f" in {'column' if len(columns) == 1 else 'columns'} {', '.join(columns)}"


def _words(kind: FindingKind, operation: str, count: int, keys: tuple[str, ...]) -> str:
    named = ", ".join(keys) + (", ..." if count > len(keys) else "")
    of_keys = f" of key {named}" if count == 1 and keys else f" (keys {named})" if keys else ""
    what = operation if count == 1 else f"{operation}s"
    number = f"{count:,} {what}" if count > 1 else what
    match kind:
        case FindingKind.CHANGE_WITHOUT_EVENT:
            return f"{number}{of_keys} committed without an event"
        case FindingKind.EVENT_WITHOUT_CHANGE:
            events = counted(count, "event") if count > 1 else "an event"
            return f"{events} of {number if count == 1 else what}{of_keys} without such a change"
        case _:
            events = counted(count, "event") if count > 1 else "the event"
            return f"{events} of {what}{of_keys} not what was written"


_REMEDIES = {
    FindingKind.CHANGE_WITHOUT_EVENT: "find out who did it (audit check), then: audit reconcile",
    FindingKind.EVENT_WITHOUT_CHANGE: "find out who wrote it: audit show EVENT",
    FindingKind.EVENT_DIFFERS: "find out who changed capture: audit check",
}
