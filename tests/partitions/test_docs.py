"""docs/partitions.md: its commands run, its SQL runs, its table names every code that `check` knows."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import audit_toolkit.partitions.clock as clock
import audit_toolkit.partitions.health as health
from audit_toolkit.cli.app import app
from tests.plugins.docs import DOCS, commands
from tests.plugins.rotating import START, Rotating, months

TEXT = (DOCS / "partitions.md").read_text(encoding="utf-8")


def test_every_code_is_explained() -> None:
    source = Path(health.__file__).read_text(encoding="utf-8")
    known = {word.lower() for word in re.findall(r"FindingKind\.(\w+)", source)}
    known |= {"dropped_not_archived", "archive_unreachable"}  # of archive/dropped_partitions.py
    clocks = Path(clock.__file__).read_text(encoding="utf-8")
    known |= {word.lower() for word in re.findall(r"FindingKind\.(\w+)", clocks)}
    table = TEXT[TEXT.index("| code | severity") :]
    assert known == set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.+?) \|", table, re.MULTILINE)))
    )


def test_the_commands_run(
    rotating: Rotating, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", rotating.database.dsn)
    leaf = rotating.read().bounded[0].name.name
    rotating.execute("drop table audit.logged_actions_tail")
    rotating.execute("create table audit.brought partition of audit.logged_actions default")
    for arguments in commands(TEXT):
        # The places and the leaf of the text are not those of this test.
        typed = [
            a.replace("s3://acme-audit/production", str(tmp_path))
            .replace("/var/lib/node_exporter", str(tmp_path))
            .replace("logged_actions_2026_03", leaf)
            for a in arguments
        ]
        if typed[:2] == ["partitions", "attach"]:  # a leaf that was detached meanwhile
            rotating.run(START + timedelta(days=200), retention=months(2), blocking_detach=True)
            # The commands go by the real clock, as which the run has to count.
            rotating.execute("update audit.maintenance set last_run_at = now()")
        result = CliRunner().invoke(app, typed)
        assert result.exit_code in (0, 3), (arguments, result.output)
    assert rotating.read().default is None


def test_moving_old_events_out_of_a_default(rotating: Rotating) -> None:
    script = re.findall(r"```sql\n(begin;.*?)```", TEXT, re.DOTALL)[0]
    rotating.execute("drop table audit.logged_actions_tail, audit.logged_actions_past")
    rotating.execute(
        "create table audit.logged_actions_default partition of audit.logged_actions default"
    )
    rotating.execute("select audit.guard_relation('audit.logged_actions_default')")
    old = rotating.read().bounded[0].lower
    assert old is not None
    rotating.fill(old - timedelta(days=9), old - timedelta(days=1))
    before = rotating.count()
    rotating.execute(script.replace("2026-01-01 00:00+00", old.isoformat()))
    assert rotating.count() == before == rotating.count("logged_actions_old")
    assert "default_has_rows" not in rotating.findings()
