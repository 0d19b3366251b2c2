"""SQLAlchemy engines for tools that want one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa


@contextmanager
def engine_for(dsn: str) -> Iterator[sa.Engine]:
    """An engine on psycopg 3 whose connections are closed at the end."""
    engine = sa.create_engine(dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        yield engine
    finally:
        engine.dispose()
