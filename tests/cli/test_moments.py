from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from audit_toolkit.cli.times import parse_moment, parse_past, show_moment
from audit_toolkit.errors import UsageError

NOW = datetime(2026, 11, 23, 10, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01 10", "2026-11-01T10:00:00+00:00"),
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
        ("90s", "2026-11-23T10:28:45+00:00"),
        ("500ms", "2026-11-23T10:30:14.500000+00:00"),
        ("500 milliseconds ago", "2026-11-23T10:30:14.500000+00:00"),
        ("250us", "2026-11-23T10:30:14.999750+00:00"),
        ("1m", "2026-11-23T10:29:15+00:00"),
        ("2 mins", "2026-11-23T10:28:15+00:00"),
        ("3 hrs ago", "2026-11-23T07:30:15+00:00"),
        ("1mo", "2026-10-23T10:30:15+00:00"),
        ("1 mon", "2026-10-23T10:30:15+00:00"),
        ("2 yrs", "2024-11-23T10:30:15+00:00"),
        ("0s", NOW.isoformat()),
        ("10:00", "2026-11-23T10:00:00+00:00"),
        ("11:00", "2026-11-22T11:00:00+00:00"),
        ("yesterday 10:00", "2026-11-22T10:00:00+00:00"),
        ("Yesterday at 9:05", "2026-11-22T09:05:00+00:00"),
        ("today 23:59:59.5", "2026-11-23T23:59:59.500000+00:00"),
        ("yesterday noon", "2026-11-22T12:00:00+00:00"),
        ("last monday", "2026-11-16T00:00:00+00:00"),
        ("tuesday", "2026-11-17T00:00:00+00:00"),
        ("saturday 10:00", "2026-11-21T10:00:00+00:00"),
        ("Friday at 10pm", "2026-11-20T22:00:00+00:00"),
        ("10am friday", "2026-11-20T10:00:00+00:00"),
        ("9:05 PM on Friday", "2026-11-20T21:05:00+00:00"),
        ("10am", "2026-11-23T10:00:00+00:00"),
        ("10 am", "2026-11-23T10:00:00+00:00"),
        ("10 A.M.", "2026-11-23T10:00:00+00:00"),
        ("at 10 am", "2026-11-23T10:00:00+00:00"),
        ("11am", "2026-11-22T11:00:00+00:00"),
        ("12am", "2026-11-23T00:00:00+00:00"),
        ("12pm", "2026-11-22T12:00:00+00:00"),
        ("12:30:15.5 pm", "2026-11-22T12:30:15.500000+00:00"),
        ("noon", "2026-11-22T12:00:00+00:00"),
        ("midnight", "2026-11-23T00:00:00+00:00"),
        ("noon yesterday", "2026-11-22T12:00:00+00:00"),
        ("yesterday midnight", "2026-11-22T00:00:00+00:00"),
        ("2026-11-01 10am", "2026-11-01T10:00:00+00:00"),
        ("2026-11-01 at noon", "2026-11-01T12:00:00+00:00"),
        ("half an hour ago", "2026-11-23T10:00:15+00:00"),
        ("half hour ago", "2026-11-23T10:00:15+00:00"),
        ("a half hour", "2026-11-23T10:00:15+00:00"),
        ("half a day ago", "2026-11-22T22:30:15+00:00"),
        ("half a year ago", "2026-05-23T10:30:15+00:00"),
        ("an hour and a half ago", "2026-11-23T09:00:15+00:00"),
        ("two and a half hours ago", "2026-11-23T08:00:15+00:00"),
        ("2 hours and a half ago", "2026-11-23T08:00:15+00:00"),
        ("two weeks ago", "2026-11-09T10:30:15+00:00"),
        ("2 weeks ago", "2026-11-09T10:30:15+00:00"),
        ("a week and a day ago", "2026-11-15T10:30:15+00:00"),
        ("1.5h", "2026-11-23T09:00:15+00:00"),
        ("3d 4h", "2026-11-20T06:30:15+00:00"),
        ("3d4h ago", "2026-11-20T06:30:15+00:00"),
        ("1h 30m", "2026-11-23T09:00:15+00:00"),
        ("1h30m", "2026-11-23T09:00:15+00:00"),
        ("1 day, 2 hours and 30 minutes ago", "2026-11-22T08:00:15+00:00"),
        ("1y 2mo 3d", "2025-09-20T10:30:15+00:00"),
        ("last 3 days", "2026-11-20T10:30:15+00:00"),
        ("last two weeks", "2026-11-09T10:30:15+00:00"),
        ("last Sunday 08:00", "2026-11-22T08:00:00+00:00"),
        ("1 month ago", "2026-10-23T10:30:15+00:00"),
        ("9 months", "2026-02-23T10:30:15+00:00"),
        ("2 years ago", "2024-11-23T10:30:15+00:00"),
        ("last week", "2026-11-16T10:30:15+00:00"),
        ("last month", "2026-10-23T10:30:15+00:00"),
        ("an hour ago", "2026-11-23T09:30:15+00:00"),
        ("2026-11-01 10:00:00 +0100", "2026-11-01T10:00:00+01:00"),
        ("2026-11-01 10:00:00 UTC", "2026-11-01T10:00:00+00:00"),
    ],
)
@pytest.mark.parametrize("utc", [True, False])
def test_times_that_people_type(text: str, expected: str, utc: bool) -> None:
    assert parse_moment(text, "--since", now=NOW, utc=utc).isoformat() == expected


