"""The operating system's side of a throwaway server: users, processes, signals. POSIX only.

PostgreSQL refuses to run as root. Root therefore starts it as `nobody`, a user that owns nothing:
no account is created, and no file or directory but the server's own changes its owner or mode.
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from audit_toolkit.errors import ServerStartError

LENT_USERS = ("nobody", "postgres")
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Account:
    """A user that root starts the server as."""

    name: str
    uid: int
    gid: int

    def can_reach(self, directory: Path) -> bool:
        """Whether the account may pass through `directory` and everything above it."""
        return all(self._may_pass(step.stat()) for step in (directory, *directory.parents))

    def _may_pass(self, status: os.stat_result) -> bool:
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


def server_account() -> Account | None:
    """The account for the server's processes; None where they run as oneself, that is, not as root.

    Raises:
        ServerStartError: the system has neither of the users that root could lend the server.
    """
    if os.geteuid() != 0:
        return None
    for name in LENT_USERS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerStartError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(LENT_USERS)}",
        hint="run the command as an ordinary user",
    )


def temporary_directory(account: Account | None) -> Path:
    """The system's temporary directory; for a lent account the first one that it can reach.

    Raises:
        ServerStartError: the account can reach none of them.
    """
    configured = Path(tempfile.gettempdir()).resolve()
    if account is None:
        return configured
    for candidate in (configured, Path("/tmp").resolve(), Path("/var/tmp").resolve()):  # noqa: S108
        if candidate.is_dir() and account.can_reach(candidate):
            return candidate
    raise ServerStartError(
        f"the user {account.name} can reach no temporary directory",
        hint="set TMPDIR to a directory that everybody may enter",
    )


def run_as(
    account: Account | None, command: Sequence[str | Path]
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as `account`, None being oneself, and give back what it said.

    It gets neither our environment, which may hold secrets and `PG…` variables, nor the terminal's
    Ctrl-C, which would end it half-way.

    Raises:
        ServerStartError: the program could not be run at all.
    """
    passed_on = ("PATH", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in passed_on if name in os.environ}
    try:
        return subprocess.run(
            command,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
            cwd="/",
            env=environment | {"HOME": "/nonexistent", "LC_ALL": "C"},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        user = "" if account is None else f" as {account.name}"
        raise ServerStartError(f"cannot run {command[0]}{user}: {error.strerror}") from error


def living() -> dict[int, int]:
    """All running processes, id to parent's id. Zombies, which wait to be collected, are dead."""
    return dict(_from_proc() if Path("/proc/self/stat").exists() else _from_ps())


def _from_proc() -> Iterator[tuple[int, int]]:
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            # The name before the last ")" may itself hold blanks and brackets.
            state, parent, *_ = file.read_text(errors="replace").rpartition(")")[2].split()
            if state not in "ZX":
                yield int(file.parent.name), int(parent)


def _from_ps() -> Iterator[tuple[int, int]]:
    for line in run_as(None, ["ps", "-A", "-o", "pid=,ppid=,state="]).stdout.splitlines():
        process, parent, state = line.split()
        if not state.startswith("Z"):
            yield int(process), int(parent)


def kill_family(parent: int, account: Account | None) -> None:
    """SIGKILL to a process of `account` and all its children, back when all are dead.

    Raises:
        TimeoutError: one of them did not die: it is in uninterruptible sleep, or not the account's.
    """
    _send("STOP", {parent}, account)  # from here on it starts nobody new
    family = {parent} | {process for process, above in living().items() if above == parent}
    _send("KILL", family, account)
    _wait_for_end(family)


def _send(name: str, processes: Collection[int], account: Account | None) -> None:
    # Sent by the account itself, so that root can never hit a process that is not the server's.
    run_as(account, ["/bin/sh", "-c", 'kill -s "$0" "$@"', name, *map(str, processes)])


def _wait_for_end(processes: Collection[int]) -> None:
    deadline = time.monotonic() + KILL_SECONDS
    while remaining := living().keys() & set(processes):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(remaining)} survive SIGKILL")
        time.sleep(0.01)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that no ending signal splits: the first one that comes is delivered behind it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    pending: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        pending.append(number)

    handlers = {number: signal.signal(number, note) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if pending:
            signal.raise_signal(pending[0])


@contextmanager
def termination_unwinds() -> Iterator[None]:
    """A block in which SIGTERM and SIGHUP raise SystemExit, so that `finally` clauses run.

    A handler that the program has set itself stays, and so does an ignored signal (nohup).
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    ours = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in ours:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
