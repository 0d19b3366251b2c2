"""Calendar arithmetic in UTC: the boundaries of leaves, their names, spans such as `24 months`.

The grid has fixed anchors (first of the month, Monday, midnight, always UTC), so every machine and every
session computes the same bounds, whatever its time zone.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from audit_toolkit.config import Interval
from audit_toolkit.errors import UsageError

_SPAN = re.compile(r"\s*(\d{1,5})\s*(day|week|month|year)s?\s*")


@dataclass(frozen=True, slots=True)
class Span:
    """A length of calendar time: whole months, and days."""

    months: int = 0
    days: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `7 days`, `6weeks`, `24 months` or `2 years`; raises `UsageError` for anything else."""
        found = _SPAN.fullmatch(text)
        if not found:
            raise UsageError(
                f"{text!r} is not a span of time",
                hint="write it as '90 days', '24 months' or '2 years'",
            )
        number = int(found[1])
        match found[2]:
            case "day":
                return cls(days=number)
            case "week":
                return cls(days=7 * number)
            case "month":
                return cls(months=number)
        return cls(months=12 * number)

    def before(self, instant: datetime) -> datetime:
        """The instant this long ago; the last day of the month where there is no such day."""
        month = instant.year * 12 + instant.month - 1 - self.months
        if month < 12:
            raise UsageError("the span reaches back before the year 1", hint="write a shorter one")
        year, month = divmod(month, 12)
        day = min(instant.day, calendar.monthrange(year, month + 1)[1])
        return instant.replace(year=year, month=month + 1, day=day) - timedelta(days=self.days)

    def shorter_than(self, interval: Interval) -> bool:
        """Whether a leaf of that interval can be longer than this."""
        longest = {Interval.DAY: 1, Interval.WEEK: 7, Interval.MONTH: 31}[interval]
        return self.months == 0 and self.days < longest

    def __str__(self) -> str:
        parts = [(self.months, "months"), (self.days, "days")]
        return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 days"


def floor(interval: Interval, instant: datetime) -> datetime:
    """The last boundary at or before an instant."""
    midnight = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match interval:
        case Interval.DAY:
            return midnight
        case Interval.WEEK:
            return midnight - timedelta(days=midnight.weekday())
        case Interval.MONTH:
            return midnight.replace(day=1)


def following(interval: Interval, instant: datetime, count: int = 1) -> datetime:
    """The boundary that comes `count` boundaries after an instant."""
    bound = floor(interval, instant)
    match interval:
        case Interval.DAY:
            return bound + timedelta(days=count)
        case Interval.WEEK:
            return bound + timedelta(weeks=count)
        case Interval.MONTH:
            year, month = divmod(bound.year * 12 + bound.month - 1 + count, 12)
            return bound.replace(year=year, month=month + 1)


def ranges(
    interval: Interval, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Leaves without a gap from `start` to `end`, cut at the boundaries; the first may be shorter (a bridge)."""
    while start < end:
        bound = min(following(interval, start), end)
        yield start, bound
        start = bound


def leaf_name(interval: Interval, lower: datetime, taken: frozenset[str]) -> str:
    """A readable name that nobody has; names mean nothing, bounds do."""
    plain = {Interval.DAY: "%Y_%m_%d", Interval.WEEK: "%Gw%V", Interval.MONTH: "%Y_%m"}[interval]
    name = f"logged_actions_{lower:{plain}}"
    if name not in taken:
        return name
    name, number = f"logged_actions_from_{lower:%Y_%m_%d}", 1
    candidate = name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def literal(instant: datetime) -> str:
    """An instant as PostgreSQL reads it in every session: ISO, with its offset from UTC."""
    text = instant.astimezone(UTC).isoformat(sep=" ")
    return text.removesuffix(":00")
