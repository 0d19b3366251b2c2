"""Goal 7: what reading costs in a trail of millions, and a partition run that has nothing to do."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from audit_toolkit.partitions import Policy, Run, Stage
from audit_toolkit.trail import history
from benchmarks.backend import Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Milliseconds."""

    events: int
    history: float
    """In the server, for the history of one row."""
    idle_run: float
    """From beginning to end, for the partition run."""


def read_trail(dsn: str, events: int) -> Reading:
    """Both, on a database with so many events; medians of ten."""
    with Backend(dsn) as backend:
        backend.run("vacuum (analyze) audit.logged_actions")
        run = Run(connection=backend.connection, schema="audit", policy=Policy())
        for stage in Stage:
            run.stage(stage)  # what there is to do is done
        return Reading(
            events=events,
            history=statistics.median(_history(backend, str(key)) for key in range(1, 11)),
            idle_run=statistics.median(_idle_run(run) for _ in range(10)),
        )


def _history(backend: Backend, key: str) -> float:
    before = backend.cpu_time()
    history(backend.connection, "orders", key)
    return (backend.cpu_time() - before) / 1_000_000


def _idle_run(run: Run) -> float:
    begin = time.perf_counter()
    for stage in Stage:
        run.stage(stage)
    return (time.perf_counter() - begin) * 1000
