"""Rotation under load: writers, long readers and sessions idle in transaction, while months go by.

The default run is a short one. The whole proof (16 writers, 24 months) is `nox -s rotation-proof`, which sets
ROTATION_PROOF=1. The clock that the trail's default asks is moved between runs. A write that waits for twice
the lock timeout of maintenance gives up: it fails, and is counted.
"""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from audit_toolkit.partitions import Policy
from tests.partitions.load import MONTHS, READERS, WRITERS, deadlocks, events, under_load
from tests.plugins.rotating import START, Rotating, months


@pytest.mark.thorough
def test_months_of_rotation_under_load(orders: Rotating) -> None:
    now, results, created = START, [], 0
    orders.policy = Policy(retention=months(3), drop=False)
    with under_load(orders) as load:
        for _ in range(MONTHS):
            now += timedelta(days=30)
            orders.execute("update clock set at = %s", [now])
            results += orders.run(now)
    # What waited for a reader comes with the next run; after two more, nothing is left.
    results += orders.run(now) + orders.run(now)
    failed = [outcome.message for outcome in results if outcome.result == "failed"]
    created = sum(outcome.stage == "create" for outcome in results)
    detached = sum(outcome.stage == "detach" for outcome in results)
    print(
        f"\n{MONTHS} months, {WRITERS} writers, {READERS} readers: {load.writes} writes,"
        f" {len(load.failures)} failed, the longest took {load.longest * 1000:.0f} ms;"
        f" {load.reads} reads; {created} creations, {detached} detaches, {len(failed)} tries failed;"
        f" {deadlocks(orders)} deadlocks"
    )
    assert load.failures == []
    assert events(orders) == load.writes == orders.execute("select count(*) from orders")[0][0]
    assert deadlocks(orders) == 0
    assert detached >= MONTHS - 4
    assert created >= 2
    assert orders.findings() == {}


def test_a_tail_in_use_is_relabelled_under_load(orders: Rotating) -> None:
    """Maintenance was dead for a year, and comes back while everybody writes into the tail."""
    now = START + timedelta(days=365)
    orders.execute("update clock set at = %s", [now])
    with under_load(orders) as load:
        while load.writes < 50:
            time.sleep(0.01)
        tail = orders.read().tail
        assert tail is not None
        assert tail.has_rows
        outcomes = orders.run(now)
        while any(outcome.result != "done" for outcome in outcomes):
            outcomes = orders.run(now)
        written = load.writes
        while load.writes < written + 50:
            time.sleep(0.01)
    print(
        f"\nrelabelled under {WRITERS} writers: {load.writes} writes, {len(load.failures)} failed,"
        f" the longest took {load.longest * 1000:.0f} ms"
    )
    assert load.failures == []
    assert events(orders) == load.writes
    assert orders.findings() == {}
