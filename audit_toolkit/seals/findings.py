"""What is wrong with a sealed trail, as findings."""

from __future__ import annotations

from audit_toolkit.findings import Finding, FindingKind, Severity


def error(kind: FindingKind, subject: str, message: str, remedy: str) -> Finding:
    """A finding that says that the trail cannot be trusted there."""
    return Finding(
        kind=kind, severity=Severity.ERROR, subject=subject, message=message, remedy=remedy
    )


REMEDY = (
    "compare it with a backup and with the server's log; do not repair it before you know the cause"
)
_OF_EVENTS = {
    FindingKind.EVENT_CHANGED: "it was changed after it was sealed",
    FindingKind.EVENT_REMOVED: "it was sealed, and is missing",
    FindingKind.EVENT_INSERTED: "it did not exist when the events before and after it were sealed",
    FindingKind.EVENT_DOUBLED: "several events have this id",
}
MOST = 100
"""Events that are named one by one."""


def of_events(kind: FindingKind, ids: list[int]) -> list[Finding]:
    """A finding for each event, up to a number of them."""
    message = _OF_EVENTS[kind]
    found = [error(kind, f"event {number}", message, REMEDY) for number in sorted(ids)[:MOST]]
    if len(ids) > MOST:
        found.append(error(kind, f"{len(ids) - MOST:,} more events", message, REMEDY))
    return found
