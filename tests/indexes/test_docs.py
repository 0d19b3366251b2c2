"""docs/indexes.md: its commands run and its table names every state (its migration: test_migration)."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from audit_toolkit.cli.app import app
from audit_toolkit.indexes import IndexState
from tests.plugins.trail import Trail

TEXT = (Path(__file__).parents[2] / "docs" / "indexes.md").read_text("utf-8")


def test_every_command_runs(trail: Trail) -> None:
    trail.execute("create table orders (id int primary key)")
    commands = re.findall(r"^\$ (.*)", TEXT, re.MULTILINE)
    assert len(commands) >= 12
    for command in commands:
        audit, *arguments = shlex.split(command)
        assert audit == "audit"
        result = CliRunner().invoke(app, [*arguments, "--dsn", trail.database.dsn])
        assert result.exit_code == 0, f"{command}: {result.output}"
    made = trail.execute(
        "select indisvalid from pg_index where indexrelid = 'audit.logged_actions_who_idx'::regclass"
    )
    assert made == [(True,)]


def test_every_state_is_explained() -> None:
    explained = set(re.findall(r"`([a-z_]+)`", "\n".join(re.findall(r"^\|([^|]*)\|", TEXT, re.M))))
    assert explained == {state.value for state in IndexState}
