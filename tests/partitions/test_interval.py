"""`--interval auto`: how long new partitions are, by how many events come a day."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.config import Interval
from audit_toolkit.partitions import Span
from audit_toolkit.partitions.rate import MOST_EVENTS, Counted, events_a_day, suitable_interval
from tests.plugins.rotating import Rotating

MONTHLY, WEEKLY = MOST_EVENTS / 31, MOST_EVENTS / 7
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("rate", "present", "fitting"),
    [
        (None, Interval.WEEK, Interval.WEEK),
        (0, Interval.MONTH, Interval.MONTH),
        (0, Interval.DAY, Interval.MONTH),
        # shorter as soon as a partition would hold more than the most
        (MONTHLY, Interval.MONTH, Interval.MONTH),
        (MONTHLY * 1.001, Interval.MONTH, Interval.WEEK),
        (WEEKLY, Interval.WEEK, Interval.WEEK),
        (WEEKLY * 1.001, Interval.WEEK, Interval.DAY),
        (WEEKLY * 1.001, Interval.MONTH, Interval.DAY),
        (MOST_EVENTS * 50, Interval.MONTH, Interval.DAY),
        # longer only where it would be half full
        (MONTHLY / 2, Interval.WEEK, Interval.MONTH),
        (MONTHLY / 2 * 1.001, Interval.WEEK, Interval.WEEK),
        (MONTHLY / 2 * 1.001, Interval.DAY, Interval.WEEK),
        (WEEKLY / 2, Interval.DAY, Interval.WEEK),
        (WEEKLY / 2 * 1.001, Interval.DAY, Interval.DAY),
    ],
)
def test_the_boundaries(rate: float | None, present: Interval, fitting: Interval) -> None:
    assert suitable_interval(rate, present) is fitting


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.5, 0.8, 1.0, 1.2, 5.0, 31.0])
@pytest.mark.parametrize("present", list(Interval))
def test_what_was_chosen_stays_at_the_same_rate(factor: float, present: Interval) -> None:
    chosen = suitable_interval(MONTHLY * factor, present)
    assert suitable_interval(MONTHLY * factor, chosen) is chosen


def test_the_rate_needs_two_days(rotating: Rotating) -> None:
    now = rotating.now
    first, last = Counted(event_id=1, at=now - 2 * DAY), Counted(event_id=400, at=now)
    assert events_a_day(first, last, now) == 200
    assert events_a_day(first, last, now - timedelta(seconds=1)) is None
    assert events_a_day(None, last, now) is None


def crowd(rotating: Rotating, start: datetime, end: datetime, number: int) -> None:
    """Two events, between which so many numbers were given."""
    rotating.fill(start, start)
    rotating.execute(
        "select setval('audit.logged_actions_event_id_seq',"
        " (select max(event_id) from audit.logged_actions) + %s)",
        [number],
    )
    rotating.fill(end, end)


def test_a_busy_trail_gets_shorter_partitions_and_keeps_those_there_are(
    rotating: Rotating,
) -> None:
    rotating.run()
    there = rotating.leaves()
    crowd(rotating, rotating.now - 10 * DAY, rotating.now, 10 * 500_000)
    assert rotating.read().events_a_day == pytest.approx(500_000, rel=0.01)
    assert rotating.findings()["interval_too_long"] == "info"
    rotating.run(interval_by_rate=True)
    assert rotating.read().interval is Interval.WEEK
    assert set(there[:-1]) <= set(rotating.leaves())
    assert "interval_too_long" not in rotating.findings()
    end = rotating.read().end
    assert end is not None
    rotating.run(end - 30 * DAY, interval_by_rate=True)
    made = [leaf for leaf in rotating.read().bounded if leaf.lower and leaf.lower >= end]
    assert made
    assert all(leaf.upper and leaf.lower and leaf.upper - leaf.lower <= 7 * DAY for leaf in made)


def test_a_quiet_trail_keeps_months(rotating: Rotating) -> None:
    rotating.fill(rotating.now - 20 * DAY, rotating.now)
    rotating.run(interval_by_rate=True)
    assert rotating.read().interval is Interval.MONTH
    assert "interval_too_long" not in rotating.findings()


def test_an_empty_trail_says_nothing_of_its_rate(rotating: Rotating) -> None:
    assert rotating.read().events_a_day is None
    rotating.run(interval_by_rate=True)
    assert rotating.read().interval is Interval.MONTH


def test_no_partition_is_longer_than_what_is_kept(rotating: Rotating) -> None:
    rotating.fill(rotating.now - 20 * DAY, rotating.now)
    rotating.run(interval_by_rate=True, retention=Span.parse("10 days"))
    assert rotating.read().interval is Interval.WEEK


def test_the_command_shows_it(rotating: Rotating) -> None:
    crowd(rotating, rotating.now - 10 * DAY, rotating.now, 10 * 500_000)
    typed = ["partitions", "plan", "--interval", "auto", "--dsn", rotating.database.dsn]
    ran = CliRunner().invoke(app, [*typed, "--trust-clock", "--now", rotating.now.isoformat()])
    assert ran.exit_code == 0, ran.output
    assert "hold a week instead of a month, at about 500,000 events a day" in ran.stdout
