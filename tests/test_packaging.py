"""What the sdist has: all that there is, so that its tests and tasks run."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BY_ITSELF = {".gitignore", "LICENSE", "README.md", "pyproject.toml"}
"""What hatchling adds."""


def test_the_sdist_has_all_files() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is an sdist")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    there = {line.partition("/")[0] for line in listed.stdout.splitlines()} - BY_ITSELF
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert {name.removeprefix("/") for name in build["targets"]["sdist"]["include"]} == there
