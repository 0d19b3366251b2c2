"""How long a partition should be, by how fast events come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from audit_toolkit.config import Interval

MOST_EVENTS = 10_000_000
"""A partition of so many takes minutes to archive, to index or to restore, and one that is larger takes hours."""
WINDOW = timedelta(days=28)
"""How far back events count."""
SHORTEST = timedelta(days=2)
"""Of a shorter time nothing can be said: a day has its quiet hours."""

_DAYS = {Interval.MONTH: 31, Interval.WEEK: 7, Interval.DAY: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """An event, by its number and time."""

    event_id: int
    at: datetime


def events_a_day(first: Counted | None, last: Counted | None, now: datetime) -> float | None:
    """How many events a day there were, by their numbers; None where too little is known.

    Numbers are also given to events that were rolled back, so that there were as many or fewer.
    """
    if first is None or last is None or now - first.at < SHORTEST:
        return None
    return max(last.event_id - first.event_id + 1, 0) / ((now - first.at) / timedelta(days=1))


def suitable_interval(rate: float | None, present: Interval) -> Interval:
    """The longest interval whose partitions hold `MOST_EVENTS` at most, at so many events a day.

    A longer one than at present only where it would be half full: so a rate near a limit does not change it back
    and forth. The present one where the rate is not known.
    """
    if rate is None:
        return present
    for interval, days in _DAYS.items():
        longer = days > _DAYS[present]
        if rate * days <= (MOST_EVENTS / 2 if longer else MOST_EVENTS):
            return interval
    return Interval.DAY


def next_shorter(interval: Interval) -> Interval:
    """The interval below that one."""
    return Interval.WEEK if interval is Interval.MONTH else Interval.DAY


def events_in(interval: Interval, rate: float) -> int:
    """How many events a partition of that interval holds."""
    return round(rate * _DAYS[interval])
