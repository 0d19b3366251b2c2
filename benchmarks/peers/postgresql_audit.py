"""postgresql-audit (kvesteri): one activity table, old row and changes, a row for each transaction."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import orm

from benchmarks.peers.engine import engine_for

# What its SQLAlchemy listener sends before the first flush of a transaction.
CONTEXT = """insert into transaction (native_transaction_id, issued_at, client_addr, actor_id)
    values (pg_current_xact_id(), now() at time zone 'UTC', '127.0.0.1', '42')
    on conflict do nothing"""


def install_row(dsn: str) -> None:
    """Put it on the table `orders`, in row mode."""
    _install(dsn, by_statement=False)


def install_statement(dsn: str) -> None:
    """Put it on the table `orders`, in statement mode, its default."""
    _install(dsn, by_statement=True)


def _install(dsn: str, *, by_statement: bool) -> None:
    from postgresql_audit import VersioningManager  # type: ignore[import-untyped]
    from postgresql_audit.base import assign_actor  # type: ignore[import-untyped]

    base = orm.declarative_base()
    manager = VersioningManager(use_statement_level_triggers=by_statement)
    manager.init(base)
    assign_actor(base, manager.transaction_cls, None)
    try:
        with engine_for(dsn) as engine:
            base.metadata.create_all(engine)
            with engine.begin() as connection:
                connection.execute(sa.text("select audit_table('orders')"))
    finally:
        manager.remove_listeners()
