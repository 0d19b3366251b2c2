"""Every verb through every source: the same answers, errors and transactions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

import audit_toolkit
from audit_toolkit import trail as verbs
from audit_toolkit.errors import AuditError, UnknownTableError, UsageError
from audit_toolkit.trail import ConflictError, OnConflict, Selection
from tests.plugins.trail import Trail
from tests.sources.conftest import Source
from tests.timetravel.words import now


def event_id(trail: Trail, place: int) -> int:
    return int(trail.events()[place]["event_id"])


def totals(trail: Trail) -> list[tuple[Any, ...]]:
    """What others see of the orders."""
    return trail.execute("select id, total::text from orders order by id")


def test_reading(orders: Trail, source: Source) -> None:
    feed = source.ask(verbs.history, "orders", 1, newest_first=True, limit=2)
    assert [sorted(event.changed) for event in feed] == [["total"], ["status"]]
    (event,) = source.ask(verbs.select_events, Selection(event_ids=(event_id(orders, 4),)))
    assert (event.action, event.row_key) == ("D", "2")
    (subject,) = source.ask(verbs.subjects_of, [event]).values()
    assert subject.columns == ("id", "status", "total")
    assert source.ask(verbs.find_subject, "orders", 1).key == "1"
    origins = source.ask(verbs.blame, "orders", 1)
    assert {o.column: o.value for o in origins} == {"id": 1, "status": "paid", "total": 5}


def test_time_travel(orders: Trail, source: Source) -> None:
    begin, end = orders.events()[1]["action_tstamp"], now(orders)
    assert source.ask(verbs.row_at, "orders", 2, begin)["status"] == "new"
    rows = source.first(None, verbs.table_at, "orders", begin)
    assert sorted(row["id"] for row in rows) == [1, 2]
    found = source.first(None, verbs.diff, "orders", begin, end)
    assert [(d.key, d.after is None) for d in found] == [("1", False), ("2", True)]
    subject = source.ask(verbs.find_subject, "orders")
    assert len(source.first(None, verbs.stream_events, subject)) == 5
    images = source.first(None, verbs.stream_table_at, subject, end)
    assert [json.loads(image)["total"] for image in images] == [5]
    lines = b"".join(source.first(None, verbs.copy_table_at, subject, end)).splitlines()
    assert lines == [b"id,status,total", b"1,paid,5"]


def test_many_rows(orders: Trail, source: Source) -> None:
    orders.execute("insert into orders select g, 'new', 0 from generate_series(10, 1209) g")
    rows = source.first(None, verbs.table_at, "orders", now(orders))
    assert sorted(row["id"] for row in rows) == [1, *range(10, 1210)]
    subject = source.ask(verbs.find_subject, "orders")
    assert len(source.first(None, verbs.stream_events, subject)) == 1205


def test_putting_back(orders: Trail, source: Source) -> None:
    selection = Selection(event_ids=(event_id(orders, 3), event_id(orders, 4)))
    assert source.ask(verbs.plan_revert, selection).rows == 2
    assert source.ask(verbs.apply_revert, selection, reason="a mistake").rows == 2
    before = orders.events()[1]["action_tstamp"]
    assert source.ask(verbs.plan_restore, "orders", 1, at=before).rows == 1
    source.ask(verbs.apply_restore, "orders", 1, at=before)
    source.end("commit")
    assert orders.execute("table orders order by 1") == [(1, "new", Decimal("1.10")), (2, "new", 2)]
    contexts = [event["context"] for event in orders.events()[5:]]
    assert contexts[0] == {"reverts": {"events": list(selection.event_ids)}, "reason": "a mistake"}
    assert contexts[-1]["restores"]["row_key"] == "1"


def test_an_undo_is_part_of_the_transaction(orders: Trail, source: Source) -> None:
    selection = Selection(event_ids=(event_id(orders, 4),))
    source.execute("update orders set total = 6")
    source.ask(verbs.apply_revert, selection)
    assert totals(orders) == [(1, "5")]
    source.end("rollback")
    assert totals(orders) == [(1, "5")]
    source.execute("update orders set total = 6")
    source.ask(verbs.apply_revert, selection)
    source.end("commit")
    assert totals(orders) == [(1, "6"), (2, "2")]


def test_sqlalchemy_decides_even_if_the_undo_comes_first(orders: Trail, source: Source) -> None:
    if isinstance(source.source, psycopg.Connection | psycopg.AsyncConnection):
        pytest.skip("psycopg's own transaction() commits where none was begun")
    selection = Selection(event_ids=(event_id(orders, 4),))
    for how, expected in (("rollback", [(1, "5")]), ("commit", [(1, "5"), (2, "2")])):
        source.ask(verbs.apply_revert, selection)
        assert totals(orders) == [(1, "5")]
        source.end(how)
        assert totals(orders) == expected


def test_errors_are_the_same(orders: Trail, source: Source) -> None:
    with pytest.raises(UnknownTableError, match="table 'order' does not exist") as unknown:
        source.ask(verbs.history, "order", 1)
    assert "orders" in (unknown.value.hint or "")
    with pytest.raises(UsageError, match=r"'x' cannot be a key of public.orders"):
        source.ask(verbs.history, "orders", "x")
    with pytest.raises(UsageError, match="has no time zone"):
        source.first(None, verbs.table_at, "orders", datetime(2026, 11, 1))  # noqa: DTZ001
    updated = Selection(event_ids=(event_id(orders, 2),))
    orders.execute("update orders set status = 'sent'")
    with pytest.raises(ConflictError) as conflict:
        source.ask(verbs.apply_revert, updated)
    assert conflict.value.conflicts[0].present == {"status": "sent"}
    source.ask(verbs.apply_revert, updated, on_conflict=OnConflict.FORCE)
    source.end("commit")
    assert orders.execute("select status from orders") == [("new",)]


def test_errors_of_the_server_are_told_apart(orders: Trail, source: Source) -> None:
    moment = now(orders)
    orders.execute("alter table orders alter status type int using 0")
    with pytest.raises(AuditError, match="cannot be read as the present type"):
        source.first(None, verbs.table_at, "orders", moment)
    assert source.execute("select 1") == [(1,)]
    with pytest.raises(AuditError, match="could not apply the revert: invalid input"):
        source.ask(verbs.apply_revert, Selection(event_ids=(event_id(orders, 4),)))
    assert source.execute("select 1") == [(1,)]


def test_leaving_early_ends_cursor_and_transaction(orders: Trail, source: Source) -> None:
    orders.execute("insert into orders select g, 'new', 0 from generate_series(10, 1209) g")
    source.execute("set local timezone = 'Asia/Tokyo'")
    subject = source.ask(verbs.find_subject, "orders")
    begin = now(orders) - timedelta(days=1)
    for verb, *args in (
        (verbs.table_at, "orders", now(orders)),
        (verbs.stream_table_at, subject, now(orders)),
        (verbs.copy_table_at, subject, now(orders)),
        (verbs.stream_events, subject),
        (verbs.diff, "orders", begin, now(orders)),
    ):
        assert len(source.first(1, verb, *args)) == 1
        assert source.execute("select name from pg_cursors where name like 'audit%'") == []
        assert source.execute("show timezone") == [("Asia/Tokyo",)]
    source.execute("update orders set total = 7 where id = 1")
    source.end("commit")
    assert orders.execute("select total from orders where id = 1") == [(7,)]


def test_the_context_of_python_is_carried_by_an_undo(orders: Trail, source: Source) -> None:
    selection = Selection(event_ids=(event_id(orders, 4),))
    with audit_toolkit.context(actor="user:42"):
        source.ask(verbs.apply_revert, selection, reason="undo button")
        source.end("commit")
    assert orders.events()[-1]["context"] == {
        "actor": "user:42",
        "reason": "undo button",
        "reverts": {"events": list(selection.event_ids)},
    }


def test_the_future_sees_the_present(orders: Trail, source: Source) -> None:
    row = source.ask(verbs.row_at, "orders", 1, datetime.now(UTC) + timedelta(hours=1))
    assert row["status"] == "paid"