def test_the_last_day_of_a_month_is_kept_inside_the_month() -> None:
    now = datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert (
        parse_moment("1 month ago", "--since", now=now).isoformat() == "2026-02-28T12:00:00+00:00"
    )


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("text", "local", "utc"),
    [
        ("2026-07-01 10:00", "2026-07-01T10:00:00+02:00", "2026-07-01T10:00:00+00:00"),
        ("yesterday 10:00", "2026-11-22T10:00:00+01:00", "2026-11-22T10:00:00+00:00"),
        ("today", "2026-11-23T00:00:00+01:00", "2026-11-23T00:00:00+00:00"),
        ("5 months ago", "2026-06-23T11:30:15+02:00", "2026-06-23T10:30:15+00:00"),
        ("2026-03-29 02:30", "2026-03-29T03:30:00+02:00", "2026-03-29T02:30:00+00:00"),
        ("2026-10-25 02:30", "2026-10-25T02:30:00+01:00", "2026-10-25T02:30:00+00:00"),
        ("2026-10-25 02:30+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("2026-07-01T10:00Z", "2026-07-01T10:00:00+00:00", "2026-07-01T10:00:00+00:00"),
    ],
)
def test_without_a_zone_times_are_local(text: str, local: str, utc: str) -> None:
    assert parse_moment(text, "--since", now=NOW).isoformat() == local
    assert parse_moment(text, "--since", now=NOW, utc=True).isoformat() == utc


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "2026-10-25 02:30",
            (
                "note: clocks showed 2026-10-25 02:30 twice; this takes the second, 2026-10-25 02:30:00 +0100: "
                "write '2026-10-25 02:30:00 +0200' for the first\n"
            ),
        ),
        (
            "2026-03-29 02:30",
            "note: clocks skipped 2026-03-29 02:30; this reads it as 2026-03-29 03:30:00 +0200\n",
        ),
        ("2026-10-25 02:30+02:00", ""),
        ("2026-10-25 03:00", ""),
        ("2026-10-25 01:59", ""),
        ("yesterday 02:30", ""),
    ],
)
def test_what_clocks_show_twice_or_never_is_said(
    text: str, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    moment = parse_moment(text, "--at", now=NOW)
    assert capsys.readouterr().err == note
    assert parse_moment(show_moment(moment), "--at", now=NOW) == moment
    parse_moment(text, "--at", now=NOW, utc=True)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize("text", ["yesterday 02:30", "02:30", "1 month ago"])
def test_words_that_mean_such_a_time_say_so_too(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the day after the clocks went back, and a month after."""
    nows = {
        "yesterday 02:30": datetime(2026, 10, 26, 12, tzinfo=UTC),
        "02:30": datetime(2026, 10, 25, 12, tzinfo=UTC),
        "1 month ago": datetime(2026, 11, 25, 1, 30, tzinfo=UTC),
    }
    moment = parse_moment(text, "--at", now=nows[text])
    assert moment == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert "showed 2026-10-25 02:30 twice" in capsys.readouterr().err


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("moment", "shown"),
    [(NOW, "2026-11-23 11:30:15 +0100"), (NOW.replace(month=7), "2026-07-23 12:30:15 +0200")],
)
def test_shown_in_local_time_with_its_zone(moment: datetime, shown: str) -> None:
    assert show_moment(moment) == shown
    assert show_moment(moment, utc=True) == f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    for utc in (True, False):
        assert parse_moment(show_moment(moment, utc=utc), "--since", now=NOW) == moment


@pytest.mark.parametrize("text", ["2030-01-01", "today 23:00", "2026-11-23 10:32"])
def test_the_future_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--at: 20.* UTC is in the future"):
        parse_past(text, "--at", now=NOW)
    assert parse_past("now", "--at", now=NOW) == NOW


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "24:01", "days", "-2h", "3 fortnights ago", "\x1b", "ago", "last", "a"),
        *("+2h", "2h ago ago", "1e3s", "5ns", "last week ago", "half", "half ago", "last ago"),
        *(
            "2 msecss",
            "minutes",
            "2 m s",
            "0x1h",
            "2_0m",
            "PT1H",
            "2.h",
            "2,5h",
            ".5h",
            "2 hours 30",
        ),
        *(
            "30m 1h",
            "1h 1h",
            "1m 3d",
            "1.5 months",
            "half a month ago",
            "1.0000001s",
            "1h,",
            "and 1h",
        ),
        *("13am", "0am", "13:00pm", "10:60am", "10 xm", "noon am", "friday tuesday", "noon noon"),
        *(
            "today yesterday",
            "10:00 11:00",
            "last today",
            "last yesterday",
            "at",
            "at friday",
            "1h friday",
        ),
        *("2026-13-01", "2026-11-01 25:00", "2026-11-01T10:00 Europe/Paris", "9999999999999 days"),
        *("0001-01-01 00:00+14:00", "9999-12-31 23:00-14:00"),
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"--until: .* is not a valid time") as caught:
        parse_moment(text, "--until", now=NOW)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("write 2026-11-01, ")


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("01/02/2026", "may have the day or the month first", "2026-11-01"),
        ("1.2.2026 10:00", "may have the day or the month first", "2026-11-01"),
        ("2", "may be a time of day or something else", "10am or 10pm"),
        ("yesterday 10", "may be a time of day or something else", "10am or 10pm"),
        ("at 10", "may be a time of day or something else", "10am or 10pm"),
        ("10 o'clock friday", "may be a time of day or something else", "10am or 10pm"),
        ("last mon", "may mean a month, a minute or a monday", "'last monday'"),
        ("a m ago", "may mean a month, a minute or a monday", "'1 minute'"),
        ("last night", "has no beginning", "'yesterday 20:00'"),
        ("this morning", "has no beginning", "6am"),
        ("monday", "may mean today or a week ago, as today is Monday", "'today' or 'last monday'"),
        ("Monday 10:00", "may mean today or a week ago, as today is Monday", "'last monday'"),
    ],
)
def test_what_may_mean_two_times_is_refused(text: str, problem: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_moment(text, "--since", now=NOW)
    assert str(caught.value).startswith(f"--since: {text!a} ")
    assert problem in str(caught.value)
    assert remedy in (caught.value.hint or "")


def test_now_is_the_clock() -> None:
    assert datetime.now(UTC) - parse_moment("now", "--since") < timedelta(minutes=1)
