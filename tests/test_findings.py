"""One shape of finding: how it is printed, and that docs/findings.md names every kind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.findings import Finding, FindingKind, Measure, Metric, Report, Severity
from audit_toolkit.plurals import counted
from tests.plugins.command import Audit
from tests.plugins.trail import Trail

DOCS = Path(__file__).parents[1] / "docs"
SAID = "capture_paused public.orders: it is / off"
TEXT = (DOCS / "findings.md").read_text("utf-8")


def finding(severity: Severity = Severity.WARNING, message: str = "it is | off") -> Finding:
    return Finding(
        kind=FindingKind.CAPTURE_PAUSED,
        severity=severity,
        subject="public.orders",
        message=message,
        remedy="audit resume",
    )


def report(*findings: Finding) -> Report:
    return Report(
        command="check",
        findings=findings,
        heading="2 tables",
        measures=(Measure(name="tables", value=2, limits=";;0;"),),
        gauges=(Metric(name="audit_tables", help="tables", samples=[({"t": 'a"b\\c\nd'}, 1)]),),
    )


def test_every_kind_is_explained_once() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| [^|]+ \| [^|]+ \|$", TEXT[TEXT.index("## Capture") :], re.M)
    explained = [kind for row in rows for kind in re.findall(r"`(\w+)`", row)]
    assert sorted(explained) == sorted(kind.value for kind in FindingKind)


def test_every_severity_is_explained() -> None:
    assert set(re.findall(r"^\| `(ok|info|warning|error)` \|", TEXT, re.M)) == set(Severity)


@pytest.mark.parametrize(
    ("severities", "line", "code"),
    [
        ([], "AUDIT_CHECK OK - 2 tables, no findings | tables=2;;;0;", 0),
        (
            [Severity.WARNING],
            f"AUDIT_CHECK WARNING - 2 tables, 1 finding: {SAID} | tables=2;;;0;",
            1,
        ),
        (
            [Severity.ERROR, Severity.WARNING, Severity.INFO],
            f"AUDIT_CHECK CRITICAL - 2 tables, 2 findings: {SAID}; {SAID} | tables=2;;;0;",
            2,
        ),
    ],
)
def test_nagios_reads_one_line(severities: list[Severity], line: str, code: int) -> None:
    made = report(*map(finding, severities))
    assert (made.as_nagios(), made.nagios_code) == (line, code)


def test_a_line_break_and_a_hundred_findings_are_still_one_line() -> None:
    made = report(*[finding(message="two\nlines")] * 100)
    [line] = made.as_nagios().splitlines()
    assert "and 90 more" in line


def test_labels_of_prometheus_are_escaped() -> None:
    lines = report(finding(Severity.ERROR)).as_prometheus().splitlines()
    assert 'audit_tables{t="a\\"b\\\\c\\nd"} 1' in lines
    assert 'audit_findings{check="check",severity="critical"} 1' in lines
    assert 'audit_findings{check="check",severity="warning"} 0' in lines
    assert lines.count("# TYPE audit_findings gauge") == 1


def test_an_accepted_finding_counts_nowhere() -> None:
    accepted = Finding(
        kind=FindingKind.SECRET_IN_CLEAR,
        severity=Severity.ERROR,
        subject="public.users.token",
        message="it looks secret",
        remedy="mask it",
        accepted="of the test system",
    )
    made = report(accepted)
    assert (made.severity, made.failing(), made.nagios_code) == (Severity.OK, False, 0)
    assert 'severity="critical"} 0' in made.as_prometheus()
    assert "because: of the test system" in "\n".join(made.as_lines())


def test_a_word_in_the_plural_only_for_several() -> None:
    assert [counted(n, "finding") for n in (0, 1, 2)] == ["0 findings", "1 finding", "2 findings"]


SHAPE = {"kind", "severity", "subject", "message", "remedy", "accepted"}
FORMER = {
    "check": {"kind", "severity", "object", "detail", "remedy", "accepted"},
    "partitions check": {"code", "severity", "object", "message", "remedy"},
    "indexes check": {"state", "severity", "subject", "oid", "table", "message", "advice"},
}


@pytest.mark.parametrize("command", FORMER)
def test_every_check_has_the_same_shape_in_every_format(
    trail: Trail, audit: Audit, command: str
) -> None:
    trail.execute("create table orders (id int primary key)")
    trail.audit("orders")
    trail.execute(
        "alter table orders disable trigger all; drop table audit.logged_actions_tail;"
        "create index once on audit.maintenance (last_run_at);"
        "create index again on audit.maintenance (last_run_at)"
    )

    def run(*options: str) -> tuple[int, str]:
        answer = audit(*command.split(), *options)
        return answer.exit_code, answer.stdout

    fail_on = ("--fail-on", "info") if command != "partitions check" else ()
    code, text = run("--format", "json", *fail_on)
    answer = json.loads(text)
    assert (code, answer["ok"], answer["schema_version"], answer["command"]) == (
        3,
        False,
        1,
        command,
    )
    for found in answer["findings"]:
        assert set(found) >= SHAPE | FORMER[command]
        assert FindingKind(found["kind"])
        assert all(isinstance(found[key], str) for key in SHAPE - {"accepted"})
        assert (found["object"], found["detail"]) == (found["subject"], found["message"])
    code, nagios = run("--format", "nagios")
    assert (code, len(nagios.splitlines())) == (
        {"ok": 0, "info": 0, "warning": 1, "error": 2}[answer["severity"]],
        1,
    )
    name = command.partition(" ")[0]
    assert nagios.startswith(f"AUDIT_{name.upper()} ")
    assert f'audit_check_success{{check="{name}"}} 1' in run("--format", "prometheus")[1]
    assert f"{answer['findings'][0]['kind']}" in run()[1]


def test_the_former_word_for_an_error_is_understood(trail: Trail, audit: Audit) -> None:
    answer = audit("indexes", "check", "--fail-on", "critical")
    assert (answer.exit_code, "--fail-on error now" in answer.stderr) == (0, True)
    refused = audit("check", "--fail-on", "never")
    assert (refused.exit_code, "info, warning, error" in refused.stderr) == (2, True)


def test_metrics_of_several_databases_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As node_exporter refuses a sample that two files have."""
    metric = Metric(name="m", help="h", samples=[({}, 1), ({"database": "own", "x": "y"}, 2)])
    monkeypatch.setenv("AUDIT_METRIC_LABELS", 'database=a"b\\, team=shop,')
    assert list(metric.lines())[2:] == [
        'm{database="a\\"b\\\\",team="shop"} 1',
        'm{database="own",team="shop",x="y"} 2',
    ]
    for wrong in ("orders", "a-b=c", "=x", "a=", "__name__=x"):
        monkeypatch.setenv("AUDIT_METRIC_LABELS", wrong)
        with pytest.raises(UsageError, match="AUDIT_METRIC_LABELS"):
            list(metric.lines())
