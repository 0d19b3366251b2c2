"""Whether a clock can be believed: what detaches and drops by the time must not trust one clock alone.

A clock that is wrong once (a virtual machine that was resumed, a battery, `--now`) must not take off what holds the
present. So the server's clock is held against that of this machine, against the newest event and against the last run:
where they are far apart, nothing that depends on the time is done, and the doubt is a finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from audit_toolkit.findings import FindingKind
from audit_toolkit.partitions.boundaries import literal

APART = timedelta(days=1)
"""So far apart two clocks may be, time zones set wrong included."""
LEAP = timedelta(days=14)
"""So long there may be neither a run nor an event, where runs are recorded."""
TRUST = "set the clock right; if it is right, say so once: audit maintain --trust-clock"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why the clock is not believed."""

    kind: FindingKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What is known of the time."""

    now: datetime
    """The time that a run goes by: the server's, or that of `--now`."""
    server: datetime
    statement: datetime
    """When the statement began that asked for the server's."""
    here: datetime
    """That of this machine."""
    newest_event: datetime | None = None
    last_run: datetime | None = None
    silent_since: datetime | None = None
    """The first moment after the last run that is followed by `LEAP` without an event."""

    @property
    def earliest(self) -> datetime:
        """The present, as the clock has it that is furthest behind: what reaches beyond it is never detached."""
        return min(self.now, self.server, self.statement, self.here)

    @property
    def doubt(self) -> Doubt | None:
        """Why the time that a run goes by is not believed; None when nothing speaks against it."""
        clocks = {
            "the run": self.now,
            "the server": self.server,
            "this machine": self.here,
        }
        if max(clocks.values()) - min(clocks.values()) > APART:
            said = ", ".join(f"{literal(_second(at))} by {whose}" for whose, at in clocks.items())
            return Doubt(FindingKind.CLOCKS_DISAGREE, f"the clocks disagree: it is {said}")
        for what, at in (("the newest event", self.newest_event), ("the last run", self.last_run)):
            if at and at - self.now > APART:
                return Doubt(
                    FindingKind.CLOCK_BEHIND,
                    f"the clock says {literal(_second(self.now))}, but {what} is of "
                    f"{literal(_second(at))}, {(at - self.now).days} days later",
                )
        since = self.silent_since
        if since:
            return Doubt(
                FindingKind.CLOCK_AHEAD,
                f"the clock says {literal(_second(self.now))}, but for a long time after "
                f"{literal(_second(since))} there was neither a maintenance run nor an event: "
                "it may have jumped ahead",
            )
        return None


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
