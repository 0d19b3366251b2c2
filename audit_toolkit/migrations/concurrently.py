"""Alembic directives for indexes of partitioned tables, built while writes go on.

Importing this module adds them to `op`:

    import audit_toolkit.migrations.concurrently

    def upgrade():
        op.create_partitioned_index("create index orders_at_idx on orders (placed_at)")

    def downgrade():
        op.drop_partitioned_index("orders_at_idx")

Keep such a revision to this one operation: it commits what went before it in the same revision. When it
fails, the revision stays unapplied, and the next `alembic upgrade` goes on from where it ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation, Operations

from audit_toolkit.connection import connect, import_psycopg, normalise_dsn
from audit_toolkit.errors import ProjectError
from audit_toolkit.indexes import IndexRequest, Listener, Timeouts, create
from audit_toolkit.names import NamePattern
from audit_toolkit.plan import DEFAULT_LOCK_TIMEOUT, DEFAULT_STATEMENT_TIMEOUT, Plan, Step, apply
from audit_toolkit.templates import render_statements

if TYPE_CHECKING:
    import psycopg
    from alembic.runtime.migration import MigrationContext


@Operations.register_operation("create_partitioned_index")
class CreatePartitionedIndex(MigrateOperation):
    """An index on a partitioned table and all its leaves, each leaf built CONCURRENTLY."""

    def __init__(self, statement: str, *, lock_timeout: str, statement_timeout: str) -> None:
        self.request = IndexRequest.parse(statement)
        self.timeouts = Timeouts(lock=lock_timeout, statement=statement_timeout)

    @classmethod
    def create_partitioned_index(
        cls,
        operations: Operations,
        statement: str,
        *,
        lock_timeout: str = DEFAULT_LOCK_TIMEOUT,
        statement_timeout: str = DEFAULT_STATEMENT_TIMEOUT,
    ) -> None:
        """Create the index of an ordinary `create index NAME on TABLE …` on every leaf, then attach.

        No write waits longer than `lock_timeout`. Raises `ProjectError` with `--sql`, and where env.py
        holds a transaction open; `BusyError` for a lock that was not to be had.
        """
        operations.invoke(
            cls(statement, lock_timeout=lock_timeout, statement_timeout=statement_timeout)
        )


@Operations.register_operation("drop_partitioned_index")
class DropPartitionedIndex(MigrateOperation):
    """An index of a partitioned table dropped, with those of its leaves."""

    def __init__(self, index: str, *, lock_timeout: str) -> None:
        pattern = NamePattern.parse(index)
        self.statements = tuple(
            render_statements("indexes/drop_partitioned", schema=pattern.schema, name=pattern.name)
        )
        self.lock_timeout = lock_timeout

    @classmethod
    def drop_partitioned_index(
        cls, operations: Operations, index: str, *, lock_timeout: str = DEFAULT_LOCK_TIMEOUT
    ) -> None:
        """Drop it under ACCESS EXCLUSIVE on the table and all leaves, for milliseconds.

        PostgreSQL cannot do that concurrently; so it waits at most `lock_timeout` and tries again.
        """
        operations.invoke(cls(index, lock_timeout=lock_timeout))


@Operations.implementation_for(CreatePartitionedIndex)
def _create(operations: Operations, operation: CreatePartitionedIndex) -> None:
    with _outside_transaction(operations.migration_context) as connection:
        create(operation.request, connection, operation.timeouts, Listener())


@Operations.implementation_for(DropPartitionedIndex)
def _drop(operations: Operations, operation: DropPartitionedIndex) -> None:
    step = Step(
        why="Drop the index of the partitioned table and of its partitions",
        statements=operation.statements,
        lock="ACCESS EXCLUSIVE on the table and all partitions for milliseconds",
    )
    with _outside_transaction(operations.migration_context) as connection:
        apply(Plan(steps=(step,), lock_timeout=operation.lock_timeout), connection)


@contextmanager
def _outside_transaction(context: MigrationContext) -> Iterator[psycopg.Connection[Any]]:
    """A connection in autocommit mode, while Alembic's own holds no transaction to wait for."""
    if context.as_sql:
        raise ProjectError(
            "an index of a partitioned table cannot be written as a script of this "
            "migration: only the database knows which partitions there are",
            hint="run this revision online, or print the SQL with: audit indexes create '…' --sql",
        )
    # autocommit_block() only asserts this: the transaction must be one that Alembic may commit.
    if context._in_connection_transaction() and context._transaction is None:
        raise ProjectError(
            "env.py keeps its own transaction open, so nothing can be built CONCURRENTLY",
            hint="in env.py use `with connectable.connect() as connection`, not begin(), and execute nothing "
            "on the connection before context.begin_transaction()",
        )
    with context.autocommit_block(), _psycopg_connection(context) as connection:
        yield connection


@contextmanager
def _psycopg_connection(context: MigrationContext) -> Iterator[psycopg.Connection[Any]]:
    """Alembic's own connection where its driver is psycopg 3, else one more to the same address."""
    bind = context.connection
    assert bind is not None  # noqa: S101 - only --sql has none
    own = bind.connection.driver_connection
    if isinstance(own, import_psycopg().Connection):
        yield own
        return
    url = bind.engine.url.render_as_string(hide_password=False)
    with connect(normalise_dsn(url), purpose="migration") as connection:
        yield connection
