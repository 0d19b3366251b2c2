"""Times as people type them, and as they are shown to them: local, as git and psql do, or UTC.

By no parser library, as what is read decides what an undo takes back. dateparser 1.5 reads `2026-13-01`
as January and `2` as a day of February, whichever languages it tries, and loads for 0.2 s; parsedatetime
2.6 (2020) reads `monday` and `2h` as of the future, takes no zone, and answers to what it cannot read;
pendulum, whenever and dateutil know ISO 8601, as Python does, and no words. Neither of the first two is typed.
"""

from __future__ import annotations

import calendar
import re
import sys
from datetime import UTC, date, datetime, time, timedelta

from audit_toolkit.errors import UsageError

HELP = (
    "2026-11-01, '2026-11-01 10:00+01:00' (without a zone: local time), 10:00, 10am, 'yesterday 10:00', "
    "2h, '3d 4h', 'half an hour ago', 'last monday'"
)

_DAYS = [name.lower() for name in calendar.day_name]
_COUNTED = "one two three four five six seven eight nine ten eleven twelve"
_NUMBERS = {word: str(number) for number, word in enumerate(_COUNTED.split(), start=1)}
_NUMBERS |= {"half": "0.5", "half a": "0.5", "half an": "0.5", "a half": "0.5", "a": "1", "an": "1"}
_NUMBER = re.compile(rf"\b({'|'.join(sorted(_NUMBERS, reverse=True))}) (?=[a-z])")
_AND_A_HALF = re.compile(r"(\S+) (?:and a half ([a-z]+)|([a-z]+) and a half)")
_CLOCK = re.compile(
    r"(?P<word>noon|midnight)|(?P<hour>\d{1,2})(?P<rest>:\d\d(?::\d\d(?:\.\d{1,6})?)?)?"
    r"(?: ?(?P<half>[ap])\.?m\.?)?"
)
_SOME_CLOCK = r"noon|midnight|\d{1,2}(?::[\d:.]+)?(?: ?[ap]\.?m\.?)?"
_WORD = rf"today|yesterday|(?:last )?(?:{'|'.join(_DAYS)})"
_DAY = rf"{_WORD}|\d{{4}}-\d\d-\d\d"
_ON_DAY = (
    re.compile(rf"(?P<day>{_DAY})?(?P<clock>)"),
    re.compile(rf"(?:(?P<day>{_DAY}) )?(?:at )?(?P<clock>{_SOME_CLOCK})"),
    re.compile(rf"(?P<clock>{_SOME_CLOCK})(?: on)? (?P<day>{_DAY})"),
)
_ZONE = re.compile(r"\s+(?=[+-]\d\d:?\d\d$)|\s*(?=z$)")
_SKEW = timedelta(minutes=1)
"""So much a server's clock may be ahead of ours."""

_AMBIGUOUS = (
    (
        re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{2,4}( .*)?"),
        "may have the day or the month first",
        "write the year first: 2026-11-01",
    ),
    (
        re.compile(rf"(?:(?:{_WORD}) )?(?:at )?\d{{1,2}}(?: o'?clock)?(?: (?:{_WORD}))?"),
        "may be a time of day or something else",
        "write 10:00, 10am or 10pm for a time of day, 10h for ten hours ago",
    ),
    (
        re.compile(r"(?:last|an?) (?:m|mon)(?: ago)?"),
        "may mean a month, a minute or a monday",
        "write 'last month', 'last monday' or '1 minute'",
    ),
    (
        re.compile(
            r"(?:last night|(?:this |yesterday |today )?(?:morning|afternoon|evening)|tonight)"
        ),
        "has no beginning that everybody agrees on",
        "write 'yesterday 20:00' or 6am, for example",
    ),
)
"""What would be a guess, why, and how to say it."""


def parse_moment(
    text: str, option: str, *, now: datetime | None = None, utc: bool = False
) -> datetime:
    """The moment that `text` names; without a time zone it is local time, or UTC with `utc`.

    Says on stderr how it reads a local time that clocks show twice or skip. Raises `UsageError`, which names the
    option, for anything else.
    """
    now = _in_zone(now or datetime.now(UTC), utc=utc)
    typed = " ".join(text.lower().split())
    _refuse_two_meanings(typed, text, option, now)
    try:
        moment = _ago(typed, now, utc=utc) or _on_day(typed, now, utc=utc) or _iso(typed, utc=utc)
        moment.astimezone(UTC)  # which may be before the first year, or after the last
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{option}: {text!a} is not a valid time", hint=f"write {HELP}") from error
    return moment


