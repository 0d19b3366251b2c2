"""`audit baseline`: snapshot existing rows while the application runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.capture import take_baseline, take_locked_baseline
from audit_toolkit.cli.captured import (
    Reason,
    Table,
    audited_target,
)
from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.timeouts import as_timeout
from audit_toolkit.connection import fetch
from audit_toolkit.plurals import counted
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.capture import Progress, Target

    Connection = psycopg.Connection[Any]


LockTimeout = Annotated[
    str, typer.Option("--lock-timeout", metavar="TIME", help="How long to wait for a lock.")
]


def baseline(
    table: Table,
    reason: Reason = "rows older than the trail",
    lock: Annotated[
        bool,
        typer.Option("--lock", help="For a table without a primary key: block writes until done."),
    ] = False,
    batch_rows: Annotated[
        int, typer.Option("--batch-rows", min=1, metavar="N", help="Rows per transaction.")
    ] = 1000,
    lock_timeout: LockTimeout = "3s",
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Snapshot existing rows while the application runs.

    Rows whose last recorded image is current get no event, so it is safe to stop and re-run, and it
    finds what changed while capture was paused.
    """
    lock_timeout = as_timeout(lock_timeout, "--lock-timeout")
    with open_database(dsn, config) as connection:
        target = audited_target(connection, table, audit_schema)
        if lock:
            done = take_locked_baseline(
                connection, target, audit_schema, reason=reason, lock_timeout=lock_timeout
            )
        else:
            with progress_bar(connection, target) as show:
                done = take_baseline(
                    connection,
                    target,
                    audit_schema,
                    reason=reason,
                    batch_rows=batch_rows,
                    lock_timeout=lock_timeout,
                    on_progress=show,
                )
    print(
        f"{target.table.name}: {counted(done.seen, 'row')}, {counted(done.written, 'snapshot')} written"
    )


@contextmanager
def progress_bar(connection: Connection, target: Target) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr where somebody looks: rows done, of about how many, and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    [row] = fetch(connection, query("row_estimate"), {"table": target.table.oid})
    total = row["rows"]
    rows = "{task.completed:,} of about {task.total:,} rows" if total else "{task.completed:,} rows"
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn(rows))
    console = Console(file=sys.stderr)
    hidden = not sys.stderr.isatty()
    with Bar(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden
    ) as bar:
        task = bar.add_task(str(target.table.name), total=total or None)
        yield lambda done: bar.update(
            task, completed=done.seen, total=max(total, done.seen) if total else None
        )
