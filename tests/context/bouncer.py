"""A real PgBouncer, mostly in transaction mode, with a configuration of its own on a free port."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from audit_toolkit.demo.processes import server_account, temporary_directory

CONFIGURATION = """
[databases]
shop = host={host} port={port} dbname={dbname} user={user} pool_size=3

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
max_client_conn = 100
server_reset_query =
ignore_startup_parameters = extra_float_digits
{more}
"""


@dataclass(frozen=True, slots=True)
class Bouncer:
    """A PgBouncer that runs."""

    dsn: str
    version: tuple[int, int]

    @property
    def keeps_prepared(self) -> bool:
        """Whether it follows prepared statements from server to server: since 1.21."""
        return self.version >= (1, 21)


@contextmanager
def running_bouncer(dsn: str, mode: str = "transaction") -> Iterator[Bouncer]:
    """A PgBouncer before the database of that address, three connections for all clients."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    version = _version(program)
    account = server_account()
    with tempfile.TemporaryDirectory(dir=temporary_directory(account)) as directory:
        port = _free_port()
        file = Path(directory, "pgbouncer.ini")
        file.write_text(_configuration(dsn, port, version, mode))
        Path(directory).chmod(0o755)
        process = subprocess.Popen(
            [program, "-q", file],
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
            env={"PATH": os.environ["PATH"]},
            stderr=subprocess.DEVNULL,
        )
        try:
            bouncer = Bouncer(f"postgresql://postgres@127.0.0.1:{port}/shop", version)
            _wait(bouncer, process)
            yield bouncer
        finally:
            process.terminate()
            process.wait()


def _version(program: str) -> tuple[int, int]:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"PgBouncer (\d+)\.(\d+)", told.stdout)
    assert found, told.stdout
    return int(found[1]), int(found[2])


def _configuration(dsn: str, port: int, version: tuple[int, int], mode: str) -> str:
    target = {"port": "5432", "user": "postgres", **conninfo_to_dict(dsn)}
    more = "max_prepared_statements = 100" if version >= (1, 21) else ""
    return CONFIGURATION.format(own_port=port, more=more, mode=mode, **target)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait(bouncer: Bouncer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None:
        try:
            with psycopg.connect(bouncer.dsn, prepare_threshold=None) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "PgBouncer does not answer"
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"PgBouncer ended with {process.returncode}")
