from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.cli.app import app
from audit_toolkit.plan import single_flight
from tests.plugins.rotating import START, Rotating

Audit = Callable[..., Result]


@pytest.fixture
def audit(rotating: Rotating) -> Audit:
    """Call the command line on the database of the test."""

    def call(*arguments: str, now: timedelta | None = None) -> Result:
        clock: list[str] = []
        if now is not None:
            clock = ["--now", (START + now).isoformat(), "--trust-clock"]
        return CliRunner().invoke(app, [*arguments, *clock, "--dsn", rotating.database.dsn])

    return call


def lines(result: Result, code: int = 0) -> list[str]:
    assert result.exit_code == code, result.output
    return result.stdout.splitlines()


def test_plan_run_and_run_again(audit: Audit) -> None:
    later = timedelta(days=150)
    arguments = ("--retention", "2 months")
    plan = lines(audit("partitions", "plan", *arguments, now=later))
    assert [line.split()[0] for line in plan] == [
        "create",
        "detach",
        "detach",
        "detach",
        "create",
    ]
    assert lines(audit("partitions", "run", "--dry-run", *arguments, now=later)) == plan
    done = lines(audit("partitions", "run", *arguments, now=later))
    assert [line.split()[:2] for line in done] == [
        ["done", stage] for stage in ("create", "detach", "detach", "detach", "create")
    ]
    lines(audit("partitions", "run", *arguments, now=later))
    assert lines(audit("partitions", "run", *arguments, now=later)) == ["nothing to do"]
    assert "detached" in lines(audit("partitions", "list"))[-1]


def test_the_printed_sql_is_what_runs(audit: Audit, rotating: Rotating) -> None:
    later = timedelta(days=150)
    script = audit("partitions", "plan", "--sql", "--retention", "4 months", now=later).stdout
    rotating.database.psql(script).check_returncode()
    rotating.now = START + later
    assert rotating.read().horizon > timedelta(days=150)
    assert (
        audit("partitions", "run", "--retention", "4 months", now=later).stdout == "nothing to do\n"
    )


def test_json(audit: Audit) -> None:
    later = timedelta(days=150)
    plan = json.loads(audit("partitions", "plan", "--format", "json", now=later).stdout)
    [task] = plan["tasks"]
    assert task["stage"] == "create"
    assert [step["transactional"] for step in task["steps"]] == [True]
    run = json.loads(audit("partitions", "run", "--format", "json", now=later).stdout)
    assert [outcome["result"] for outcome in run["outcomes"]] == ["done"]
    listed = json.loads(audit("partitions", "list", "--format", "json").stdout)
    assert {leaf["state"] for leaf in listed["leaves"]} == {"attached", "tail"}


def test_check_in_every_format(audit: Audit, tmp_path: Path) -> None:
    textfile = tmp_path / "audit.prom"
    audit("partitions", "run", now=timedelta(0))
    fine = audit("partitions", "check", "--textfile", str(textfile), now=timedelta(0))
    assert lines(fine)[-1] == "OK: no problems found"
    nagios = audit("partitions", "check", "--format", "nagios", now=timedelta(0))
    assert lines(nagios)[0].startswith("AUDIT_PARTITIONS OK - ")
    metrics = lines(audit("partitions", "check", "--format", "prometheus", now=timedelta(0)))
    assert textfile.read_text().splitlines() == metrics
    assert [file.name for file in tmp_path.iterdir()] == ["audit.prom"]
    assert 'audit_partitions{state="attached"} 8' in metrics

    dead = timedelta(days=400)
    nagios = audit("partitions", "check", "--format", "nagios", now=dead)
    assert lines(nagios, 2)[0].startswith("AUDIT_PARTITIONS CRITICAL - ")
    report = json.loads(audit("partitions", "check", "--format", "json", now=dead).stdout)
    assert {finding["code"] for finding in report["findings"]} == {"horizon", "last_success"}
    assert audit("partitions", "check", now=dead).exit_code == 3
    assert audit("partitions", "check", "--format", "prometheus", now=dead).exit_code == 3


def test_nagios_is_unknown_when_there_is_nothing_to_check(audit: Audit, rotating: Rotating) -> None:
    rotating.execute("drop schema audit cascade")
    unknown = audit("partitions", "check", "--format", "nagios")
    assert lines(unknown, 3)[0].startswith(
        "AUDIT_PARTITIONS UNKNOWN - the database has no audit trail"
    )
    assert audit("partitions", "check").exit_code == 2


def test_warning_thresholds(audit: Audit) -> None:
    audit("partitions", "run", now=timedelta(0))
    arguments = (
        "partitions",
        "check",
        "--format",
        "nagios",
        "--warning",
        "9999",
        "--critical",
        "9",
    )
    assert lines(audit(*arguments, now=timedelta(0)), 1)[0].startswith("AUDIT_PARTITIONS WARNING")


def test_a_second_run_at_the_same_time_is_busy(audit: Audit, rotating: Rotating) -> None:
    with single_flight(rotating.database.dsn, "audit"):
        for command in (("partitions", "run"), ("maintain",)):
            result = audit(*command)
            assert result.exit_code == 5
            assert "in progress" in result.stderr
    assert audit("partitions", "run").exit_code == 0


