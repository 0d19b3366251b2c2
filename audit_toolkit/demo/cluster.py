"""A throwaway PostgreSQL server: made, started, stopped, killed and removed without a trace."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

from audit_toolkit.demo.binaries import find_binaries, runnable_binaries
from audit_toolkit.demo.processes import (
    Account,
    kill_family,
    living,
    run_as,
    server_account,
    temporary_directory,
    termination_unwinds,
    uninterrupted,
)
from audit_toolkit.errors import AuditError, ServerStartError

StopMode = Literal["smart", "fast", "immediate"]

# fsync guards against the machine's crash, which a throwaway server need not survive. What guards
# against its own crash stays on: synchronous_commit, and full_page_writes, because SIGKILL can
# split the write of a page. Dynamic shared memory in files: a killed server leaves nothing behind
# in /dev/shm, which is small in containers.
DEFAULT_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "dynamic_shared_memory_type": "mmap",
        "fsync": "off",
        "log_timezone": "UTC",
        "max_connections": "100",
        "shared_buffers": "64MB",
        "timezone": "UTC",
    }
)

PORT_ATTEMPTS = 10
# Quiet; wait until it is done, for a minute at most.
PG_CTL_OPTIONS = ("-s", "-w", "-t", "60")
LOG_TAIL_LINES = 20
# The address of a Unix socket holds 107 bytes on Linux, 103 on macOS.
SOCKET_PATH_BYTES = 103


class PortTakenError(ServerStartError):
    """Another process listens on the port."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A PostgreSQL server that belongs to nobody else: where it is, and its power switch.

    It listens on 127.0.0.1 and on a Unix socket in `socket_dir`, and trusts whoever connects; the
    superuser is `postgres`.
    """

    bin_dir: Path
    data_dir: Path
    socket_dir: Path
    port: int

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.data_dir / "server.log"

    @property
    def config_file(self) -> Path:
        """Its `postgresql.conf`; out of the data directory, so that the server cannot change it."""
        return self.data_dir.with_name("postgresql.conf")

    def dsn(self, database: str = "postgres") -> str:
        """The URL of one of its databases, as psycopg, SQLAlchemy and psql take it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Start it, back when it takes connections; after `kill` this includes crash recovery.

        Raises:
            ServerStartError: it did not start; the message ends with the tail of its log.
        """
        said_before = self._log_text()
        options = f"-c config_file={shlex.quote(str(self.config_file))}"
        answer = self._pg_ctl("start", "-l", self.log, "-o", options)
        if answer.returncode != 0:
            raise self._start_error(self._log_text().removeprefix(said_before) or answer.stderr)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it as `pg_ctl stop -m` does, back when it has ended. A stopped server stays stopped.

        Raises:
            AuditError: it did not stop in time (`smart` waits until all clients have gone).
        """
        if self._postmaster() is None:
            return
        answer = self._pg_ctl("stop", "-m", mode)
        if answer.returncode != 0:
            raise AuditError(f"the throwaway PostgreSQL did not stop: {answer.stderr.strip()}")

    def restart(self, mode: StopMode = "fast") -> None:
        """`stop`, then `start`, on the same port."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL to the server and all its processes, as the kernel does when memory runs out.

        Back when all are dead. `start` then recovers what was committed.

        Raises:
            TimeoutError: a process did not die, as one in uninterruptible sleep.
        """
        postmaster = self._postmaster()
        if postmaster is None:
            return
        kill_family(postmaster, server_account())
        # A dead process that nobody collects (PID 1 of a container may not) would, by its entry
        # here, count as a server that still runs.
        self._pid_file.unlink(missing_ok=True)
        (self.socket_dir / f".s.PGSQL.{self.port}.lock").unlink(missing_ok=True)

    @property
    def _pid_file(self) -> Path:
        return self.data_dir / "postmaster.pid"

    def _postmaster(self) -> int | None:
        if not self._pid_file.exists():
            return None
        process = int(self._pid_file.read_text().split("\n", 1)[0])
        return process if process in living() else None

    def _pg_ctl(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        with uninterrupted():
            return run_as(
                server_account(),
                [self.bin_dir / "pg_ctl", "-D", self.data_dir, *PG_CTL_OPTIONS, *arguments],
            )

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _start_error(self, said: str) -> ServerStartError:
        tail = "\n".join(said.strip().splitlines()[-LOG_TAIL_LINES:])
        kind = PortTakenError if "Address already in use" in said else ServerStartError
        return kind(f"the throwaway PostgreSQL did not start on port {self.port}:\n{tail}")


@contextmanager
def throwaway_cluster(
    *,
    settings: Mapping[str, str] = MappingProxyType({}),
    directory: Path | None = None,
    keep: bool = False,
) -> Iterator[Cluster]:
    """A new, running PostgreSQL server, in C locale and UTF-8, that is gone after the block.

    It is stopped and removed however the block ends: also by an exception, Ctrl-C, SIGTERM or
    SIGHUP (SIGKILL leaves it behind). Takes about a second.

    Args:
        settings: lines of `postgresql.conf`, over `DEFAULT_SETTINGS`; the port and the places it
            listens at are chosen here.
        directory: where to put it, a new or empty directory; a temporary one by default.
        keep: leave it running after the block.

    Raises:
        MissingExtraError: there are no server programs on this machine.
        ServerStartError: it did not start; nothing of it is left.
    """
    with termination_unwinds():
        cleanup = ExitStack()
        try:
            with uninterrupted():
                cluster = _create(settings, directory, cleanup)
            if keep:
                cleanup.pop_all()
            yield cluster
        finally:
            with uninterrupted():
                cleanup.close()


def start_on_free_port(
    cluster: Cluster, settings: Mapping[str, str], ports: Sequence[int]
) -> Cluster:
    """`cluster`, configured and running on the first of `ports` that nobody else has taken.

    Raises:
        ServerStartError: it did not start; PortTakenError where all ports were taken.
    """
    for port in ports[:-1]:
        with suppress(PortTakenError):
            return _start_on(port, cluster, settings)
    return _start_on(ports[-1], cluster, settings)


def _start_on(port: int, cluster: Cluster, settings: Mapping[str, str]) -> Cluster:
    placed = replace(cluster, port=port)
    _configure(placed, settings)
    placed.start()
    return placed


def _free_ports() -> list[int]:
    """Ports that nobody listens on now; somebody may by the time one is used, hence several."""
    with ExitStack() as probes:
        opened = [probes.enter_context(socket.socket()) for _ in range(PORT_ATTEMPTS)]
        for probe in opened:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in opened]