def _refuse_two_meanings(typed: str, text: str, option: str, now: datetime) -> None:
    for pattern, why, remedy in _AMBIGUOUS:
        if pattern.fullmatch(typed):
            raise UsageError(f"{option}: {text!a} {why}", hint=remedy)
    today = _DAYS[now.weekday()]
    if re.search(rf"(?<!last )\b{today}\b", typed):
        raise UsageError(
            f"{option}: {text!a} may mean today or a week ago, as today is {today.title()}",
            hint=f"write 'today' or 'last {today}'",
        )


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
    return f"{shown.replace(tzinfo=None).isoformat(' ', 'seconds')} {zone}"


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


def _told(wall: datetime, *, utc: bool) -> datetime:
    """Like `_moment`; says on stderr what it took where clocks show that time twice, or never."""
    moment = _moment(wall, utc=utc)
    if utc:
        return moment
    wall = wall.replace(tzinfo=None)
    first, second = (wall.replace(fold=fold).astimezone() for fold in (0, 1))
    typed = f"{wall:%Y-%m-%d %H:%M}"
    if moment.replace(tzinfo=None) != wall:
        _note(f"clocks skipped {typed}; this reads it as {show_moment(moment)}")
    elif first != second:
        _note(
            f"clocks showed {typed} twice; this takes the second, {show_moment(second)}: "
            f"write '{show_moment(first)}' for the first"
        )
    return moment


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _ago(typed: str, now: datetime, *, utc: bool) -> datetime | None:
    if typed == "now":
        return now
    from audit_toolkit.partitions.boundaries import Span

    words = typed.removesuffix(" ago")
    if words == typed and words.startswith("last "):  # last week, last 3 days
        words = words.removeprefix("last ")
        words = words if " " in words or words[0].isdigit() else f"1 {words}"
    words = _AND_A_HALF.sub(lambda m: f"{_number(m[1])}.5 {m[2] or m[3]}", words)
    words = _NUMBER.sub(lambda m: f"{_number(m[1])} ", words)
    try:
        span = Span.parse(words)
        moment = span.before(now)
    except UsageError:
        return None  # last monday
    return _told(moment, utc=utc) if span.months else moment


def _number(word: str) -> str:
    return _NUMBERS.get(word, word)


def _on_day(typed: str, now: datetime, *, utc: bool) -> datetime | None:
    found = next(filter(None, (form.fullmatch(typed) for form in _ON_DAY)), None)
    if not typed or not found:
        return None
    clock = _clock(found["clock"])
    if clock is None:
        return None
    if found["day"] is None:  # a time without a date means its most recent occurrence
        today = datetime.combine(now.date(), clock)
        was = _moment(today, utc=utc) <= now
        return _told(today if was else today - timedelta(days=1), utc=utc)
    return _told(datetime.combine(_date(found["day"], now), clock), utc=utc)


def _clock(text: str) -> time | None:
    found = _CLOCK.fullmatch(text or "midnight")
    if not found:
        return None
    if found["word"]:
        return time(12 if found["word"] == "noon" else 0)
    hour = int(found["hour"])
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (found["half"] == "p")
    elif not found["rest"]:
        return None
    return time.fromisoformat(f"{hour:02}{found['rest'] or ''}")


def _date(day: str, now: datetime) -> date:
    if day[0].isdigit():
        return date.fromisoformat(day)
    name = day.removeprefix("last ")
    if name in ("today", "yesterday"):
        return now.date() - timedelta(days=name == "yesterday")
    return now.date() - timedelta(days=(now.weekday() - _DAYS.index(name) - 1) % 7 + 1)


def _iso(typed: str, *, utc: bool) -> datetime:
    text = _ZONE.sub("", re.sub(r" utc$", "z", typed)).upper()
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else _told(moment, utc=utc)
