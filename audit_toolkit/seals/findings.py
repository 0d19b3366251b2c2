"""What is wrong with a sealed trail, as findings."""

from __future__ import annotations

from audit_toolkit.findings import Finding, FindingKind, Severity


def error(kind: str, subject: str, message: str, remedy: str) -> Finding:
    """A finding that says that the trail cannot be trusted there."""
    return Finding(
        kind=FindingKind(kind),
        severity=Severity.ERROR,
        subject=subject,
        message=message,
        remedy=remedy,
    )


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
