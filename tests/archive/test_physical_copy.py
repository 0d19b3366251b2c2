"""Copies of a whole server, with the same system identifier and OIDs, that write to production's archive."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.cli.app import app
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from tests.plugins.rotating import START
from tests.plugins.trail import install_trail

EVENTS = """
    insert into audit.logged_actions (action_tstamp, schema_name, table_name, action, row_key)
    select at, 'public', 'orders', 'I', '1'
    from generate_series((select min(lower_bound) from audit.leaves()), now(), '5 days') as at
"""


EVENT = """
    insert into audit.logged_actions (action_tstamp, schema_name, table_name, action, row_key)
    values (%s, 'public', 'orders', 'I', '1')
"""


@pytest.fixture
def servers() -> Iterator[tuple[Cluster, Cluster, Cluster]]:
    """Production, a copy of all its files, and another one that is a standby."""
    with ExitStack() as opened:
        servers = [opened.enter_context(throwaway_cluster()) for _ in range(3)]
        production = servers[0]
        install_trail(production.dsn())
        with psycopg.connect(production.dsn(), autocommit=True) as connection:
            connection.execute(EVENTS)
        for server in servers:
            server.stop("fast")
        for server in servers[1:]:
            overwrite(server.data_dir, production.data_dir)
        touch(servers[2].data_dir / "standby.signal", production.data_dir)
        for server in servers:
            server.start()
        yield servers[0], servers[1], servers[2]


def overwrite(target: Path, source: Path) -> None:
    owner = source.stat()
    shutil.rmtree(target)
    shutil.copytree(source, target)
    for path in (target, *target.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    target.chmod(0o700)


def touch(path: Path, like: Path) -> None:
    path.touch()
    os.chown(path, like.stat().st_uid, like.stat().st_gid)


def audit(server: Cluster, *arguments: str, days: int = 0) -> Result:
    clock = ["--now", (START + timedelta(days=days)).isoformat(), "--trust-clock"] if days else []
    return CliRunner().invoke(app, [*arguments, *clock, "--dsn", server.dsn()])


def write(server: Cluster, *days: int) -> None:
    """Events so many days from the start."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for number in days:
            connection.execute(EVENT, [START + timedelta(days=number)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.thorough
def test_copies_are_refused_until_a_promoted_standby_adopts(
    servers: tuple[Cluster, Cluster, Cluster], tmp_path: Path
) -> None:
    production, copy, standby = servers
    place = ("--archive", str(tmp_path / "archive"))
    run = ("partitions", "run", "--retention", "1 month", "--no-drop", *place)
    assert audit(production, *run, days=60).exit_code == 0
    written = contents(tmp_path / "archive")
    assert any(path.endswith(".parquet") for path in written)

    # What both have is there already: it is noted, and nothing is written or removed.
    assert audit(copy, *run, days=60).exit_code == 0
    assert contents(tmp_path / "archive") == written
    # From where they differ, the archive is that of the one that wrote there.
    write(production, 20, 80)
    write(copy, 21, 80)
    assert audit(production, *run, days=95).exit_code == 0
    written = contents(tmp_path / "archive")
    refused = audit(copy, *run, days=95)
    assert refused.exit_code == 1, refused.output
    assert "is used by another database as well" in refused.stdout
    assert "audit archive adopt" in refused.stdout
    assert contents(tmp_path / "archive") == written
    assert audit(production, "archive", "verify", *place).exit_code == 0

    # A failover: production is gone, its standby goes on, on a timeline of its own.
    production.stop("immediate")
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        connection.execute("select pg_promote(true, 60)")
    refused = audit(standby, *run, days=60)
    assert refused.exit_code == 1, refused.output
    assert "timeline 1 wrote there last; this is" in refused.stdout
    assert contents(tmp_path / "archive") == written
    adopted = audit(standby, "archive", "adopt", *place)
    assert adopted.exit_code == 0, adopted.output
    assert "timeline 2" in adopted.stdout
    assert audit(standby, *run, days=95).exit_code == 0
    after = contents(tmp_path / "archive")
    assert written.items() <= after.items()  # nothing was overwritten
    assert len(after) > len(written)

    # The former primary comes back, and is not the one that writes any more.
    production.start()
    write(production, 125)
    refused = audit(production, *run, days=130)
    assert refused.exit_code == 1, refused.output
    assert "is used by another database as well" in refused.stdout
    assert contents(tmp_path / "archive") == after
