from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_toolkit.cli.timeouts import as_timeout
from audit_toolkit.cli.times import parse_moment
from audit_toolkit.config import Interval
from audit_toolkit.errors import UsageError
from audit_toolkit.partitions import Span
from audit_toolkit.partitions.boundaries import floor, following, leaf_name, ranges

INSTANTS = st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001 - the zone comes from `timezones`
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from(
        [UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=3))]
    ),
)
INTERVALS = st.sampled_from(Interval)


@given(INTERVALS, INSTANTS)
def test_every_instant_lies_between_its_boundary_and_the_next(
    interval: Interval, instant: datetime
) -> None:
    assert floor(interval, instant) <= instant < following(interval, instant)
    assert following(interval, following(interval, instant, 3), -3) == floor(interval, instant)


@given(INTERVALS, INSTANTS, st.integers(1, 90))
def test_leaves_follow_each_other_without_a_gap(
    interval: Interval, start: datetime, days: int
) -> None:
    end = start + timedelta(days=days)
    made = list(ranges(interval, start, end))
    assert made[0][0] == start
    assert made[-1][1] == end
    assert all(before[1] == after[0] for before, after in pairwise(made))
    # All but the first begin on the grid, whatever the start was.
    assert all(lower == floor(interval, lower) for lower, _ in made[1:])


@pytest.mark.parametrize(
    ("interval", "day", "name"),
    [
        (Interval.DAY, datetime(2026, 3, 29, tzinfo=UTC), "logged_actions_2026_03_29"),
        (Interval.WEEK, datetime(2026, 12, 28, tzinfo=UTC), "logged_actions_2026w53"),
        (Interval.MONTH, datetime(2026, 3, 1, tzinfo=UTC), "logged_actions_2026_03"),
    ],
)
def test_names(interval: Interval, day: datetime, name: str) -> None:
    assert leaf_name(interval, day, frozenset()) == name
    other = leaf_name(interval, day, frozenset({name}))
    assert other == f"logged_actions_from_{day:%Y_%m_%d}"
    assert leaf_name(interval, day, frozenset({name, other})) == f"{other}_2"


def test_spans() -> None:
    last = datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert Span.parse("1 month").before(last) == datetime(2026, 2, 28, 12, tzinfo=UTC)
    assert Span.parse("2years").before(last) == datetime(2024, 3, 31, 12, tzinfo=UTC)
    assert Span.parse(" 6 weeks ").before(last) == last - timedelta(days=42)
    for text in ("", "month", "-1 day", "1.5 months", "7 fortnights", "2 hours 1 day"):
        with pytest.raises(UsageError):
            Span.parse(text)
    with pytest.raises(UsageError):
        Span.parse("9999 years").before(last)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("0d", Span()),
        ("0 days", Span()),
        ("2h", Span(seconds=7200)),
        ("2 hours", Span(seconds=7200)),
        ("26h", Span(days=1, seconds=7200)),
        ("90 min", Span(seconds=5400)),
        ("1 month", Span(months=1)),
        ("1mo", Span(months=1)),
        ("2Y", Span(months=24)),
        ("6weeks", Span(days=42)),
        ("500ms", Span(seconds=0.5)),
        ("3d 4h", Span(days=3, seconds=14400)),
        ("1.5h", Span(seconds=5400)),
        ("1.5 days", Span(days=1, seconds=43200)),
        ("3h 25m 45.678912s", Span(seconds=12345.678912)),
    ],
)
def test_a_span_is_the_same_wherever_it_is_read(text: str, same: Span) -> None:
    """For retention and quarantine, as a timeout, and as a time that long ago."""
    now = datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert Span.parse(text) == same
    assert parse_moment(text, "--since", now=now, utc=True) == same.before(now)
    if same.months or same.days > 20:  # a timeout has 31 bits
        with pytest.raises(UsageError):
            as_timeout(text, "--lock-timeout")
    else:
        typed = as_timeout(text, "--lock-timeout")
        assert Span.parse(typed).milliseconds == same.milliseconds


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0d", "0 days"),
        ("1d", "1 day"),
        ("1mo 1d 1s", "1 month 1 day 1 s"),
        ("2000 days", "2000 days"),
        ("3h 25m 45.678912s", "12345.678912 s"),
    ],
)
def test_how_a_span_is_shown(text: str, shown: str) -> None:
    """PostgreSQL reads it as an interval, too."""
    assert str(Span.parse(text)) == shown


@pytest.mark.parametrize(
    ("text", "as_typed"), [("2s", "2s"), ("30 minutes", "30min"), ("1d", "24h")]
)
def test_timeouts(text: str, as_typed: str) -> None:
    assert as_timeout(text, "--lock-timeout") == as_typed


@pytest.mark.parametrize(
    "text", ["soon", "", "-1d", "1 fortnight", "d", "1.5mo", "1m 3d", "99999999 years"]
)
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(UsageError):
        Span.parse(text, "--retention").before(datetime.now(UTC))
