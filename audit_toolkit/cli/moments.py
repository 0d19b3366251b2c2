"""Times as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from audit_toolkit.errors import UsageError

HELP = "2026-11-01, 2026-11-01T10:00+01:00 (without a zone: UTC), yesterday, 2h, '3 days ago'"

_UNITS = {
    "s": "seconds",
    "sec": "seconds",
    "second": "seconds",
    "m": "minutes",
    "min": "minutes",
    "minute": "minutes",
    "h": "hours",
    "hour": "hours",
    "d": "days",
    "day": "days",
    "w": "weeks",
    "week": "weeks",
}
_AGO = re.compile(r"(\d+)\s*([a-z]+?)s?(?:\s+ago)?")


def parse_moment(text: str, option: str, *, now: datetime | None = None) -> datetime:
    """The moment that `text` names; without a time zone it is UTC, as all times that we print.

    Raises `UsageError`, which names the option, for anything else.
    """
    now = now or datetime.now(UTC)
    typed = text.strip().lower()
    try:
        return _named(typed, now) or _ago(typed, now) or _iso(text.strip())
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{option}: {text!a} is no time", hint=f"write {HELP}") from error


def _named(typed: str, now: datetime) -> datetime | None:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}.get(typed)


def _ago(typed: str, now: datetime) -> datetime | None:
    found = _AGO.fullmatch(typed)
    if not found or found[2] not in _UNITS:
        return None
    return now - timedelta(**{_UNITS[found[2]]: int(found[1])})


def _iso(typed: str) -> datetime:
    moment = datetime.fromisoformat(typed)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
