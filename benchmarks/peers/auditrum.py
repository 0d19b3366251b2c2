"""auditrum: one partitioned log, snapshots and a diff of each change, a context table."""

from __future__ import annotations

from benchmarks.peers.engine import engine_for

CONTEXT = """perform set_config('auditrum.context_id', '7c3f3d52-5c2e-4a52-8b1a-0d7f3a0c9b11', true);
    perform set_config('auditrum.context_metadata', '{"user_id": 42, "request_id": "abc-123"}', true)"""


def install(dsn: str) -> None:
    """Put auditrum on the table `orders`, with its defaults."""
    from auditrum.integrations.sqlalchemy import bootstrap_schema, sync
    from auditrum.tracking import TrackSpec

    with engine_for(dsn) as engine:
        bootstrap_schema(engine)
        sync(engine, specs=[TrackSpec(table="orders")])
