"""The files of deploy/ name metrics, commands, options and settings that exist, and run with few rights."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import typer.main
import yaml

from audit_toolkit.cli.app import app
from audit_toolkit.version import __version__
from tests.cli.commands import commands
from tests.plugins.command import Audit
from tests.plugins.trail import Trail

ROOT = Path(__file__).parents[2]
KIT = ROOT / "deploy"
CONTAINERFILE = KIT / "container" / "Containerfile"
EXAMPLE = KIT / "systemd" / "environment.example"
UNITS = sorted((KIT / "systemd").glob("*.service"))
MANIFESTS = sorted((KIT / "kubernetes").glob("*.yaml"))
ALERTS = yaml.safe_load((KIT / "prometheus" / "alerts.yml").read_text())
DASHBOARD = json.loads((KIT / "grafana" / "audit-toolkit.json").read_text())

OTHERS = {"node_textfile_mtime_seconds": {"file"}}
"""What node_exporter says of the files that it reads."""
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds."""

Exported = dict[str, set[str]]


@pytest.fixture
def exported(trail: Trail, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """The labels of each metric, from the commands that audit-check.service runs."""
    trail.execute(
        "create index half on audit.maintenance (last_run_at);"
        "insert into audit.capture_progress (slot_name, commit_lsn, read_until, caught_up_at)"
        " values ('of_capture', '0/0', '0/0', now());"
        "update pg_index set indisvalid = false where indexrelid = 'audit.half'::regclass"
    )
    audit("stream", "run", "c", "--to", "file:out.jsonl", "--once", code=0)
    for name, value in environment(EXAMPLE.read_text()).items():
        if name != "AUDIT_DATABASE_URL":
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AUDIT_METRIC_LABELS", "database=orders")
    labels: Exported = {}
    series: list[str] = []
    for typed in collected():
        answer = audit(*shlex.split(typed))
        assert answer.exit_code in (0, 3), answer.output
        for line in answer.stdout.splitlines():
            if line.startswith("# TYPE "):
                labels.setdefault(line.split()[2], set())
            elif not line.startswith("#"):
                sample = line.rpartition(" ")[0]
                labels[sample.partition("{")[0]] |= set(re.findall(r'(\w+)="', sample))
                series.append(sample)
    assert all('database="orders"' in one for one in series)
    assert len(set(series)) == len(series), "node_exporter refuses a sample that two files have"
    return labels


def collected() -> list[str]:
    text = (KIT / "systemd" / "audit-check.service").read_text()
    return re.findall(r"bin/audit (.*? --format prometheus) >", text)


def environment(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if re.match(r"\w+=", line))
    return {name: value for name, _, value in pairs}


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def panels(within: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in within.get("panels", ()):
        yield panel
        yield from panels(panel)


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in panels(DASHBOARD) for target in panel.get("targets", ())]


def used(expression: Any) -> Iterator[tuple[str, set[str]]]:
    """Each metric of a parsed expression, with the labels that it asks for."""
    match expression:
        case promql_parser.VectorSelector():
            assert expression.name
            yield expression.name, {one.name for one in expression.matchers.matchers}
        case promql_parser.MatrixSelector():
            yield from used(expression.vector_selector)
        case promql_parser.BinaryExpr():
            yield from used(expression.lhs)
            yield from used(expression.rhs)
        case promql_parser.Call():
            for argument in expression.args:
                yield from used(argument)
        case promql_parser.AggregateExpr():
            grouped = set(expression.modifier.labels) if expression.modifier else set()
            yield from ((name, labels | grouped) for name, labels in used(expression.expr))
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            yield from used(expression.expr)
        case promql_parser.NumberLiteral():
            pass
        case _:
            raise TypeError(f"unknown part of an expression: {expression!r}")


def test_every_metric_and_label_is_exported(exported: Exported) -> None:
    known = exported | OTHERS
    expressions = [*dashboard_expressions(), *(rule["expr"] for rule in rules())]
    for text in expressions:
        found = list(used(promql_parser.parse(text)))
        assert found, text
        for name, labels in found:
            assert name in known, text
            assert labels <= known[name] | SCRAPED, text
    for rule in rules():
        names = [name for name, _ in used(promql_parser.parse(rule["expr"]))]
        said = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert said <= set.union(*(known[name] for name in names)) | SCRAPED, rule["alert"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            [(metric, label)] = re.findall(r"^label_values\((\w+), (\w+)\)$", variable["query"])
            assert label in known[metric] | SCRAPED
    shown = {name for text in expressions for name, _ in used(promql_parser.parse(text))}
    assert set(exported) - shown == {"audit_indexes", "audit_partition_findings"}, (
        "the number of indexes says nothing, and audit_findings has those of partitions"
    )


def containers() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """File, pod and container of each."""
    found: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for file in MANIFESTS:
        for document in yaml.safe_load_all(file.read_text()):
            spec = document.get("spec", {})
            pod = spec.get("jobTemplate", {}).get("spec", spec).get("template", {}).get("spec", {})
            made = (*pod.get("initContainers", ()), *pod.get("containers", ()))
            found.extend((f"{file.name}: {one['name']}", pod, one) for one in made)
    return found


def command_lines() -> Iterator[tuple[str, list[str]]]:
    for where, _, container in containers():
        if "command" not in container:
            yield where, container["args"]
    for unit in UNITS:
        for line in re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE):
            found = re.findall(r"/opt/audit/bin/audit ([^>|;}]*)", line)
            assert found, f"{unit.name}: {line}"
            yield from ((unit.name, shlex.split(one)) for one in found)
    for line in re.findall(
        r"^# .* audit-toolkit:[0-9.]+ (.*)$", CONTAINERFILE.read_text(), re.MULTILINE
    ):
        if not line.startswith("-f"):
            yield CONTAINERFILE.name, shlex.split(line)
    for entry in re.findall(r"^CMD (.*)$", CONTAINERFILE.read_text(), re.MULTILINE):
        assert json.loads(entry) == ["--help"]
    for rule in rules():
        words = shlex.split(re.sub(r"{{.*?}}", "search", rule["annotations"]["runbook"]))
        if words[0] == "audit":
            yield rule["alert"], words[1:]


def settings() -> set[str]:
    texts = (file.read_text() for file in KIT.rglob("*") if file.is_file())
    return {name for text in texts for name in re.findall(r"\bAUDIT_[A-Z_]+\b", text)}


def test_every_command_line_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_STREAM_TO", "https://search.example.org/hook")
    for name, value in environment(EXAMPLE.read_text()).items():
        monkeypatch.setenv(name, value)
    found = dict(commands(typer.main.get_command(app)))
    lines = list(command_lines())
    assert {Path(where.split(":")[0]).stem for where, _ in lines} >= {
        *(unit.stem for unit in UNITS),
        *(file.stem for file in MANIFESTS if file.stem != "settings"),
        CONTAINERFILE.stem,
    }
    for where, typed in lines:
        name = max((one for one in found if typed[: len(one.split())] == one.split()), default="")
        assert name, f"{where}: audit {shlex.join(typed)}"
        found[name].make_context(name, typed[len(name.split()) :]).close()


def test_every_setting_is_read() -> None:
    known = {
        name
        for _, command in commands(typer.main.get_command(app))
        for option in command.params
        for name in ([option.envvar] if isinstance(option.envvar, str) else option.envvar or ())
    }
    source = "".join(file.read_text() for file in (ROOT / "audit_toolkit").rglob("*.py"))
    known |= {name for name in settings() if f'"{name}"' in source}
    assert settings() <= known
    assert "AUDIT_RETENTION" in settings()


@pytest.mark.parametrize(
    ("where", "pod", "container"), containers(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_containers_have_few_rights(
    where: str, pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["automountServiceAccountToken"] is False
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["capabilities"] == {"drop": ["ALL"]}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted <= {volume["name"] for volume in pod["volumes"]}


def test_settings_of_the_pods_are_there_or_said() -> None:
    text = (KIT / "kubernetes" / "settings.yaml").read_text()
    made = {document["metadata"]["name"] for document in yaml.safe_load_all(text)}
    created = set(
        re.findall(r"create secret generic (\S+)", "".join(f.read_text() for f in MANIFESTS))
    )
    said = (KIT / "kubernetes" / "settings.yaml").read_text()
    for where, pod, container in containers():
        for source in container.get("envFrom", ()):
            [(kind, reference)] = source.items()
            if reference.get("optional"):
                assert reference["name"] == f"audit-{where.partition('.')[0]}-database"
                assert reference["name"] in said
                continue
            assert reference["name"] in (made if kind == "configMapRef" else created)
        secrets = {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
        assert secrets <= created


def test_no_password_and_no_moving_tag() -> None:
    for file in filter(Path.is_file, KIT.rglob("*")):
        text = file.read_text()
        assert not re.search(r"://[^/\s:@]*:[^/\s@]+@", text), f"{file.name} has a password"
        assert not re.search(r"(?i)password\s*[:=]|kind: Secret|PRIVATE KEY", text), file.name
        images = re.findall(r"^(?:FROM|\s*(?:- )?image:) *(\S+)", text, re.MULTILINE)
        for image in images:
            assert re.search(r":[0-9][\w.-]*$", image), f"{file.name}: {image} moves"


def test_the_image_has_the_version() -> None:
    files = [*filter(Path.is_file, KIT.rglob("*")), ROOT / "docs" / "deploy.md"]
    named = re.findall(r"\baudit-toolkit:(\S+)", "".join(file.read_text() for file in files))
    assert len(named) > len(containers())
    assert set(named) == {__version__}
    assert all(container["image"].startswith("audit-toolkit:") for _, _, container in containers())


def test_the_image_runs_without_root_from_files_that_are_there() -> None:
    text = CONTAINERFILE.read_text()
    assert int(re.findall(r"^USER (\d+)", text, re.MULTILINE)[-1]) > 0
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [extras] = re.findall(r"'\.\[(.*)\]'", text)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_units() -> None:
    units = [*UNITS, *sorted((KIT / "systemd").glob("*.timer"))]
    verified = subprocess.run(
        ["systemd-analyze", "verify", *units],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    said = [
        line
        for line in verified.stderr.splitlines()
        if any(unit.stem.rstrip("@") in line for unit in units)
        and not line.endswith("/opt/audit/bin/audit is not executable: No such file or directory")
    ]
    assert said == []
