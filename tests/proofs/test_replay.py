"""Random tables, statements, sessions and migrations: after each commit, replaying the trail gives the table.

`pytest tests/proofs/test_replay.py --replay-examples 20000` does more of it (`nox -s replay`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.plugins.proofs import ShowFigures
from tests.plugins.replay import BrokenTrailError
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail
from tests.proofs.bench import PLAIN, Bench
from tests.proofs.controls import CONTROLS, ByHandMachine, OverlooksTruncate, PairsByKey
from tests.proofs.machine import ReplayMachine
from tests.proofs.palette import PREPARE

PER_DATABASE = 500

SETTINGS = settings(
    stateful_step_count=30,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate],  # a failure is shown as it was met: shrinking takes minutes
    suppress_health_check=list(HealthCheck),
)


def run(machine: type[ReplayMachine], bench: Bench, examples: int, **more: Any) -> None:
    bound = type(machine.__name__, (machine,), {"bench": bench})
    run_state_machine_as_test(bound, settings=settings(SETTINGS, max_examples=examples, **more))


@pytest.fixture
def bench(trail: Trail) -> Iterator[Bench]:
    trail.execute(PREPARE)
    with psycopg.connect(trail.database.dsn, autocommit=True) as checker:
        checker.execute(PLAIN)
        yield Bench(trail.database.dsn, checker, checker.info.server_version // 10000)
    trail.execute("drop owned by audit_app; drop role audit_app")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Share the examples out to databases, as each is slower in one that has had thousands of tables."""
    if "examples" in metafunc.fixturenames:
        rest = metafunc.config.getoption("--replay-examples")
        shares = [PER_DATABASE] * (rest // PER_DATABASE) + [rest % PER_DATABASE]
        metafunc.parametrize("examples", [share for share in shares if share])


def test_replay_equals_the_table_after_every_commit(
    bench: Bench, examples: int, show_figures: ShowFigures
) -> None:
    run(ReplayMachine, bench, examples)
    show_figures(str(bench))


@pytest.mark.thorough
def test_the_capture_that_controls_break_is_right_before(bench: Bench) -> None:
    run(ByHandMachine, bench, 8)


@pytest.mark.parametrize("machine", some_quick(CONTROLS, [OverlooksTruncate, PairsByKey]))
def test_control_broken_capture_is_found(
    bench: Bench, machine: type[ReplayMachine], show_figures: ShowFigures
) -> None:
    with pytest.raises(BrokenTrailError):
        run(machine, bench, 500, derandomize=True)
    show_figures(f"found by example {bench.examples}")
