"""docs/archive.md, docs/lake.md: their commands and their Python run."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit_toolkit.archive import Store
from audit_toolkit.cli.app import app
from tests.archive.detaching import archive, detached
from tests.plugins.docs import DOCS, commands
from tests.plugins.rotating import START, Rotating


def test_the_commands_run(
    rotating: Rotating, local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (DOCS / "archive.md").read_text(encoding="utf-8")
    monkeypatch.setenv("AUDIT_DATABASE_URL", rotating.database.dsn)
    monkeypatch.setenv("AUDIT_ARCHIVE", local.url)
    entry = detached(rotating)[0]
    archive(rotating, local, entry)
    rotating.execute(f"drop table audit.{entry.name}")
    rotating.run()
    for arguments in commands(text):
        typed = [
            a.replace("s3://acme-audit/production", local.url).replace(
                "logged_actions_2026_03", entry.name
            )
            for a in arguments
        ]
        result = CliRunner().invoke(app, typed)
        assert result.exit_code in (0, 3), (arguments, result.output)
    assert rotating.count(entry.name) > 0
    assert Path(local.root).is_dir()


def test_the_lake(
    rotating: Rotating, local: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (DOCS / "lake.md").read_text(encoding="utf-8")
    monkeypatch.setenv("AUDIT_DATABASE_URL", rotating.database.dsn)
    monkeypatch.setenv("AUDIT_ARCHIVE", local.url)
    monkeypatch.setenv("AUDIT_ICEBERG", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    rotating.fill(START - timedelta(days=9), START)
    for arguments in commands(text):
        typed = [a.replace("/srv/audit", str(tmp_path)) for a in arguments]
        result = CliRunner().invoke(app, typed)
        assert result.exit_code == 0, (arguments, result.output)
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(script.replace("/srv/audit", str(tmp_path)), {})  # noqa: S102 - our own
