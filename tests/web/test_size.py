"""The page on a long trail: `nox -s page-proof` sets PAGE_EVENTS=10000000 and prints what it measures."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from audit_toolkit.connection import connect
from audit_toolkit.web import create_app
from benchmarks.history import fill_history
from tests.plugins.database import Database
from tests.plugins.trail import install_trail
from tests.web.conftest import local

EVENTS = int(os.environ.get("PAGE_EVENTS", "0"))
PATHS = (
    "/",
    "/events",
    "/table?table=orders",
    "/row?table=orders&key=42",
    f"/events/{EVENTS // 2}",
    f"/transactions/{1_000_000 + EVENTS // 30}",
    f"/table?table=orders&before={EVENTS // 2}",
    "/search?q=42",
    "/deleted?table=orders",
    "/status",
    "/person?actor=nobody",
    "/person?actor=nobody&all=1",
)


@pytest.mark.skipif(not EVENTS, reason="nox -s page-proof sets PAGE_EVENTS")
def test_pages_of_a_long_trail(database: Database) -> None:
    install_trail(database.dsn)
    with connect(database.dsn) as connection:
        fill_history(connection, EVENTS)
    database.execute("vacuum analyze")
    client = local(create_app(database.dsn))
    client.get("/")
    for path in PATHS:
        began, cpu, server = time.perf_counter(), time.process_time(), server_cpu(database)
        response = client.get(path)
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        server = server_cpu(database) - server
        size = len(response.content)
        print(
            f"{path:45} {response.status_code} {size:8} bytes {wall * 1000:7.0f} ms; CPU: "
            f"{used * 1000:5.0f} ms here, {server * 1000:5.0f} ms in the server"
        )
        assert response.status_code in (200, 503)
        assert size < 100_000
    assert client.get("/").status_code == 200


def server_cpu(database: Database) -> float:
    """Seconds that all backends of the page have been on a CPU."""
    backends = database.execute(
        "select pid from pg_stat_activity where application_name = 'audit-toolkit/ui'"
    )
    return sum(
        int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9 for (pid,) in backends
    )