def _create(settings: Mapping[str, str], directory: Path | None, cleanup: ExitStack) -> Cluster:
    account = server_account()
    bin_dir = runnable_binaries(find_binaries(), account)
    root = _root_directory(directory, account, cleanup)
    cluster = Cluster(
        bin_dir=bin_dir,
        data_dir=_hand_over(_new_directory(root / "data"), account, cleanup),
        socket_dir=_hand_over(_socket_directory(root), account, cleanup),
        port=0,
    )
    cleanup.callback(cluster.config_file.unlink, missing_ok=True)
    _initialise(cluster, account)
    cleanup.callback(_end, cluster)
    return start_on_free_port(cluster, settings, _free_ports())


def _end(cluster: Cluster) -> None:
    try:
        cluster.stop("immediate")
    except AuditError:
        cluster.kill()


def _root_directory(directory: Path | None, account: Account | None, cleanup: ExitStack) -> Path:
    root, is_new = _found_or_made(directory, account)
    if is_new:
        cleanup.callback(_remove_if_empty, root)
        root.chmod(0o700 if account is None else 0o755)
    elif any(root.iterdir()):
        raise ServerStartError(f"{root} is not empty", hint="choose a new directory")
    if account is not None and not account.can_reach(root):
        raise ServerStartError(
            f"the server runs as {account.name}, who cannot reach {root}",
            hint="choose a directory that everybody may enter, such as one under /tmp",
        )
    return root


def _found_or_made(directory: Path | None, account: Account | None) -> tuple[Path, bool]:
    """The directory, and whether it is new."""
    if directory is None:
        parent = temporary_directory(account)
        return Path(tempfile.mkdtemp(prefix="audit-toolkit-", dir=parent)), True
    root = directory.absolute()
    try:
        root.mkdir()
    except FileExistsError:
        return root, False
    except OSError as error:
        raise ServerStartError(f"cannot make the directory {root}: {error.strerror}") from error
    return root, True


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):  # somebody has put something into it
        directory.rmdir()


def _new_directory(path: Path) -> Path:
    path.mkdir(mode=0o700)
    return path


def _socket_directory(root: Path) -> Path:
    inside = root / "socket"
    if len(os.fsencode(inside / ".s.PGSQL.65535")) <= SOCKET_PATH_BYTES:
        return _new_directory(inside)
    return Path(tempfile.mkdtemp(prefix="audit-toolkit-", dir="/tmp"))


def _hand_over(path: Path, account: Account | None, cleanup: ExitStack) -> Path:
    cleanup.callback(shutil.rmtree, path)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    return path


def _initialise(cluster: Cluster, account: Account | None) -> None:
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    answer = run_as(account, [cluster.bin_dir / "initdb", "-D", cluster.data_dir, *options])
    if answer.returncode != 0:
        raise ServerStartError(f"initdb failed: {answer.stderr.strip()}")


def _configure(cluster: Cluster, settings: Mapping[str, str]) -> None:
    chosen = {
        **DEFAULT_SETTINGS,
        **settings,
        "listen_addresses": "127.0.0.1",
        "port": str(cluster.port),
        "unix_socket_directories": str(cluster.socket_dir),
    }
    lines = [f"include {_quoted(str(cluster.data_dir / 'postgresql.conf'))}"]
    lines += [f"{name} = {_quoted(value)}" for name, value in chosen.items()]
    cluster.config_file.write_text("\n".join(lines) + "\n")
    cluster.config_file.chmod(0o644)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("'", "''")
    return f"'{escaped}'"
