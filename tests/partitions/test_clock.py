"""A clock that is wrong once: nothing that holds the present is taken off, and no write fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.cli.app import app
from audit_toolkit.partitions import Policy, Stage
from audit_toolkit.partitions.clock import LEAP, Clock
from audit_toolkit.partitions.planning import plan_stage
from audit_toolkit.templates import render
from tests.plugins.rotating import Rotating, months
from tests.plugins.seeds import some_quick

PLACES = ["now", "server", "everything"]
RETENTION = ("--retention", "1 month")
JUMPS = [timedelta(days=30), timedelta(days=365 * 30), -timedelta(days=365 * 30)]
Audit = Callable[..., Result]


@pytest.fixture
def real_clocks() -> None:
    """What the server and this machine say is what counts."""


@pytest.fixture
def audit(rotating: Rotating, real_clocks: None) -> Audit:
    rotating.now = datetime.now(UTC)

    def call(*arguments: str, jump: timedelta | None = None) -> Result:
        clock = ["--now", (datetime.now(UTC) + jump).isoformat()] if jump else []
        return CliRunner().invoke(app, [*arguments, *clock, "--dsn", rotating.database.dsn])

    return call


def server_off_by(monkeypatch: pytest.MonkeyPatch, jump: timedelta) -> None:
    """The server's clock alone is wrong."""
    monkeypatch.setattr(
        "audit_toolkit.partitions.read.clocks",
        lambda facts, _: (facts["now"] + jump, facts["statement"] + jump, datetime.now(UTC)),
    )


def everything_off_by(monkeypatch: pytest.MonkeyPatch, jump: timedelta) -> None:
    """Server and command run on one machine, whose clock is wrong."""
    monkeypatch.setattr(
        "audit_toolkit.partitions.read.clocks", lambda facts, _: (facts["now"] + jump,) * 3
    )


@pytest.mark.parametrize(
    "case",
    some_quick(product(PLACES, JUMPS), zip(PLACES, JUMPS, strict=True)),
)
def test_a_jump_is_a_finding_and_no_action(
    rotating: Rotating,
    audit: Audit,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, timedelta],
) -> None:
    where, jump = case
    rotating.fill(rotating.now - timedelta(days=3), rotating.now, "1 day")
    assert audit("partitions", "run", *RETENTION).exit_code == 0
    leaves, noted = rotating.leaves(), rotating.execute("select * from audit.maintenance")
    typed = {"now": jump}.get(where)
    if where != "now":
        (server_off_by if where == "server" else everything_off_by)(monkeypatch, jump)
    for command in (("maintain",), ("partitions", "run")):
        result = audit(*command, *RETENTION, jump=typed)
        assert result.exit_code == 3, result.output
        assert "refused" in result.stdout
        assert "--trust-clock" in result.stdout
    [code] = {
        finding["code"]
        for finding in json.loads(
            audit("partitions", "check", "--format", "json", jump=typed).stdout
        )["findings"]
        if finding["code"].startswith("clock")
    }
    ahead = {"now": "clocks_disagree", "server": "clocks_disagree", "everything": "clock_ahead"}
    assert code == (
        "clock_behind" if jump < timedelta() and where == "everything" else ahead[where]
    )
    assert rotating.leaves() == leaves
    assert rotating.execute("select * from audit.maintenance") == noted


