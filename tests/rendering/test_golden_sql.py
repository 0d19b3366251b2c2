from __future__ import annotations

from typing import Any

import pytest

from audit_toolkit.capture import plan_capture, plan_uninstall
from audit_toolkit.config import (
    Interval,
    TrailSettings,
)
from audit_toolkit.schema import plan_trail
from tests.plugins.golden import Golden
from tests.plugins.trail import SCHEMA, Trail
from tests.rendering.cases import (
    CASES,
    ORDERS,
)


@pytest.mark.parametrize("case", CASES)
def test_capture(case: str, trail: Trail, golden: Golden) -> None:
    ddl, table, rule = CASES[case]
    trail.execute(ddl)
    script = plan_capture(trail.target(table, **rule), SCHEMA).as_sql()
    golden(f"capture/{case}.sql", script)
    # What is printed is what runs, and running it twice changes nothing.
    trail.execute(script)
    trail.execute(script)


@pytest.mark.parametrize("interval", Interval)
def test_trail(interval: Interval, database: Any, golden: Golden) -> None:
    script = plan_trail(TrailSettings(interval=interval)).as_sql()
    golden(f"trail/{interval}.sql", script)
    database.execute(script)
    database.execute(script)


def test_release(trail: Trail, golden: Golden) -> None:
    trail.execute(ORDERS)
    target = trail.target("orders")
    trail.audit("orders")
    script = plan_uninstall(target.table.name, SCHEMA).as_sql()
    golden("capture/release.sql", script)
    trail.execute(script)
    assert trail.execute("select tgname from pg_trigger where tgrelid = 'orders'::regclass") == []


def test_taking_the_trail_back(golden: Golden) -> None:
    golden("trail/undo.sql", ";\n\n".join(plan_trail(TrailSettings()).undo) + ";\n")