def test_a_failed_step_is_exit_code_1_and_the_rest_is_done(
    audit: Audit, rotating: Rotating
) -> None:
    rotating.execute(
        "create function refuse() returns event_trigger language plpgsql as $$ begin"
        " if current_query() like '%%detach%%' and current_query() like '%%tail%%'"
        " then raise 'disk full'; end if; end $$;"
        "create event trigger refuse on ddl_command_start execute function refuse()"
    )
    result = audit("partitions", "run", "--retention", "2 months", now=timedelta(days=150))
    assert [line.split()[:2] for line in lines(result, 1) if not line.startswith(" ")] == [
        ["failed", "create"],
        *[["done", "detach"]] * 3,
        ["done", "create"],
    ]
    assert "disk full" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ahead", "0"), "at least one partition"),
        (("--retention", "20 days"), "shorter than a partition"),
        (("--retention", "soon"), "not a valid time span"),
        (("--now", "whenever"), "--now"),
    ],
)
def test_usage_errors(audit: Audit, arguments: tuple[str, ...], message: str) -> None:
    for command in ("run", "plan"):
        result = audit("partitions", command, *arguments)
        assert result.exit_code == 2
        assert message in result.stderr


def test_missing_privileges(rotating: Rotating) -> None:
    rotating.execute("create role parts_nobody login")
    try:
        dsn = rotating.database.dsn.replace("postgres@", "parts_nobody@", 1)
        result = CliRunner().invoke(app, ["partitions", "run", "--dsn", dsn])
        assert result.exit_code == 1
        assert "the server refused" in result.stderr
    finally:
        rotating.execute("drop role parts_nobody")


def test_hold_release_attach_and_convert(audit: Audit, rotating: Rotating) -> None:
    leaf = rotating.read().bounded[0].name.name
    lines(audit("partitions", "hold", leaf, "--reason", "case 4711"))
    assert any("held: case 4711" in line for line in lines(audit("partitions", "list")))
    audit("partitions", "run", "--retention", "2 months", now=timedelta(days=150))
    assert rotating.tables()[leaf][0].startswith("2")
    lines(audit("partitions", "release", leaf))
    audit("partitions", "run", "--retention", "2 months", now=timedelta(days=150))
    assert rotating.tables()[leaf][0] == "detached"
    lines(audit("partitions", "attach", leaf, "--reason", "asked for"))
    assert rotating.tables()[leaf][0].startswith("2")
    assert audit("partitions", "release", "nothing").exit_code == 2
    assert audit("partitions", "convert-default").exit_code == 2


def test_maintain_does_everything_once(audit: Audit, rotating: Rotating, tmp_path: Path) -> None:
    rotating.fill(START, START + timedelta(days=30))
    # The check at the end of the run would find the clock of these tests.
    rotating.execute(
        "alter table audit.logged_actions alter column action_tstamp set default clock_timestamp()"
    )
    place = tmp_path / "archive"
    arguments = ("maintain", "--retention", "2 months", "--archive", str(place), "--format", "json")

    def run(days: int, *found: str) -> dict[str, Any]:
        result = audit(*arguments, "--textfile", str(tmp_path / "m.prom"), now=timedelta(days=days))
        summary: dict[str, Any] = json.loads(result.stdout)
        assert [finding["kind"] for finding in summary["findings"]] == list(found)
        assert result.exit_code == (3 if found else 0), result.output
        return summary

    dry = json.loads(audit(*arguments, "--dry-run", now=timedelta(days=120)).stdout)
    assert dry["status"] == "dry_run"
    # What says that partitions were dropped has the time of the server, which is before the first one by then.
    summaries = [run(120), run(120), run(128, "past_has_rows")]
    stages = [
        [(outcome["stage"], outcome["result"]) for outcome in summary["outcomes"]]
        for summary in summaries
    ]
    # What is detached is archived in the same run.
    assert {("detach", "done"), ("archive", "done")} <= set(stages[0])
    assert stages[1] == []
    assert {stage for stage, _ in stages[2]} == {"drop"}
    assert {result for stage in stages for _, result in stage} == {"done"}
    assert "audit_archive_pending 0" in (tmp_path / "m.prom").read_text()
    assert [
        row[0] for row in rotating.execute("select command from audit.maintenance order by 1")
    ] == [
        "maintain",
        "partitions",
    ]
    # What left is in the archive.
    archived = ("--archive", str(place))
    runner = CliRunner()
    assert runner.invoke(app, ["archive", "verify", *archived]).exit_code == 0
    listed = json.loads(
        runner.invoke(app, ["archive", "list", *archived, "--format", "json"]).stdout
    )
    asked = [
        "archive",
        "query",
        "select count(*) as n from logged_actions",
        *archived,
        "--format",
        "json",
    ]
    assert json.loads(runner.invoke(app, asked).stdout) == {
        "rows": [{"n": sum(leaf["events"] for leaf in listed["leaves"])}]
    }
    leaf = listed["leaves"][-1]["leaf"]
    lines(audit("archive", "restore", leaf, *archived))
    assert rotating.tables()[leaf] == ("detached", listed["leaves"][-1]["events"])
    assert audit("archive", "restore", leaf, *archived).exit_code == 2


def test_an_archive_that_cannot_be_reached_leaves_all_in_place(
    audit: Audit, rotating: Rotating
) -> None:
    audit("partitions", "run", "--retention", "2 months", now=timedelta(days=120))
    before = rotating.tables()
    result = audit("maintain", "--archive", "/dev/null/place", now=timedelta(days=150))
    assert result.exit_code == 1
    assert "nothing was dropped" in result.output
    assert {name for name, (state, _) in rotating.tables().items() if state == "detached"} == {
        name for name, (state, _) in before.items() if state == "detached"
    }
