"""The server itself runs under a false clock: nothing that holds the present leaves, and every write finds a partition.

Needs libfaketime (Debian: `apt-get install libfaketime`; elsewhere FAKETIME_LIBRARY is the path of the library).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.demo.processes import server_account
from tests.plugins.trail import audit as install_capture
from tests.plugins.trail import install_trail

FOUND = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]
LIBRARY = os.environ.get("FAKETIME_LIBRARY") or (str(FOUND[0]) if FOUND else "")

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.usefixtures("real_clocks"),
    pytest.mark.skipif(not LIBRARY, reason="no libfaketime on this machine"),
]


@pytest.fixture
def real_clocks() -> None:
    """What the server and this machine say is what counts."""


@dataclass(frozen=True)
class Machine:
    """A server, and commands that may run on its machine or on another one."""

    dsn: str
    clock: Path

    @property
    def environment(self) -> dict[str, str]:
        """What puts a program under the false clock."""
        return {
            "LD_PRELOAD": LIBRARY,
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, offset: str) -> None:
        """From now on its clock is off by so much."""
        self.clock.write_text(offset)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run SQL."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def maintain(self, *options: str, there: bool) -> tuple[int, str]:
        """Its exit code and what it said; run `there`, or on a machine whose clock is right."""
        command = [sys.executable, "-m", "audit_toolkit", "maintain", "--retention", "1 month"]
        done = subprocess.run(
            [*command, *options, "--dsn", self.dsn],
            capture_output=True,
            encoding="utf-8",
            check=False,
            env=os.environ | (self.environment if there else {}),
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A server under a clock that can be set; capture is on a table, and maintenance has run."""
    with throwaway_cluster() as server:
        clock = server.socket_dir / "clock"
        machine = Machine(server.dsn(), clock)
        machine.jump("+0d")
        clock.chmod(0o644)
        server.stop("fast")
        start_under(server, machine.environment)
        install_trail(server.dsn())
        with connect(server.dsn()) as connection:
            connection.execute("create table orders (id int generated always as identity, s text)")
            install_capture(connection, "orders")
        machine.execute("insert into orders (s) values ('in time')")
        code, said = machine.maintain(there=False)
        assert code == 0, said
        yield machine


def start_under(server: Cluster, environment: dict[str, str]) -> None:
    account = server_account()
    options = f"-c config_file={server.config_file}"
    files = ("-D", str(server.data_dir), "-l", str(server.log), "-o", options)
    subprocess.run(
        [str(server.bin_dir / "pg_ctl"), *files, "-s", "-w", "start"],
        user=account.uid if account else None,
        group=account.gid if account else None,
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


LEAVES = "select leaf::text, lower_bound, upper_bound from audit.leaves() order by lower_bound"


@pytest.mark.parametrize("jump", ["+30d", "+10950d", "-30d", "-10950d"])
def test_a_false_clock_takes_nothing_away(machine: Machine, jump: str) -> None:
    before = machine.execute(LEAVES)
    machine.jump(jump)
    # libfaketime is at work: the server says another time than we do.
    assert machine.execute(
        "select abs(extract(epoch from now() - pg_postmaster_start_time())) > 1e6"
    ) == [(True,)]
    for there in (False, True):
        code, said = machine.maintain(there=there)
        assert code == 3, said
        assert "refused" in said
    # Somebody trusts it all the same, on a machine whose own clock is right.
    machine.maintain("--trust-clock", there=False)
    held = {row[0] for row in before if row[1] and row[2]}
    present = machine.execute(
        "select tableoid::regclass::text from audit.logged_actions where new_row ->> 's' = 'in time'"
    )
    assert present
    assert {name for (name,) in present} <= held
    machine.execute(f"insert into orders (s) values ('{jump}')")
    machine.jump("+0d")
    machine.execute("insert into orders (s) values ('in time again')")
    assert machine.execute("select count(*) from audit.logged_actions") == [(3,)]
    code, said = machine.maintain(there=False)
    assert code in (0, 3), said
    assert machine.execute("select count(*) from audit.logged_actions") == [(3,)]
