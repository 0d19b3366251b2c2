"""How consumers stand, for Prometheus and for `audit check`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from audit_toolkit.findings import Finding, FindingKind, Metric, Severity
from audit_toolkit.stream.consumers import Consumer, has_consumers, read_consumers

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

STUCK_AFTER = timedelta(minutes=15)
"""A consumer that is so far behind, and does not get on, is a finding."""

_METRICS: tuple[tuple[str, str, str, Callable[[Consumer], float]], ...] = (
    ("lag_events", "gauge", "Events behind its place.", lambda c: c.lag_events),
    (
        "lag_seconds",
        "gauge",
        "Age of the first event behind its place.",
        lambda c: c.lag_seconds or 0,
    ),
    ("active", "gauge", "Whether an instance delivers.", lambda c: c.is_active),
    ("delivered_events_total", "counter", "Events delivered.", lambda c: c.delivered),
    ("failures", "gauge", "Attempts in a row that failed.", lambda c: c.failures),
    ("dead_letters", "gauge", "Events that were refused for good.", lambda c: c.dead_letters),
)


def prometheus(consumers: Iterable[Consumer]) -> str:
    """Metrics in the exposition format."""
    found = list(consumers)
    metrics = [
        Metric(
            name=f"audit_stream_{name}",
            help=text,
            samples=[({"consumer": one.name}, float(value(one))) for one in found],
            type=kind,
        )
        for name, kind, text, value in _METRICS
    ]
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines())


def consumer_findings(
    connection: Connection, *, schema: str = "audit", now: datetime | None = None
) -> list[Finding]:
    """Consumers that do not get on, and dead letters that wait for a decision."""
    if not has_consumers(connection, schema):
        return []
    moment = now or datetime.now(UTC)
    return [
        finding
        for consumer in read_consumers(connection, schema=schema)
        for finding in _findings(consumer, moment)
    ]


def _findings(consumer: Consumer, now: datetime) -> Iterator[Finding]:
    name = f"consumer {consumer.name}"
    behind = timedelta(seconds=consumer.lag_seconds or 0)
    if consumer.lag_events and behind > STUCK_AFTER and _stands(consumer, now):
        why = f": {consumer.last_error}" if consumer.failures else ""
        state = "delivers nothing" if consumer.is_active else "is not running"
        yield Finding(
            kind=FindingKind.CONSUMER_STUCK,
            severity=Severity.ERROR,
            subject=name,
            message=f"it {state}, and is {consumer.lag_events} events and {behind} behind{why}",
            remedy=f"audit stream run {consumer.name} --to …"
            if not consumer.is_active
            else "audit stream list shows the error of its sink",
        )
    if consumer.dead_letters:
        yield Finding(
            kind=FindingKind.DEAD_LETTERS,
            severity=Severity.WARNING,
            subject=name,
            message=f"its sink refused {consumer.dead_letters} events",
            remedy=f"audit stream dead-letters list {consumer.name}",
        )


def _stands(consumer: Consumer, now: datetime) -> bool:
    latest = consumer.delivered_at
    return not consumer.is_active or latest is None or now - latest > STUCK_AFTER
