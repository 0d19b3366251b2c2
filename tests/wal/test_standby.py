"""The worker and a standby: once promoted, it goes on where the primary ended, or the trail says what is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest

from audit_toolkit.config import Capture
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.errors import UsageError
from audit_toolkit.wal.worker import Worker
from tests.plugins.cluster import directory_in_memory
from tests.plugins.copies import copy_of
from tests.plugins.database import Connection
from tests.plugins.trail import audit, install_trail

HAS_SLOT = "select count(*) from pg_replication_slots where synced and not temporary"


def open_connection(cluster: Cluster) -> closing[Connection]:
    return closing(psycopg.connect(cluster.dsn(), autocommit=True))


@contextmanager
def standby_of(primary: Cluster, *, follows: bool) -> Iterator[Cluster]:
    """A hot standby, which has all that the primary has until then."""
    syncs = "sync_replication_slots = on\n" if follows else ""
    settings = f"wal_level = logical\nhot_standby_feedback = on\n{syncs}"
    with copy_of(primary, "-R", "-C", "-S", "standby", settings=settings) as standby:
        standby.start()
        yield standby


@contextmanager
def running(cluster: Cluster) -> Iterator[Worker]:
    with open_connection(cluster) as writer, open_connection(cluster) as reader:
        worker = Worker(writer=writer, reader=reader, heartbeat=0)
        worker.start(wait=False)
        yield worker


def read(worker: Worker) -> None:
    while not worker.turn().is_all:
        pass


def catch_up(primary: Connection, standby: Connection) -> None:
    """Wait until the standby has what the primary wrote."""
    (lsn,) = primary.execute("select pg_current_wal_flush_lsn()").fetchone() or ()
    for _ in range(600):
        (done,) = (
            standby.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [lsn]).fetchone() or ()
        )
        if done:
            return
        time.sleep(0.05)
    pytest.fail("the standby does not follow")


@pytest.mark.thorough
def test_a_promoted_standby_goes_on_or_says_what_is_lost() -> None:
    with ExitStack() as stack:
        settings = {"wal_level": "logical"}
        primary = stack.enter_context(
            throwaway_cluster(directory=directory_in_memory(), settings=settings)
        )
        if not (primary.bin_dir / "pg_basebackup").exists():
            pytest.skip("this PostgreSQL comes without pg_basebackup")
        install_trail(primary.dsn())
        there = stack.enter_context(open_connection(primary))
        there.execute("create table readings (id int primary key)")
        audit(there, "readings", capture=Capture.WAL)
        follows = there.info.server_version >= 170000
        standby = stack.enter_context(standby_of(primary, follows=follows))
        here = stack.enter_context(open_connection(standby))
        number = 0
        with running(primary) as worker:
            read(worker)
            for _ in range(40):
                number += 1
                there.execute("insert into readings values (%s)", [number])
                read(worker)
                there.execute("select pg_log_standby_snapshot()" if follows else "checkpoint")
                catch_up(there, here)
                if not follows:
                    break
                time.sleep(0.2)
                if here.execute(HAS_SLOT).fetchone() == (1,):
                    break
        there.execute("insert into readings values (0)")  # not read any more
        catch_up(there, here)
        refused = Worker(writer=here, reader=here)
        with pytest.raises(UsageError, match="the server is a standby"):
            refused.start()

        primary.kill()
        here.execute("select pg_promote()")
        here.execute("insert into readings values (-1)")
        with running(standby) as worker:
            read(worker)
            here.execute("insert into readings values (-2)")
            read(worker)
        story = here.execute(
            "select action, row_key from audit.logged_actions where action in ('I', 'G') order by event_id"
        ).fetchall()
        seen = [("I", str(each)) for each in range(1, number + 1)]
        lost = [("I", "0"), ("I", "-1")] if follows else [("G", None)]
        assert story == [*seen, *lost, ("I", "-2")]
