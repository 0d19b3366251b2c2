"""The command line, run in the test's own process on the test's database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.cli.app import app
from tests.plugins.trail import Trail

Audit = Callable[..., Result]


@pytest.fixture
def audit(trail: Trail, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Audit:
    """Run `audit …` on the database of `trail`, in a directory without a project; `code` is what it has to end with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_DATABASE_URL", trail.database.dsn)

    def run(*arguments: str, code: int | None = None, **environment: str) -> Result:
        result = CliRunner().invoke(app, list(arguments), env=environment)
        if isinstance(result.exception, Exception):
            raise result.exception
        assert code in (None, result.exit_code), result.output
        return result

    return run
