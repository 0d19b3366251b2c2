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
        ("monday", "2026-11-16T00:00:00+00:00"),
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
        *("", "soon", "24:01", "days", "2", "-2h", "1.5h", "3 fortnights ago", "\x1b"),
        *(
            "+2h",
            "2h ago ago",
            "1h30m",
            "1h 30m",
            "1e3s",
            "5ns",
        ),
        *("2 msecss", "minutes", "2 m s", "0x1h", "2_0m", "1d12h", "PT1H", "2.h", "2,5h"),
        *("2026-13-01", "2026-11-01 25:00", "2026-11-01T10:00 Europe/Paris", "9999999999999 days"),
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match=r"--until: .* is not a valid time") as caught:
        parse_moment(text, "--until", now=NOW)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("write 2026-11-01, ")


def test_now_is_the_clock() -> None:
    assert datetime.now(UTC) - parse_moment("now", "--since") < timedelta(minutes=1)
