"""Copies of a whole server by pg_basebackup: a clone of its files, a standby, a recovery to a point in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.demo.processes import run_as, server_account
from tests.plugins.cluster import directory_in_memory


@contextmanager
def copy_of(server: Cluster, *options: str, settings: str = "") -> Iterator[Cluster]:
    """A copy that is not started yet; with options of pg_basebackup, and lines for its configuration."""
    program = server.bin_dir / "pg_basebackup"
    if not program.exists():
        pytest.skip("this PostgreSQL comes without pg_basebackup")
    with throwaway_cluster(directory=directory_in_memory()) as copy:
        copy.stop()
        account, target = server_account(), str(copy.data_dir)
        run_as(account, ["/bin/sh", "-c", f"rm -rf {target}/*"])
        source = f"host=127.0.0.1 port={server.port} user=postgres dbname=postgres"
        all_options = ["-D", target, "-X", "stream", "-c", "fast", *options]
        answer = run_as(account, [program, "-d", source, *all_options])
        assert answer.returncode == 0, answer.stderr
        copy.config_file.write_text(f"{copy.config_file.read_text()}{settings}\n")
        yield copy


def catch_up(primary: Cluster, standby: Cluster) -> None:
    """Wait until a standby has what the primary wrote."""
    with psycopg.connect(primary.dsn()) as there, psycopg.connect(standby.dsn()) as here:
        (lsn,) = there.execute("select pg_current_wal_flush_lsn()").fetchone() or ()
        for _ in range(600):
            reached = here.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [lsn])
            if reached.fetchone() == (True,):
                return
            time.sleep(0.05)
    pytest.fail("the standby does not follow")


def is_promoted(server: Cluster) -> None:
    """Wait until a server takes writes."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for _ in range(600):
            if connection.execute("select pg_is_in_recovery()").fetchone() == (False,):
                return
            time.sleep(0.05)
    pytest.fail("the server does not leave recovery")