@pytest.mark.parametrize("where", ["now", "server"])
def test_nothing_that_holds_the_present_goes_even_when_told_to_trust(
    rotating: Rotating, audit: Audit, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    rotating.fill(rotating.now, rotating.now)
    years = timedelta(days=365 * 30)
    if where == "server":
        server_off_by(monkeypatch, years)
    typed = years if where == "now" else None
    audit("partitions", "run", *RETENTION, "--trust-clock", "--ahead", "1", jump=typed)
    assert rotating.count() == 1
    # Neither the present nor what comes after it.
    rotating.fill(rotating.now, rotating.now + timedelta(days=400), "1 day")


def test_the_newest_event_is_held(rotating: Rotating) -> None:
    """A trail in which nobody writes: all clocks moved on by years, and its last events stay."""
    rotating.fill(rotating.now, rotating.now)
    rotating.now += timedelta(days=900)
    policy = Policy(retention=months(2), trust_clock=True, most_at_once=99)
    going = [task.leaf for task in plan_stage(Stage.DETACH, rotating.read(), policy) if task.leaf]
    [holding] = [leaf for leaf in rotating.read().bounded if leaf.filled]
    assert going
    assert holding.name not in going


def test_time_that_passed_with_events_is_believed(
    rotating: Rotating, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maintenance was dead for two months, and people wrote: that is no jump. A silence is one, until somebody says."""
    assert audit("partitions", "run").exit_code == 0
    passed = timedelta(days=60)
    everything_off_by(monkeypatch, passed)
    assert audit("partitions", "run").exit_code == 3
    rotating.fill(rotating.now, rotating.now + passed, "5 days")
    assert audit("partitions", "run").exit_code == 0
    everything_off_by(monkeypatch, 3 * passed)
    assert audit("partitions", "run").exit_code == 3
    assert audit("partitions", "run", "--trust-clock").exit_code == 0
    assert audit("partitions", "run").exit_code == 0


def rows_handled(node: dict[str, Any]) -> float:
    """How many rows the nodes of an executed plan gave on or threw away."""
    counted = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    here = sum(node.get(name, 0) for name in counted) * node.get("Actual Loops", 1)
    return float(here) + sum(map(rows_handled, node.get("Plans", [])))


def test_events_of_a_far_future_are_not_handled_for_each_fortnight_until_then(
    rotating: Rotating,
) -> None:
    """A clock that was 30 years ahead for a while has left many events in the catch-all, all of one time."""
    far = rotating.now + timedelta(days=365 * 30)
    rotating.fill(far, far + timedelta(minutes=50), "1 second")
    rotating.fill(rotating.now, rotating.now + timedelta(days=100), "5 days")
    values = {"schema": "audit", "since": rotating.now, "until": far + timedelta(hours=1)}
    asked = render("partitions/without_trace", leap=LEAP.days, **values)
    [(begun,)] = rotating.execute(asked)
    # The first whole fortnight after the hundredth day.
    assert begun == rotating.now + timedelta(days=112)
    [(plan,)] = rotating.execute(f"explain (analyze, timing off, format json) {asked}")
    assert rows_handled(plan[0]["Plan"]) < 10 * 3001


def test_what_speaks_against_a_clock() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    day = timedelta(days=1)
    same = {"now": now, "server": now, "statement": now, "here": now}

    def code(**values: datetime) -> str | None:
        doubt = Clock(**(same | values)).doubt
        return doubt.kind if doubt else None

    assert code() is None
    assert code(here=now - day) is None
    assert code(here=now - 2 * day) == code(now=now + 2 * day) == "clocks_disagree"
    assert code(newest_event=now + day) is None
    assert code(newest_event=now + 2 * day) == code(last_run=now + 2 * day) == "clock_behind"
    # Where no run is recorded, a trail may have been quiet for years.
    assert code(newest_event=now - 3700 * day) is None
    assert code(newest_event=now - 370 * day, last_run=now - LEAP) is None
    assert code(silent_since=now - 30 * day) == "clock_ahead"


def test_events_of_any_time_find_a_partition(rotating: Rotating) -> None:
    """Written as a clock would have it that is behind or ahead, before and after partitions were detached."""
    moments = [datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 2000, 2999, 9999)]

    def write() -> None:
        for moment in [*moments, rotating.now - timedelta(days=75)]:
            rotating.execute("update public.clock set at = %s", [moment])
            rotating.execute(
                "insert into audit.logged_actions (schema_name, table_name, action) values ('s', 't', 'I')"
            )

    write()
    rotating.fill(rotating.now, rotating.now + timedelta(days=150), "10 days")
    rotating.run(rotating.now + timedelta(days=150), retention=months(2))
    assert {entry.state.value for entry in rotating.read().entries} >= {"detached"}
    write()
    assert rotating.findings() == {"past_has_rows": "warning", "far_future": "warning"}
    past = rotating.read().past
    assert past is not None
    assert rotating.count(past.name.name) == 5  # what retention took off before is where it was
    rotating.run(rotating.now + timedelta(days=150), retention=months(2))
    assert rotating.count(past.name.name) == 5


def test_a_trail_of_an_older_release_gets_its_past(rotating: Rotating) -> None:
    rotating.execute("drop table audit.logged_actions_past")
    assert rotating.findings()["no_past"] == "warning"
    assert rotating.did() == [("create", "done")]
    assert "no_past" not in rotating.findings()
    rotating.execute("drop table audit.logged_actions_past")
    rotating.execute("select audit.ensure_partitions()")
    assert "no_past" not in rotating.findings()
    assert rotating.did() == []
