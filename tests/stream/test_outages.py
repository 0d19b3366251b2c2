"""A server that is restarted under consumers, or lost to its standby: they go on, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from audit_toolkit.cli import outage
from audit_toolkit.cli.outage import ride_out
from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import Cluster, StopMode, throwaway_cluster
from audit_toolkit.demo.processes import run_as, server_account
from audit_toolkit.errors import ConnectError, LostError
from tests.plugins.cluster import directory_in_memory
from tests.plugins.trail import Trail, audit, install_trail
from tests.stream.conftest import ORDERS

END_OWN_SESSION = "select pg_terminate_backend(pg_backend_pid())"


class TestRidingOut:
    def test_what_is_lost_is_done_again_on_another_connection(
        self, trail: Trail, capsys: pytest.CaptureFixture[str]
    ) -> None:
        seen: list[int] = []

        def work(connection: psycopg.Connection[object]) -> None:
            seen.append(connection.info.backend_pid)
            if len(seen) < 3:
                connection.execute(END_OWN_SESSION)

        ride_out(partial(connect, trail.database.dsn), work)
        assert len(set(seen)) == 3
        assert capsys.readouterr().err.count("the connection was lost") == 2

    def test_not_for_ever_and_not_what_was_never_there(
        self, trail: Trail, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(outage, "FIRST_PAUSE", 0.01)
        addresses = [trail.database.dsn, *["host=127.0.0.1 port=1"] * 100]

        def work(connection: psycopg.Connection[object]) -> None:
            connection.execute(END_OWN_SESSION)

        with pytest.raises(ConnectError, match="cannot connect"):
            ride_out(lambda: connect(addresses.pop(0)), work, patience=0.1)
        assert 80 < len(addresses) < 100
        [said] = capsys.readouterr().err.splitlines()
        assert said.startswith("warning: ")
        assert said.endswith("; connecting again")
        with pytest.raises(ConnectError, match="cannot connect"):
            ride_out(lambda: connect(addresses.pop(0)), work)
        with pytest.raises(LostError):
            ride_out(partial(connect, trail.database.dsn), work, patience=0)
        assert capsys.readouterr().err == ""

        def fail(_: object) -> None:
            raise ConnectError("the sink is gone")

        with pytest.raises(ConnectError, match="the sink is gone"):
            ride_out(partial(connect, trail.database.dsn), fail)


class Instances:
    """Two instances of one consumer that append to one file, on a server or on whichever of several may be written."""

    def __init__(self, directory: Path, *clusters: Cluster) -> None:
        self.file = directory / "out.jsonl"
        self.file.touch()
        places = ",".join(f"127.0.0.1:{cluster.port}" for cluster in clusters)
        dsn = f"postgresql://postgres@{places}/postgres?target_session_attrs=read-write"
        command = [sys.executable, "-m", "audit_toolkit", "stream", "run", "c", "--batch", "20"]
        self._errors = [directory / f"{number}.txt" for number in range(2)]
        self.running = []
        for error in self._errors:
            with error.open("w") as stderr:
                self.running.append(
                    subprocess.Popen(
                        [*command, "--to", f"file:{self.file}"],
                        env={**os.environ, "AUDIT_DATABASE_URL": dsn},
                        stderr=stderr,
                    )
                )

    @property
    def said(self) -> list[str]:
        return [error.read_text() for error in self._errors]

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


@contextmanager
def instances(directory: Path, *clusters: Cluster) -> Iterator[Instances]:
    made = Instances(directory, *clusters)
    try:
        with psycopg.connect(clusters[0].dsn(), autocommit=True) as connection:
            names = "select from pg_stat_activity where application_name like 'audit-toolkit%'"
            until(lambda: connection.execute(names).rowcount == 2)
            until(lambda: any("waiting for it to end" in said for said in made.said))
        yield made
    finally:
        made.close()


def until(what: Callable[[], bool]) -> None:
    for _ in range(1200):
        if what():
            return
        time.sleep(0.05)
    pytest.fail("it does not come")


def new_server(stack: ExitStack) -> Cluster:
    cluster = stack.enter_context(throwaway_cluster(directory=directory_in_memory()))
    install_trail(cluster.dsn())
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(ORDERS)
        audit(connection, "orders")
    return cluster


def write(cluster: Cluster, first: int, last: int) -> None:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(
            "insert into orders select generate_series(%s::int, %s), 0", [first, last]
        )


def trail_of(cluster: Cluster) -> list[int]:
    with psycopg.connect(cluster.dsn()) as connection:
        rows = connection.execute("select event_id from audit.logged_actions order by 1").fetchall()
    return [number for (number,) in rows]


def arrived(made: Instances) -> list[int]:
    """In the order in which each came first."""
    return list(dict.fromkeys(int(str(event["event_id"])) for event in made.events))


@pytest.mark.thorough
def test_a_restart_under_both_instances(tmp_path: Path) -> None:
    modes: tuple[StopMode, ...] = ("fast", "immediate", "fast")
    with ExitStack() as stack:
        cluster = new_server(stack)
        made = stack.enter_context(instances(tmp_path, cluster))
        for number, mode in enumerate(modes):
            size = made.file.stat().st_size
            write(cluster, 3000 * number + 1, 3000 * number + 3000)
            until(lambda size=size: made.file.stat().st_size > size)  # type: ignore[misc]
            cluster.restart(mode)
            until(lambda: arrived(made) == trail_of(cluster))
        assert [process.poll() for process in made.running] == [None, None]
        for process in made.running:
            process.send_signal(signal.SIGINT)
        assert [process.wait() for process in made.running] == [0, 0]
        for said in made.said:
            assert "the connection was lost" in said
            assert "connected again" in said
            assert not re.search("Traceback|cancellation|rolling back", said), said


@pytest.mark.thorough
def test_a_standby_that_is_promoted(tmp_path: Path) -> None:
    """What the primary had not sent to it may have been delivered: its numbers come again, under other ids."""
    with ExitStack() as stack:
        primary = new_server(stack)
        standby = stack.enter_context(throwaway_cluster(directory=directory_in_memory()))
        follow(standby, primary)
        made = stack.enter_context(instances(tmp_path, primary, standby))
        write(primary, 1, 500)
        until(lambda: arrived(made) == trail_of(primary) == trail_of(standby))
        standby.stop()
        write(primary, 501, 600)
        until(lambda: arrived(made) == trail_of(primary))
        primary.stop("immediate")
        standby.start()
        with psycopg.connect(standby.dsn(), autocommit=True) as connection:
            connection.execute("select pg_promote()")
        write(standby, 601, 900)
        late = trail_of(standby)
        until(lambda: late[-1] in arrived(made) and len(made.events) >= 900)
        delivered = {(event["event_id"], event["row_key"]) for event in made.events}
        with psycopg.connect(standby.dsn()) as connection:
            there = connection.execute(
                "select event_id, row_key from audit.logged_actions"
            ).fetchall()
        assert set(there) <= delivered
        assert {key for _, key in delivered - set(there)} == {str(key) for key in range(501, 601)}
        assert [process.poll() for process in made.running] == [None, None]
        assert any("a standby was promoted (timeline 1, now 2)" in said for said in made.said)


def follow(standby: Cluster, primary: Cluster) -> None:
    """Make it a standby of the other one."""
    standby.stop()
    account, target = server_account(), standby.data_dir
    run_as(account, ["/bin/sh", "-c", f"rm -rf {target}/*"])
    source = f"host=127.0.0.1 port={primary.port} user=postgres dbname=postgres"
    options = ["-D", str(target), "-R", "-X", "stream", "-c", "fast"]
    answer = run_as(account, [primary.bin_dir / "pg_basebackup", "-d", source, *options])
    assert answer.returncode == 0, answer.stderr
    standby.start()
