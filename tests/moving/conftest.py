"""A shop with two audited tables, databases to move it into, and the move."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.moving.words import TABLES, findings
from tests.plugins.cluster import Server
from tests.plugins.database import MakeDatabase
from tests.plugins.trail import Trail

Move = Callable[..., None]


@pytest.fixture
def shop(trail: Trail) -> Trail:
    trail.execute(TABLES)
    trail.audit("orders")
    trail.audit("notes")
    trail.execute(
        "insert into orders values (1, 'new'), (2, 'new'); insert into notes values (1, 'x')"
    )
    assert findings(trail) == []
    return trail


@pytest.fixture
def empty(make_database: MakeDatabase) -> Trail:
    return Trail(make_database())


@pytest.fixture
def migrated(make_database: MakeDatabase, trail_template: str) -> Trail:
    """What migrations alone make: the trail, the tables and capture."""
    trail = Trail(make_database(template=trail_template))
    trail.execute(TABLES)
    trail.audit("orders")
    trail.audit("notes")
    return trail


@pytest.fixture
def move(cluster: Server, tmp_path: Path) -> Move:
    """Dump one database with some options of pg_dump, and restore it into another with some of pg_restore."""
    directory = cluster.bin_dir
    if directory is None or not (directory / "pg_dump").exists():
        pytest.skip("there is no pg_dump beside the server")

    def moved(
        source: Trail, target: Trail, *options: str, restore: Sequence[str] = (), errors: str = ""
    ) -> None:
        file = tmp_path / "dump"
        dump = [str(directory / "pg_dump"), "-Fc", "-f", str(file), *options]
        subprocess.run([*dump, "-d", source.database.dsn], check=True)
        command = [str(directory / "pg_restore"), *restore, "-d", target.database.dsn, str(file)]
        answer = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        unexpected = [
            line
            for line in answer.stderr.splitlines()
            if " error: " in line and not (errors and errors in line)
        ]
        assert not unexpected, answer.stderr

    return moved
