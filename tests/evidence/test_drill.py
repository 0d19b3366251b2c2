"""`audit drill`: a restore that works, one that does not, and what the trail keeps of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.archive import Store
from audit_toolkit.cli.app import app
from audit_toolkit.findings import FINDINGS
from tests.archive.detaching import archive, detached
from tests.plugins.rotating import MakeRotating, Rotating

Audit = Callable[..., Result]

SCHEMAS = "select nspname from pg_namespace order by nspname"
RECORDED = "select event_id, new_row from audit.logged_actions where new_row ->> 'change' = 'drill' order by event_id"


@pytest.fixture
def local(tmp_path: Path) -> Store:
    """A store in a folder."""
    return Store.open(str(tmp_path / "archive"))


@pytest.fixture
def drill(rotating: Rotating, local: Store) -> Audit:
    """Run `audit drill` on the archive; `code` is what it has to end with."""

    def run(*words: str, code: int = 0) -> Result:
        place = [] if "--archive" in words else ["--archive", local.root]
        place += ["--dsn", rotating.database.dsn]
        result = CliRunner().invoke(app, ["drill", *words, *place])
        if isinstance(result.exception, Exception):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


def recorded(rotating: Rotating) -> list[dict[str, Any]]:
    return [said for _, said in rotating.execute(RECORDED)]


def test_an_archived_partition_comes_back_and_goes_again(
    rotating: Rotating,
    local: Store,
    drill: Audit,
) -> None:
    assert "has no archived partition yet" in drill(code=2).stderr
    entries = detached(rotating)
    for entry in entries:
        archive(rotating, local, entry)
    rotating.run(rotating.now + timedelta(days=8), archived_only=True, drop=True)
    names = {entry.name for entry in entries}
    before, lifecycle = (
        rotating.execute(SCHEMAS),
        rotating.execute("table audit.partition_lifecycle"),
    )

    found = json.loads(drill("--format", "json").stdout)
    assert (found["ok"], found["problem"], found["partition"] in names) == (True, None, True)
    assert found["events"] > 10
    first = entries[0].name
    out = drill(first, "--scratch-schema", "by hand").stdout
    assert out.startswith(f"OK: {first} from ")
    assert "came back as they were archived" in out
    assert rotating.execute(SCHEMAS) == before
    assert rotating.execute("table audit.partition_lifecycle") == lifecycle
    assert [one["ok"] for one in recorded(rotating)] == [True, True]
    assert "'audit' already exists" in drill("--scratch-schema", "audit", code=2).stderr
    assert "has no partition 'nonsense'" in drill("nonsense", code=2).stderr
    assert len(recorded(rotating)) == 2


def test_what_the_server_refuses_is_recorded(
    rotating: Rotating, local: Store, drill: Audit
) -> None:
    archive(rotating, local, detached(rotating)[0])
    rotating.execute(
        "create function no() returns event_trigger language plpgsql as"
        " $$ begin raise 'no room for tables'; end $$;"
        " create event trigger no on ddl_command_end when tag in ('CREATE TABLE') execute function no()"
    )
    before = rotating.execute(SCHEMAS)
    assert "the server refused the restore: no room for tables" in drill(code=FINDINGS).stdout
    assert rotating.execute(SCHEMAS) == before
    assert [one["ok"] for one in recorded(rotating)] == [False]


def test_an_archive_that_is_not_where_it_was_written_says_where_that_is(
    rotating: Rotating, local: Store, drill: Audit, tmp_path: Path
) -> None:
    archive(rotating, local, detached(rotating)[0])
    elsewhere = str(tmp_path / "another")
    out = drill("--archive", elsewhere, code=FINDINGS).stdout
    assert f"which was archived at file://{local.root}/" in out


def test_what_another_database_archived_is_no_failure(
    make_rotating: MakeRotating, rotating: Rotating, local: Store, drill: Audit
) -> None:
    other = make_rotating()
    name = archive(other, local, detached(other)[0]).leaf
    refused = drill(name, code=2).stderr
    assert f"this database has no record of archiving {name}: system=" in refused
    assert recorded(rotating) == []


@pytest.mark.parametrize("damage", ["changed", "missing", "no manifest"])
def test_a_failing_drill_is_recorded(
    rotating: Rotating,
    local: Store,
    drill: Audit,
    damage: str,
) -> None:
    entry = detached(rotating)[0]
    manifest = archive(rotating, local, entry)
    file = Path(local.root, manifest.files[0].path)
    match damage:
        case "changed":
            file.write_bytes(file.read_bytes()[:-9] + b"123456789")
        case "missing":
            file.unlink()
        case _:
            Path(local.root, manifest.name).unlink()
    before = rotating.execute(SCHEMAS)
    assert drill(code=FINDINGS).stdout.startswith(f"FAILED: {entry.name} from ")
    assert rotating.execute(SCHEMAS) == before
    [said] = recorded(rotating)
    assert (said["ok"], said["partition"], bool(said["problem"])) == (False, entry.name, True)
