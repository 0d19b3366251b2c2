"""The bed of the tests: the plugins with the fixtures, and an environment that nobody has set."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no finding.
settings.register_profile("audit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("audit")

pytest_plugins = [
    "tests.plugins.cluster",
    "tests.plugins.database",
    "tests.plugins.golden",
    "tests.plugins.proofs",
    "tests.plugins.project",
    "tests.plugins.trail",
    "tests.plugins.rotating",
    "tests.plugins.command",
    "tests.plugins.buckets",
]

KEPT = ("AUDIT_PG_BIN", "AUDIT_TEST_DSN")
PREFIXES = ("ALEMBIC_", "AUDIT_", "PG")
# What makes Rich and Typer colour and wrap the command line's output.
TERMINAL = (
    "CLICOLOR CLICOLOR_FORCE COLUMNS FORCE_COLOR GITHUB_ACTIONS LINES NO_COLOR PY_COLORS"
    " TERMINAL_WIDTH TTY_COMPATIBLE TTY_INTERACTIVE"
)
NAMES = {"DATABASE_URL", *TERMINAL.split()}
VALUES = 3
"""Of a test with more values than these, each of which makes a database, every run takes so many."""


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    """Forget what the caller's environment says to the toolkit, libpq and the terminal.

    A run in the background has signals ignored, and so had every program that the tests start.
    """
    gc.set_threshold(50_000)  # collecting tests makes a great many objects, and frees few
    for number, action in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, action)
    for name in list(os.environ):
        if name in NAMES or (name.startswith(PREFIXES) and name not in KEPT):
            del os.environ[name]
    os.environ["TZ"] = "UTC"  # golden files show times, which are local
    time.tzset()


@pytest.hookimpl(tryfirst=True)  # before -m is heeded
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most values of a test with many to `nox -s thorough`: every run takes some, spread evenly, and the last."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        makes = isinstance(item, pytest.Function) and "make_database" in item.fixturenames
        if makes and item.get_closest_marker("thorough") is None:
            function = item.nodeid.partition("[")[0]
            tests.setdefault(function, []).append(item)
    for values in tests.values():
        last = len(values) - 1
        always = {round(place * last / (VALUES - 1)) for place in range(VALUES)}
        for place, item in enumerate(values):
            if place not in always and last >= VALUES:
                item.add_marker(pytest.mark.thorough)


def pytest_collection(session: pytest.Session) -> None:
    """Let each worker of a whole run compile other modules first, rather than all of them the same ones at once.

    Rewriting the asserts is half of the time that a worker needs to find its tests, and it keeps what it made.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    modules = sorted(Path(__file__).parent.rglob("test_*.py"))
    start = len(modules) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for module in modules[start:] + modules[:start]:
        name = ".".join(module.relative_to(session.config.rootpath).with_suffix("").parts)
        with suppress(Exception):  # which collecting it will tell
            importlib.import_module(name)
