"""`audit status`: what people ask first."""

from __future__ import annotations

import json

import pytest

from audit_toolkit.capture import status
from tests.plugins.command import Audit
from tests.plugins.trail import Trail

SHOP = """
    create table orders (id int primary key, status text);
    create table customers (id int primary key, email text);
    create table notes (id int);
    create unlogged table cache (id int);
    create foreign data wrapper far;
    create server away foreign data wrapper far;
    create foreign table remote (id int) server away
"""


def shop(trail: Trail) -> None:
    trail.execute(SHOP)
    trail.audit("orders", store="changes")
    trail.audit("customers")
    trail.execute("insert into orders values (1, 'new'); update orders set status = 'paid'")


def test_every_table_with_its_rule_and_events(trail: Trail, audit: Audit) -> None:
    shop(trail)
    trail.execute('alter table customers disable trigger "00_audit_row"')
    answer = audit("status", "--format", "json")
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    customers, orders = found["audited"]
    assert (orders["table"], orders["state"], orders["capture"]) == ("public.orders", "on", "row")
    assert (orders["events"], orders["gaps"]) == (2, 0)
    assert orders["options"] == {"store": "changes"}
    assert orders["bytes"] > 100
    assert orders["since"] < orders["last_event"]
    assert (customers["state"], customers["events"], customers["last_event"]) == ("off", 0, None)
    not_audited = {one["table"]: one["why"] for one in found["not_audited"]}
    assert not_audited["public.notes"] == "capture is not installed"
    assert "foreign table" in not_audited["public.remote"]
    assert "postgres" in found["readers"]
    assert (found["estimated"], found["readable"], found["partitions"] > 5) == (False, True, True)


def test_a_renamed_table_keeps_its_events(trail: Trail, audit: Audit) -> None:
    shop(trail)
    trail.execute("alter table orders rename to purchases; create table orders (id int)")
    before = json.loads(audit("status", "--format", "json").stdout)["audited"]
    trail.execute("insert into purchases values (2, 'new')")
    after = json.loads(audit("status", "--format", "json").stdout)["audited"]
    (first, then) = (
        next(t for t in each if t["table"] == "public.purchases") for each in (before, after)
    )
    assert (first["events"], first["state"]) == (2, "on")
    assert then["events"] == 4  # the rename is an event, too
    assert first["since"] == then["since"] is not None


def test_for_people(trail: Trail, audit: Audit) -> None:
    shop(trail)
    answer = audit("status")
    assert answer.exit_code == 0, answer.output
    assert "audited (2):\n" in answer.stdout
    assert "  public.orders: row, since " in answer.stdout
    assert "    --store changes\n" in answer.stdout
    assert "    2 events, " in answer.stdout
    assert "  public.notes: capture is not installed\n" in answer.stdout
    assert "readable by: " in answer.stdout


def test_whoever_may_not_read_events_sees_the_rest(trail: Trail, audit: Audit) -> None:
    shop(trail)
    role = f"looker_{trail.database.name[-8:]}"
    trail.execute(f"create role {role} login")
    try:
        dsn = trail.database.dsn.replace("postgres@", f"{role}@")
        answer = audit("status", "--format", "json", "--dsn", dsn)
        assert answer.exit_code == 0, answer.output
        found = json.loads(answer.stdout)
        assert (found["readable"], found["audited"][1]["events"]) == (False, None)
    finally:
        trail.execute(f"drop role {role}")


def test_a_large_trail_is_estimated(
    trail: Trail, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(trail)
    trail.execute("insert into orders select n, 'x' from generate_series(10, 3009) as n")
    trail.execute("vacuum analyze audit.logged_actions")
    monkeypatch.setattr(status, "EXACT_BELOW", 1500)
    found = json.loads(audit("status", "--format", "json").stdout)
    orders = found["audited"][1]
    assert found["estimated"]
    assert orders["table"] == "public.orders"
    assert 300 < orders["events"] < 30_000
