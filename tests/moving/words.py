"""Short words for what tests of moved trails do."""

from __future__ import annotations

import json
import shlex
from typing import Any

from typer.testing import CliRunner, Result

from audit_toolkit.cli.app import app
from tests.plugins.trail import Trail

TABLES = """
    create table orders (id int primary key, status text);
    create table notes (id int primary key, body text);
"""
ADOPT = ("adopt", "--reason", "moved")


def run(trail: Trail, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--dsn", trail.database.dsn])


def findings(trail: Trail) -> list[dict[str, Any]]:
    answer = run(trail, "check", "--format", "json")
    assert answer.exit_code in (0, 3), answer.output
    found: list[dict[str, Any]] = json.loads(answer.stdout)["findings"]
    return found


def kinds(trail: Trail) -> list[str]:
    return sorted(finding["kind"] for finding in findings(trail))


def mend(trail: Trail) -> None:
    """Run what `audit check` prints, each remedy in its order."""
    for finding in findings(trail):
        words = shlex.split(finding["remedy"])
        if words[:2] == ["psql", "-c"]:
            trail.execute(words[2])
            continue
        assert words[0] == "audit", finding
        to_psql = words[-2:] == ["|", "psql"]
        answer = run(trail, *words[1 : -2 if to_psql else None])
        assert answer.exit_code == 0, (finding, answer.output)
        if to_psql:
            trail.execute(answer.stdout)


def boundaries(trail: Trail) -> list[dict[str, Any]]:
    return [event["new_row"] for event in trail.events() if event["action"] == "B"]
