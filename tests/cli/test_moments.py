from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from audit_toolkit.cli.moments import parse_moment
from audit_toolkit.errors import UsageError

NOW = datetime(2026, 11, 23, 10, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01 10:00", "2026-11-01T10:00:00+00:00"),
        ("2026-11-01T10:00:00.5", "2026-11-01T10:00:00.500000+00:00"),
        ("2026-11-01T10:00+01:00", "2026-11-01T10:00:00+01:00"),
        ("2026-11-01 10:00:00Z", "2026-11-01T10:00:00+00:00"),
        ("2026-11-01T10:00-0330", "2026-11-01T10:00:00-03:30"),
        (" now ", NOW.isoformat()),
        ("Today", "2026-11-23T00:00:00+00:00"),
        ("yesterday", "2026-11-22T00:00:00+00:00"),
        ("2h", "2026-11-23T08:30:15+00:00"),
        ("90 minutes ago", "2026-11-23T09:00:15+00:00"),
        ("1 day", "2026-11-22T10:30:15+00:00"),
        ("3 days ago", "2026-11-20T10:30:15+00:00"),
        ("2w", "2026-11-09T10:30:15+00:00"),
        ("10 sec", "2026-11-23T10:30:05+00:00"),
        ("0s", NOW.isoformat()),
    ],
)
def test_times_that_people_type(text: str, expected: str) -> None:
    assert parse_moment(text, "--since", now=NOW).isoformat() == expected


def test_days_begin_in_utc_whatever_the_clock_says() -> None:
    late = datetime(2026, 11, 23, 0, 30).astimezone(UTC).replace(hour=23)
    assert parse_moment("today", "--since", now=late) == late.replace(hour=0, minute=0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "10:00", "days", "2", "-2h", "1.5h", "3 fortnights ago", "\x1b"),
        *("2026-13-01", "2026-11-01 25:00", "2026-11-01T10:00 Europe/Paris", "9999999999999 days"),
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"--until: .* is no time") as caught:
        parse_moment(text, "--until", now=NOW)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("write 2026-11-01, ")


def test_now_is_the_clock() -> None:
    assert datetime.now(UTC) - parse_moment("now", "--since") < timedelta(minutes=1)
