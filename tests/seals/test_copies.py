"""Copies of a sealed server: a clone of its files, a standby, a recovery to a point in time. What was lost is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.cli.app import app
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.demo.processes import run_as, server_account
from audit_toolkit.seals import new_key, write_key
from tests.plugins.cluster import directory_in_memory
from tests.plugins.copies import catch_up, copy_of, is_promoted
from tests.plugins.database import Connection
from tests.seals.conftest import fill

pytestmark = pytest.mark.thorough


@dataclass(frozen=True, slots=True)
class Place:
    """A key, and a folder for checkpoints."""

    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "seal.key"

    @property
    def kept(self) -> Path:
        return self.folder / "kept"

    def checkpoints(self) -> list[Path]:
        return sorted(self.kept.rglob("*.checkpoint"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    write_key(tmp_path / "seal.key", new_key("example.com/shop"))
    return Place(tmp_path)


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Cluster]:
    """A server with a trail whose WAL is archived, in its own folder."""
    settings = {
        "archive_mode": "on",
        "archive_command": "test -d archived && cp %p archived/%f",
        "wal_level": "replica",
    }
    with throwaway_cluster(settings=settings, directory=directory_in_memory()) as server:
        run_as(server_account(), ["mkdir", str(server.data_dir / "archived")])
        fill(server.dsn())
        yield server


def audit(server: Cluster, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--dsn", server.dsn()])


def seal(server: Cluster, place: Place) -> Result:
    return audit(server, "seal", "--key", str(place.key), "--checkpoint-to", str(place.kept))


def verify(server: Cluster, *places: Place) -> Result:
    outside = [word for place in places for word in ("--checkpoints", str(place.kept))]
    return audit(server, "verify", "--key", f"{places[0].key}.pub", *outside)


def write(server: Cluster, first: int, rows: int) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            f"insert into orders select n, 'x', null from generate_series({first}, {first + rows - 1}) as n"
        )


def goes_on(server: Cluster, place: Place, sealed: int) -> None:
    """What docs say is to be done after a loss: say so, move the checkpoints that are ahead away, seal on."""
    refused = seal(server, place)
    assert refused.exit_code == 1
    assert f"and the database has sealed {sealed}" in refused.stderr
    adopted = audit(server, "adopt", "--reason", "the primary was lost")
    assert adopted.exit_code == 0, adopted.output
    assert "the trail continues in the database" in adopted.stdout
    assert audit(server, "check").exit_code == 0
    for ahead in place.checkpoints():
        if int(ahead.stem) > sealed:
            shutil.move(ahead, place.folder)
    assert seal(server, place).exit_code == 0
    done = verify(server, place)
    assert (done.exit_code, "OK: " in done.stdout) == (0, True)
    [lost] = place.folder.glob("*.checkpoint")
    write(server, 9000, 40)
    assert seal(server, place).exit_code == 0
    key = ("--key", f"{place.key}.pub")
    forked = audit(server, "verify", *key, "--checkpoints", str(lost))
    assert (forked.exit_code, "trail_forked" in forked.stdout) == (3, True)


def test_a_clone_by_files_says_so_and_forks_are_named(primary: Cluster, place: Place) -> None:
    assert seal(primary, place).exit_code == 0
    with copy_of(primary) as clone:
        clone.start()
        same = audit(clone, "adopt", "--reason", "for staging")
        assert (same.exit_code, "nothing to adopt" in same.stdout) == (0, True)
        assert "--copy" in same.stdout
        adopted = audit(clone, "adopt", "--copy", "--reason", "for staging")
        assert adopted.exit_code == 0, adopted.output
        with psycopg.connect(clone.dsn()) as connection:
            [(said,)] = connection.execute(
                "select new_row from audit.logged_actions where action = 'B'"
            ).fetchall()
        assert (said["copy"], said["reason"]) == (True, "for staging")

        other = Place(place.folder / "staging")
        other.folder.mkdir()
        for ending in ("", ".pub"):
            shutil.copy(f"{place.key}{ending}", f"{other.key}{ending}")
        write(primary, 2000, 9)
        assert seal(primary, place).exit_code == 0
        assert seal(clone, place).exit_code == 1
        assert seal(clone, other).exit_code == 0
        assert verify(primary, place).exit_code == verify(clone, other).exit_code == 0
        behind = verify(clone, place)
        assert behind.exit_code == 3
        assert "the last one that agrees has 463" in behind.stdout
        forked = verify(primary, place, other)
        assert (forked.exit_code, "trail_forked" in forked.stdout) == (3, True)
        write(clone, 3000, 20)
        assert seal(clone, other).exit_code == 0
        forked = verify(clone, other, place)
        assert (forked.exit_code, "trail_forked" in forked.stdout) == (3, True)


def test_a_standby_that_lost_events(primary: Cluster, place: Place) -> None:
    assert seal(primary, place).exit_code == 0
    archive = ("--archive", str(place.folder / "archive"))
    assert audit(primary, "archive", "export", *archive).exit_code == 0
    with copy_of(primary, "-R") as standby:
        standby.start()
        catch_up(primary, standby)
        assert verify(standby, place).exit_code == 0
        assert audit(standby, "check").exit_code == 0
        assert audit(standby, "reconcile").exit_code == 0
        assert audit(standby, "history", "orders", "5").exit_code == 0
        assert audit(standby, "prove", "5").exit_code == 0
        assert audit(standby, "archive", "verify", *archive).exit_code == 0
        refused = seal(standby, place)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "connect to the primary" in refused.stderr

        standby.stop()
        write(primary, 2000, 5)
        assert seal(primary, place).exit_code == 0
        primary.kill()
        standby.start()
        with psycopg.connect(standby.dsn(), autocommit=True) as connection:
            connection.execute("select pg_promote()")
        is_promoted(standby)
        lost = verify(standby, place)
        assert lost.exit_code == 3
        assert "trail_behind" in lost.stdout
        goes_on(standby, place, 463)


def test_a_recovery_to_a_point_in_time(primary: Cluster, place: Place) -> None:
    assert seal(primary, place).exit_code == 0
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        target = primary.data_dir / "archived"
        settings = f"restore_command = 'cp {target}/%f %p'\nrecovery_target_action = 'promote'"
        with copy_of(primary) as copy:
            write(primary, 2000, 3)
            assert seal(primary, place).exit_code == 0
            (moment,) = connection.execute("select clock_timestamp()::text").fetchone() or ()
            write(primary, 3000, 5)
            assert seal(primary, place).exit_code == 0
            connection.execute("select pg_switch_wal()")
            wait_for_archive(connection)
            more = f"{settings}\nrecovery_target_time = '{moment}'\n"
            copy.config_file.write_text(copy.config_file.read_text() + more)
            run_as(server_account(), ["touch", str(copy.data_dir / "recovery.signal")])
            copy.start()
            is_promoted(copy)
            lost = verify(copy, place)
            assert lost.exit_code == 3
            assert "trail_behind" in lost.stdout
            goes_on(copy, place, 466)


def wait_for_archive(connection: Connection) -> None:
    """Until nothing is left to be archived."""
    for _ in range(600):
        waiting = connection.execute(
            "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'"
        ).fetchone()
        if waiting == (0,):
            return
        connection.execute("select pg_sleep(0.05)")
    pytest.fail("the WAL is not archived")
