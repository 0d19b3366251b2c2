from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

AUDIT = [sys.executable, "-m", "audit_toolkit"]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files that is the demo's alone, and that the server may enter.

    The copy of the server programs that a demo by root leaves there is a cache, and no rest.
    """
    place = Path(tempfile.mkdtemp(prefix="audit-test-"))
    place.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(place))
    return place


def leftovers(place: Path) -> list[str]:
    kept = ("-postgres-", "_jinja2-cache-")  # a server's programs, and compiled templates
    return [path.name for path in place.iterdir() if not any(part in path.name for part in kept)]


def test_the_whole_story(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", "postgresql://127.0.0.1:1/mine")
    monkeypatch.setenv("ALEMBIC_CONFIG", "mine.ini")
    done = subprocess.run([*AUDIT, "demo", "--stream"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for shown in (
        "$ audit install --table orders --upgrade",
        "Running upgrade 003 -> ",
        "$ audit history orders 1",
        "updated by customer:ada",
        "status  new → paid",
        "why: ticket 4711: shipping was charged twice",
        "total  19.90 → 14.90",
        '$ psql "$DATABASE_URL"',
        "5 | D      | 2",
        "warehouse: 5 events delivered",
        'U orders 1 by support:joe: note "ring twice" → null, total 19.90 → 14.90',
        "audit demo --keep",
    ):
        assert shown in done.stdout
    assert leftovers(elsewhere) == []


@pytest.mark.thorough
def test_the_story_of_seals(elsewhere: Path) -> None:
    done = subprocess.run([*AUDIT, "demo", "--sealed"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for shown in (
        "sealed 6 events; 6 in all, up to event 6",
        "OK: 6 events match their seals; 1 checkpoint kept outside agrees",
        "alter table audit.logged_actions disable trigger all;",
        "error: event 4: it was changed after it was sealed",
        "FAILED: 1 finding",
    ):
        assert shown in done.stdout
    assert leftovers(elsewhere) == []


@pytest.mark.thorough
def test_keep_leaves_it_running(elsewhere: Path) -> None:
    done = subprocess.run([*AUDIT, "demo", "--keep"], capture_output=True, text=True, check=True)
    found = re.search(r"DATABASE_URL=(\S+)", done.stdout)
    assert found
    with psycopg.connect(found[1], autocommit=True) as connection:
        connection.execute("update orders set status = 'sent' where id = 1")
        events = connection.execute("select count(*) from audit.logged_actions").fetchone()
        assert events == (6,)
    remove = done.stdout.rpartition("$ ")[2].strip()
    subprocess.run(remove, shell=True, check=True)  # noqa: S602 - it is the line that users paste
    assert leftovers(elsewhere) == []


@pytest.mark.thorough  # tests/test_cluster.py has it for each signal, without the story
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_cleans_up(elsewhere: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*AUDIT, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if "audit install" in line:
                os.killpg(process.pid, number)
                break
        process.stdout.read()
    assert process.returncode != 0
    assert leftovers(elsewhere) == []
