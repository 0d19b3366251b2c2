"""What docs/performance.md says is what the run in docs/performance/ measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.goals import Goal
from benchmarks.report import goals_table

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "performance" / "results.json"


def test_the_goals_are_those_of_the_run() -> None:
    found = json.loads(RESULTS.read_text())["goals"]
    goals = [
        Goal(**{name: value for name, value in goal.items() if name != "passed"}) for goal in found
    ]
    assert goals_table(goals) in (DOCS / "performance.md").read_text()


def test_every_picture_and_file_is_there() -> None:
    links = re.findall(r"\]\((performance/[^)]+)\)", (DOCS / "performance.md").read_text())
    assert len(links) >= 6
    assert [link for link in links if not (DOCS / link).exists()] == []


def test_the_run_names_versions_and_no_machine() -> None:
    environment = json.loads(RESULTS.read_text())["environment"]
    assert environment["postgresql"]
    assert environment["packages"]["auditrum"]
    text = "".join(file.read_text() for file in (DOCS / "performance").iterdir())
    assert not re.search(r"/(root|home|tmp|work|usr)/", text)
