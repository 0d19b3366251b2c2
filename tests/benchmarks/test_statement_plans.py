"""The plan of statement mode: kept over calls, so it may never pair rows by a nested loop."""

from __future__ import annotations

import pytest

from audit_toolkit.config import Capture
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, note text)"
CALLS = 8
"""After five calls PL/pgSQL may keep one plan for all further ones."""


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders", capture=Capture.STATEMENT)
    trail.execute("insert into orders select g, 'a' from generate_series(1, 3000) as g")
    return trail


def plans_of(trail: Trail, *statements: str) -> str:
    """Every plan tree that the planner makes meanwhile, as the server prints it."""
    plans: list[str] = []

    def note(diagnostic: object) -> None:
        plans.append(str(getattr(diagnostic, "message_detail", "")))

    trail.connection.add_notice_handler(note)
    trail.execute(
        "set debug_print_plan = on; set debug_pretty_print = off; set client_min_messages = log"
    )
    for statement in statements:
        trail.execute(statement)
    trail.execute("reset client_min_messages; reset debug_print_plan")
    trail.connection.remove_notice_handler(note)
    return "\n".join(plan for plan in plans if "logged_actions" in plan or "WINDOWAGG" in plan)


def test_many_rows_are_never_paired_by_a_nested_loop(orders: Trail) -> None:
    few = ["update orders set note = note || 'b' where id <= 2"] * CALLS
    plans = plans_of(orders, *few, "update orders set note = note || 'c'")
    assert "WINDOWAGG" in plans
    assert "HASHJOIN" in plans or "MERGEJOIN" in plans
    assert "NESTLOOP" not in plans


def test_control_the_pair_of_one_row_is_a_nested_loop(orders: Trail) -> None:
    plans = plans_of(orders, "update orders set note = note || 'b' where id = 1")
    assert "NESTLOOP" in plans
    assert "WINDOWAGG" not in plans


@pytest.mark.parametrize("rows", [0, 1, 2, 3000])
def test_after_many_single_row_statements(orders: Trail, rows: int) -> None:
    for number in range(CALLS):
        orders.execute(f"update orders set note = 'n{number}' where id = 7")
    before = len(orders.events())
    orders.execute(f"update orders set note = 'many', id = id + 3000 where id <= {rows}")
    events = orders.events()[before:]
    assert len(events) == rows
    for event in events:
        assert event["new_row"] == {"id": int(event["old_row_key"]) + 3000, "note": "many"}
        assert event["old_row"]["id"] == int(event["old_row_key"])
        assert event["row_key"] == str(event["new_row"]["id"])
