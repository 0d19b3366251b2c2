"""Celery: a real worker, in a thread, on a broker in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery  # type: ignore[import-untyped]
from celery.contrib.testing.worker import start_worker  # type: ignore[import-untyped]
from sqlalchemy import Engine, text

import audit_toolkit
from tests.context.blocks import block
from tests.context.conftest import Shop


@pytest.fixture
def insert_order(make_engine: Callable[..., Engine]) -> Iterator[Any]:
    """A task of the application of the documentation, a new one for each test."""
    app: Celery = block("Celery(", BROKER="memory://")["app"]
    app.conf.update(result_backend="cache+memory://", worker_hijack_root_logger=False)
    engine = make_engine()
    audit_toolkit.attach(engine)

    @app.task(name="insert_order", shared=False)  # type: ignore[untyped-decorator]
    def insert_order(note: str) -> None:
        with engine.begin() as connection:
            connection.execute(text("insert into orders (note) values (:note)"), {"note": note})
        if note == "fails":
            raise ValueError(note)

    yield insert_order
    app.close()


@pytest.mark.thorough
def test_tasks_run_in_the_context_they_were_sent_in(shop: Shop, insert_order: Any) -> None:
    results = {}
    for note in ("one", "fails", "two"):
        with audit_toolkit.context(actor=f"user:{note}", request_id="r1"):
            results[note] = insert_order.delay(note)
    results["nobody"] = insert_order.delay("nobody")
    with start_worker(insert_order.app, pool="solo", perform_ping_check=False):
        for result in results.values():
            result.get(timeout=60, propagate=False)
    expected: dict[str, Any] = {
        note: {
            "actor": f"user:{note}",
            "request_id": "r1",
            "task": "insert_order",
            "task_id": results[note].id,
        }
        for note in ("one", "fails", "two")
    }
    expected["nobody"] = {"task": "insert_order", "task_id": results["nobody"].id}
    assert shop.contexts() == expected


def test_a_task_leaves_no_context_behind(insert_order: Any) -> None:
    with audit_toolkit.context(actor="a"):
        insert_order.apply(args=["eager"])
        assert audit_toolkit.current_context() == {"actor": "a"}
