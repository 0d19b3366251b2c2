"""Times as people type them, and as they are shown to them: local, as git and psql do, or UTC.

By no parser library, as what is read decides what an undo takes back. dateparser 1.5 reads `2026-13-01`
as January and `2` as a day of February, whichever languages it tries, and loads for 0.2 s; parsedatetime
2.6 (2020) reads `monday` and `2h` as of the future, takes no zone, and answers to what it cannot read;
pendulum, whenever and dateutil know ISO 8601, as Python does, and no words. Neither of the first two is typed.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, time, timedelta

from audit_toolkit.errors import UsageError

HELP = (
    "2026-11-01, '2026-11-01 10:00+01:00' (without a zone: local time), 10:00, 'yesterday 10:00', "
    "2h, '3 days ago', 'last week'"
)

_DAYS = [name.lower() for name in calendar.day_name]
_CLOCKS = {"midnight": time(0), "noon": time(12)}
_AGO = re.compile(r"(\d+|an?|last)\s*([a-z]+)(?:\s+ago)?")
_DAY = re.compile(rf"(today|yesterday|(?:last )?(?:{'|'.join(_DAYS)}))?(?: ?(?:at )?(\S+))?")
_CLOCK = re.compile(r"\d{1,2}:\d\d(?::\d\d(?:\.\d{1,6})?)?")
_ZONE = re.compile(r"\s+(?=[+-]\d\d:?\d\d$)|\s*(?=z$)")
_SKEW = timedelta(minutes=1)
"""So much a server's clock may be ahead of ours."""


def parse_moment(
    text: str, option: str, *, now: datetime | None = None, utc: bool = False
) -> datetime:
    """The moment that `text` names; without a time zone it is local time, or UTC with `utc`.

    Raises `UsageError`, which names the option, for anything else.
    """
    now = _in_zone(now or datetime.now(UTC), utc=utc)
    typed = " ".join(text.lower().split())
    try:
        return _ago(typed, now, utc=utc) or _on_day(typed, now, utc=utc) or _iso(typed, utc=utc)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{option}: {text!a} is not a valid time", hint=f"write {HELP}") from error


def parse_past(
    text: str, option: str, *, now: datetime | None = None, utc: bool = False
) -> datetime:
    """Like `parse_moment`; raises `UsageError` for the future too, of which nothing is known."""
    now = now or datetime.now(UTC)
    moment = parse_moment(text, option, now=now, utc=utc)
    if moment > now + _SKEW:
        raise UsageError(
            f"{option}: {show_moment(moment, utc=utc)} is in the future",
            hint="the trail only knows the past; leave the time out or use now for the present",
        )
    return moment


def show_moment(moment: datetime, *, utc: bool = False) -> str:
    """The moment to the second with its zone, in local time or in UTC; `parse_moment` reads it."""
    shown = _in_zone(moment, utc=utc)
    zone = "UTC" if shown.utcoffset() == timedelta() else f"{shown:%z}"
    return f"{shown:%Y-%m-%d %H:%M:%S} {zone}"


def _in_zone(moment: datetime, *, utc: bool) -> datetime:
    return moment.astimezone(UTC if utc else None)


def _moment(wall: datetime, *, utc: bool) -> datetime:
    """The moment at which clocks show this; the offset is that of its own day, not today's.

    Of a time that clocks skip it is the one after the gap, of one that they show twice the second, both
    as PostgreSQL has it.
    """
    if utc:
        return wall.replace(tzinfo=UTC)
    return max(wall.replace(tzinfo=None, fold=fold).astimezone() for fold in (0, 1))


def _ago(typed: str, now: datetime, *, utc: bool) -> datetime | None:
    if typed == "now":
        return now
    found = _AGO.fullmatch(typed)
    if not found:
        return None
    from audit_toolkit.partitions.grid import Span

    number = found[1] if found[1].isdigit() else "1"
    try:
        span = Span.parse(f"{number} {found[2]}")
        moment = span.before(now)
    except UsageError:
        return None  # last monday
    return _moment(moment, utc=utc) if span.months else moment


def _on_day(typed: str, now: datetime, *, utc: bool) -> datetime | None:
    found = _DAY.fullmatch(typed)
    if not typed or not found:
        return None
    clock = _clock(found[2]) if found[2] else time(0)
    if clock is None:
        return None
    today = datetime.combine(now.date(), clock)
    if found[1] is None:  # a time alone is the last one that was
        moment = _moment(today, utc=utc)
        return moment if moment <= now else _moment(today - timedelta(days=1), utc=utc)
    return _moment(today - timedelta(days=_days_since(found[1], now)), utc=utc)


def _clock(text: str) -> time | None:
    if _CLOCK.fullmatch(text):
        return time.fromisoformat(text.zfill(len(text) + (text[1] == ":")))
    return _CLOCKS.get(text)


def _days_since(day: str, now: datetime) -> int:
    name = day.removeprefix("last ")
    if name in ("today", "yesterday"):
        return int(name == "yesterday")
    return (now.weekday() - _DAYS.index(name) - 1) % 7 + 1


def _iso(typed: str, *, utc: bool) -> datetime:
    text = _ZONE.sub("", re.sub(r" utc$", "z", typed)).upper()
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else _moment(moment, utc=utc)
