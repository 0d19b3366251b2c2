"""The command line on a test's database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.cli.app import app

if TYPE_CHECKING:  # plugins are imported by the root's conftest, which comes later than this one
    from tests.plugins.trail import Trail
    from tests.timetravel.words import Audit


@pytest.fixture
def audit(trail: Trail, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Audit:
    """Run the command on the test's database, in a directory without a project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_DATABASE_URL", trail.database.dsn)

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.stdout + result.stderr
        return result

    return run
