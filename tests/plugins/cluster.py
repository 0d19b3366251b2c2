"""The PostgreSQL server of the run: a throwaway one, or the one that `AUDIT_TEST_DSN` names.

With pytest-xdist each worker starts its own.
"""

from __future__ import annotations

import operator
import os
import re
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from audit_toolkit.demo.binaries import binaries_version, find_binaries
from audit_toolkit.demo.cluster import throwaway_cluster
from audit_toolkit.errors import AuditError

VARIABLE = "AUDIT_TEST_DSN"
MEMORY = Path("/dev/shm")  # noqa: S108
ROOM_BYTES = 2 * 1024**3
DESCRIPTION = pytest.StashKey[str]()
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}


@dataclass(frozen=True, slots=True)
class Server:
    """The server that the tests talk to, as a role that may create databases and roles."""

    url: str
    version: int
    """The major version, as in 18."""
    bin_dir: Path | None
    """Its programs, where we know them."""

    def dsn(self, database: str = "postgres") -> str:
        """The URL of one of its databases."""
        return urlsplit(self.url)._replace(path=f"/{quote(database, safe='')}").geturl()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Server]:
    """The server of the run."""
    with ExitStack() as stack:
        with _without_a_server_the_run_ends():
            server = _given() or _own(stack)
        yield server


@pytest.fixture(autouse=True)
def _version_asked_for(request: pytest.FixtureRequest) -> None:
    """Skip a test whose mark `pg(">= 15")` the server does not meet."""
    mark = request.node.get_closest_marker("pg")
    if mark is None:
        return
    server: Server = request.getfixturevalue("cluster")
    if not meets(server.version, mark.args[0]):
        pytest.skip(f"needs PostgreSQL {mark.args[0]}, the server is {server.version}")


@pytest.fixture
def prepares(cluster: Server) -> None:
    """Skip a test that prepares transactions on a server that allows none."""
    with psycopg.connect(cluster.dsn()) as connection:
        if connection.execute("show max_prepared_transactions").fetchone() == ("0",):
            pytest.skip("max_prepared_transactions is 0 here")


def meets(version: int, spec: str) -> bool:
    """Whether a major version meets a condition such as `>= 15`.

    Raises:
        ValueError: the condition is no comparison with a number.
    """
    found = re.fullmatch(r"(<=|<|==|>=|>) *(\d+)", spec)
    if found is None:
        raise ValueError(f'not a condition such as ">= 15": {spec!r}')
    return COMPARISONS[found[1]](version, int(found[2]))


def pytest_sessionstart(session: pytest.Session) -> None:
    """End the run at once where there is no server, rather than fail its tests one by one.

    SIGTERM ends it as well, where SystemExit would only fail the test that it hits.
    """
    signal.signal(signal.SIGTERM, _end_the_run)
    if not hasattr(session.config, "workerinput"):  # of pytest-xdist, which has asked already
        with _without_a_server_the_run_ends():
            session.config.stash[DESCRIPTION] = _description()


def _end_the_run(number: int, _frame: FrameType | None) -> None:
    pytest.exit(signal.Signals(number).name, returncode=128 + number)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """The line of the report's header that says what server this run is about."""
    asked = config.stash.get(DESCRIPTION, None)  # not in the workers of pytest-xdist
    return [f"postgres: {asked}"] if asked else []


def _description() -> str:
    server = _given()
    if server is not None:
        return f"{server.version}, the server of {VARIABLE}"
    binaries = find_binaries()
    return f"{binaries_version(binaries)}, throwaway, from {binaries}"


@contextmanager
def _without_a_server_the_run_ends() -> Iterator[None]:
    try:
        yield
    except (AuditError, psycopg.Error) as error:
        if "PYTEST_XDIST_WORKER" in os.environ:
            raise  # pytest-xdist would take the end of a worker for a crash, and hide the reason
        pytest.exit(f"no PostgreSQL to test against: {error}", returncode=1)


def _given() -> Server | None:
    url = os.environ.get(VARIABLE)
    return None if not url else _server(url, bin_dir=None)


def _own(stack: ExitStack) -> Server:
    """A server without what costs a fifth of a short-lived database and no test looks at."""
    settings = {"autovacuum": "off", "max_prepared_transactions": "5"}
    memory = directory_in_memory()
    if int(re.split(r"\D", binaries_version(find_binaries()))[0]) >= 18:
        settings["io_method"] = "sync"  # memory needs no workers to read it
        if memory:
            settings["file_copy_method"] = "clone"  # a new database takes a fifth less time
    cluster = stack.enter_context(throwaway_cluster(settings=settings, directory=memory))
    return _server(cluster.dsn(), cluster.bin_dir)


def directory_in_memory() -> Path | None:
    """A directory of which no file reaches a disk, if there is room: a new database is hundreds of
    files, which take 10 ms in memory and up to 200 ms on a disk.
    """
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        return None
    return MEMORY / f"audit-toolkit-tests-{secrets.token_hex(8)}"


def _server(url: str, bin_dir: Path | None) -> Server:
    with psycopg.connect(url) as connection:
        return Server(url, connection.info.server_version // 10000, bin_dir)
