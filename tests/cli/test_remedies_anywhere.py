"""What a check prints runs in a database without a project, and for a trail in any schema."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.plugins.command import Audit
from tests.plugins.database import MakeDatabase
from tests.plugins.trail import Trail

TABLES = """
    create table orders (id int primary key, status text);
    create table users (id int primary key, email text)
"""


def run(trail: Trail, audit: Audit, command: str) -> None:
    """Run one line as a shell would, with the psql of the test."""
    words = shlex.split(command)
    if words[:2] == ["psql", "-c"]:
        trail.execute(words[2])
        return
    assert words[0] == "audit", command
    piped = words[-2:] == ["|", "psql"]
    answer = audit(*words[1 : -2 if piped else None])
    assert answer.exit_code == 0, (command, answer.output)
    if piped:
        trail.execute(answer.stdout)


@pytest.mark.parametrize("schema", ["audit", "My Audit"])
@pytest.mark.thorough
def test_all_remedies_without_a_project(
    make_database: MakeDatabase, audit: Audit, monkeypatch: pytest.MonkeyPatch, schema: str
) -> None:
    trail = Trail(make_database())
    monkeypatch.setenv("AUDIT_DATABASE_URL", trail.database.dsn)
    here = ["--audit-schema", schema]
    trail.execute(TABLES)
    trail.execute(audit("install", "-t", "orders", "-t", "users", "--sql", *here).stdout)
    trail.execute(f"""
        drop trigger "00_audit_truncate" on orders;
        alter table orders add token text;
        alter table users disable trigger "00_audit_row";
        alter table users rename to people;
        create or replace function "{schema}".mask(image jsonb, column_name text, method text)
            returns jsonb language plpgsql stable set search_path = pg_catalog, pg_temp as 'begin return image; end';
        alter table "{schema}".home enable trigger "00_audit_owner_only";
        alter table "{schema}".logged_actions_tail disable trigger "00_audit_append_only";
        drop index "{schema}".logged_actions_old_key_idx
    """)
    checked = json.loads(audit("check", "--format", "json", *here).stdout)
    commands = dict.fromkeys(finding["remedy"] for finding in checked["findings"])
    assert sum(command.endswith(" --sql | psql") for command in commands) >= 3
    for command in commands:
        run(trail, audit, command)
    after = audit("check", *here)
    assert after.exit_code == 0, after.output


@pytest.mark.parametrize("file", ["alembic.ini", "manage.py", "migrations/alembic.ini"])
def test_a_project_gets_revisions(trail: Trail, audit: Audit, file: str) -> None:
    trail.execute(TABLES)
    Path("migrations").mkdir()
    Path(file).write_text("[alembic]\n", encoding="utf-8")
    found = json.loads(audit("check", "-t", "orders", "--format", "json").stdout)["findings"]
    assert [f["remedy"] for f in found] == ["audit install --table public.orders --upgrade"]
