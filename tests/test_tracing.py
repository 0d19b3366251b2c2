"""Spans of OpenTelemetry: of workers and verbs, with counts and no data of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from typer.testing import CliRunner

from audit_toolkit import trail as verbs
from audit_toolkit.cli.app import app
from audit_toolkit.errors import AuditError, UnknownTableError
from audit_toolkit.seals.keys import new_key, write_key
from audit_toolkit.stream import Terms
from tests.plugins.trail import Trail
from tests.stream.delivery import Memory, deliver

Spans = Callable[[], dict[str, ReadableSpan]]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """What was traced so far, by name."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return lambda: {span.name: span for span in exporter.get_finished_spans()}


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute("create table orders (id int primary key, v int)")
    trail.audit("orders")
    trail.execute("insert into orders values (4711, 1), (4712, 1)")
    return trail


def test_verbs(orders: Trail, spans: Spans) -> None:
    assert len(verbs.history(orders.connection, "orders", 4711)) == 1
    assert len(list(verbs.stream_events(orders.connection, orders_scope(orders)))) == 2
    with pytest.raises(UnknownTableError):
        verbs.history(orders.connection, "nothing")
    found = spans()
    assert found["audit.trail.stream_events"].attributes == {"audit.items": 2}
    assert found["audit.trail.history"].status.status_code is StatusCode.ERROR
    assert found["audit.trail.history"].status.description == "UnknownTableError"
    assert "4711" not in str([(span.name, span.attributes) for span in found.values()])


def orders_scope(orders: Trail) -> verbs.Subject:
    return verbs.find_subject(orders.connection, "orders")


def test_a_stream(orders: Trail, spans: Spans) -> None:
    deliver(orders, Memory())
    sent = spans()["audit.stream.send"]
    expected = {"audit.consumer": "c", "audit.events": 2, "audit.delivered": 2}
    assert sent.attributes == expected
    assert sent.status.status_code is StatusCode.UNSET


def test_a_stream_whose_sink_fails(orders: Trail, spans: Spans) -> None:
    with pytest.raises(AuditError):
        deliver(orders, Memory(lambda _: "error of row 4711"), terms=Terms(patience=0.1))
    sent = spans()["audit.stream.send"]
    assert (sent.status.status_code, sent.status.description) == (StatusCode.ERROR, "not taken")


def test_maintenance_and_sealing(orders: Trail, spans: Spans, tmp_path: Path) -> None:
    key = tmp_path / "key"
    write_key(key, new_key("audit.example.org/test"))
    typed = ["maintain", "--seal-key", str(key), "--dsn", orders.database.dsn]
    ran = CliRunner().invoke(app, typed)
    found = spans()
    whole = found["audit.maintain"]
    assert whole.attributes is not None
    assert whole.attributes["audit.exit_code"] == ran.exit_code
    sealed = found["audit.seal"]
    assert sealed.attributes == {"audit.schema": "audit", "audit.events": 2, "audit.held_by": 0}
    for part in (sealed, found["audit.partitions.create"]):
        assert part.parent is not None
        assert part.parent.span_id == whole.context.span_id


def test_maintenance_that_cannot_connect(spans: Spans) -> None:
    assert (
        CliRunner().invoke(app, ["maintain", "--dsn", "host=/nowhere password=s3cret"]).exit_code
        == 4
    )
    failed = spans()["audit.maintain"]
    assert (failed.status.status_code, failed.status.description) == (
        StatusCode.ERROR,
        "ConnectError",
    )
    assert not failed.attributes
    assert not failed.events
