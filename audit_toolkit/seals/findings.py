"""What is wrong with a sealed trail, in one shape."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it was sealed, and what to do about it."""

    kind: str
    severity: str
    subject: str
    message: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return asdict(self)


def error(kind: str, subject: str, message: str, remedy: str) -> Finding:
    """A finding that says that the trail cannot be trusted there."""
    return Finding(kind=kind, severity="error", subject=subject, message=message, remedy=remedy)


_REMEDY = "compare it with a backup and with the server's log; do not repair it before you know"

OF_EVENTS = {
    "event_changed": "it is not what was sealed: a column of it was changed",
    "event_removed": "it was sealed and is gone",
    "event_inserted": "it was not there when the events before and after it were sealed",
    "event_doubled": "several events have this id",
}
"""Kinds of findings that are about single events."""
MOST = 100
"""Events that are named one by one."""


def of_events(kind: str, ids: list[int]) -> list[Finding]:
    """A finding for each event, up to a number of them."""
    found = [
        error(kind, f"event {number}", OF_EVENTS[kind], _REMEDY) for number in sorted(ids)[:MOST]
    ]
    if len(ids) > MOST:
        found.append(error(kind, f"{len(ids) - MOST} more events", OF_EVENTS[kind], _REMEDY))
    return found
