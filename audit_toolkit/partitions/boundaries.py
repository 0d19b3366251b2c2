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
from decimal import Decimal
from typing import Self

from audit_toolkit.config import Interval
from audit_toolkit.errors import UsageError

_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([a-z]+)", re.IGNORECASE)
_SPAN = re.compile(
    rf"\s*{_PART.pattern}(?:(?:\s*,\s*|\s+and\s+|\s*){_PART.pattern})*\s*", re.IGNORECASE
)
_MONTHS = {"mo": 1, "mon": 1, "month": 1, "y": 12, "yr": 12, "year": 12}
_MICROSECONDS = {
    name: size
    for names, size in (
        (("us", "usec", "microsecond"), 1),
        (("ms", "msec", "millisecond"), 1000),
        (("s", "sec", "second"), 10**6),
        (("m", "min", "minute"), 60 * 10**6),
        (("h", "hr", "hour"), 3600 * 10**6),
        (("d", "day"), 86400 * 10**6),
        (("w", "week"), 604800 * 10**6),
    )
    for name in names
}
_WORDS = (
    "use '2h', '3d 4h', '90 days', '24 months' or '2 years', for example: the largest unit first"
)


@dataclass(frozen=True, slots=True)
class Span:
    """A length of calendar time: whole months, days, and what is less than a day."""

    months: int = 0
    days: int = 0
    seconds: float = 0

    @classmethod
    def parse(cls, text: str, option: str = "") -> Self:
        """Read `2h`, `7 days`, `1 month`, `1.5h` or `3d 4h`; raises `UsageError`, which names the option.

        Of several units the largest has to come first, so that nobody's `1m 3d` is a minute and three days.
        """
        where = f"{option}: " if option else ""
        wrong = UsageError(f"{where}{text!r} is not a valid time span", hint=_WORDS)
        parts = _PART.findall(text) if _SPAN.fullmatch(text) else []
        units = [_unit(word.lower()) for _, word in parts]
        sizes = [
            _MONTHS.get(unit, 0) * 31 * 86400 * 10**6 + _MICROSECONDS.get(unit, 0) for unit in units
        ]
        if not parts or not all(sizes) or sizes != sorted(set(sizes), reverse=True):
            raise wrong
        months = microseconds = Decimal(0)
        for (number, _), unit in zip(parts, units, strict=True):
            months += Decimal(number) * _MONTHS.get(unit, 0)
            microseconds += Decimal(number) * _MICROSECONDS.get(unit, 0)
        if months % 1 or microseconds % 1:  # half a month has no length
            raise wrong
        days, rest = divmod(int(microseconds), _MICROSECONDS["day"])
        return cls(months=int(months), days=days, seconds=rest / 10**6)

    @property
    def milliseconds(self) -> int:
        """As the server wants a timeout; raises `UsageError` for months, which have no length of their own."""
        if self.months:
            raise UsageError(
                f"{self} is not a valid timeout", hint="use '2s' or '30min', for example"
            )
        return round(1000 * (86400 * self.days + self.seconds))

    def before(self, instant: datetime) -> datetime:
        """The instant this long ago; the last day of the month where there is no such day."""
        less = timedelta(days=min(self.days, 10**6), seconds=self.seconds)
        month = instant.year * 12 + instant.month - 1 - self.months
        if month < 12:
            raise UsageError(_TOO_LONG, hint="use a shorter one")
        year, month = divmod(month, 12)
        day = min(instant.day, calendar.monthrange(year, month + 1)[1])
        try:
            return instant.replace(year=year, month=month + 1, day=day) - less
        except OverflowError:
            raise UsageError(_TOO_LONG, hint="use a shorter one") from None

    def shorter_than(self, interval: Interval) -> bool:
        """Whether a leaf of that interval can be longer than this."""
        longest = {Interval.DAY: 1, Interval.WEEK: 7, Interval.MONTH: 31}[interval]
        return self.months == 0 and self.days < longest

    def __str__(self) -> str:
        seconds = f"{self.seconds:.6f}".rstrip("0").rstrip(".")
        whole = [
            f"{n} {unit}{'s'[n == 1 :]}"
            for n, unit in ((self.months, "month"), (self.days, "day"))
            if n
        ]
        return " ".join([*whole, *([f"{seconds} s"] if seconds != "0" else [])]) or "0 days"


_TOO_LONG = "the time span reaches back before the year 1"


def _unit(word: str) -> str:
    """The unit of that name, in the singular; the word itself where there is none."""
    names = (word, word.removesuffix("s"))
    return next((name for name in names if name in _MONTHS or name in _MICROSECONDS), word)


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
