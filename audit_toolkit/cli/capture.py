"""`audit baseline`, `audit pause`, `audit resume`: what a trail does not see, and how that is mended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.cli.database import open_database
from audit_toolkit.cli.options import AlembicConfig, Dsn, TrailSchema
from audit_toolkit.cli.remedies import runs_here
from audit_toolkit.cli.timeouts import as_timeout
from audit_toolkit.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from audit_toolkit.capture import Progress, Target
    from audit_toolkit.catalog import Installed

    Connection = psycopg.Connection[Any]


Table = Annotated[str, typer.Option("--table", "-t", metavar="TABLE", help="The audited table.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the trail keeps it.")]
LockTimeout = Annotated[
    str, typer.Option("--lock-timeout", metavar="TIME", help="How long to wait for a lock.")
]


def baseline(
    table: Table,
    reason: Reason = "rows older than the trail",
    lock: Annotated[
        bool,
        typer.Option("--lock", help="For a table without a key: writes wait until it is done."),
    ] = False,
    batch_rows: Annotated[
        int, typer.Option("--batch-rows", min=1, metavar="N", help="Rows of one transaction.")
    ] = 1000,
    lock_timeout: LockTimeout = "3s",
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Snapshot the rows that the trail does not know yet, while the application goes on writing.

    Rows whose last recorded image is the present one get no event, so it can be stopped and run
    again at any time, and finds what changed during a pause.
    """
    from audit_toolkit.capture import take_baseline, take_locked_baseline

    lock_timeout = as_timeout(lock_timeout, "--lock-timeout")
    with open_database(dsn, config) as connection:
        target = _target(connection, table, audit_schema)
        if lock:
            done = take_locked_baseline(
                connection, target, audit_schema, reason=reason, lock_timeout=lock_timeout
            )
        else:
            with _progress(connection, target) as show:
                done = take_baseline(
                    connection,
                    target,
                    audit_schema,
                    reason=reason,
                    batch_rows=batch_rows,
                    lock_timeout=lock_timeout,
                    on_progress=show,
                )
    print(f"{target.table.name}: {done.seen} rows, {done.written} snapshots written")


def pause(
    table: Table,
    reason: Reason,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Switch capture of a table off; the trail records the gap, with who and why."""
    from audit_toolkit.capture import plan_pause
    from audit_toolkit.plan import apply

    with open_database(dsn, config) as connection:
        installed = _installed(connection, table, audit_schema)
        again = _install_again(installed, audit_schema, config)
        apply(plan_pause(installed, audit_schema, reason, again=again), connection)
    print(f"{installed.table}: capture is paused, changes are not recorded from here on")
    print(f"switch it on again: audit resume --table {table} --reason …", file=sys.stderr)


def resume(
    table: Table,
    reason: Reason,
    audit_schema: TrailSchema = "audit",
    dsn: Dsn = None,
    config: AlembicConfig = None,
) -> None:
    """Switch capture of a table on again; the trail records the end of the gap.

    Also after somebody switched it off and on by hand: then the gap alone is recorded.
    """
    from audit_toolkit.capture import plan_resume
    from audit_toolkit.plan import apply
    from audit_toolkit.schema.captured_tables import read_interrupted

    with open_database(dsn, config) as connection:
        installed = _installed(connection, table, audit_schema)
        interrupted = installed.table in read_interrupted(connection, audit_schema)
        wanted = _target(connection, table, audit_schema).triggers
        plan = plan_resume(
            installed,
            audit_schema,
            reason,
            interrupted=interrupted,
            wanted=[trigger.name for trigger in wanted],
            again=_install_again(installed, audit_schema, config),
        )
        apply(plan, connection)
    print(f"{installed.table}: changes are recorded again")
    print(
        "what changed meanwhile is unknown to the trail; record how the rows are now:\n"
        f"  audit baseline --table {table} --reason 'after the pause'",
        file=sys.stderr,
    )


def _installed(connection: Connection, name: str, schema: str) -> Installed:
    from audit_toolkit.catalog import find_relation, read_installed

    table = find_relation(connection, name).name
    found = [i for i in read_installed(connection, schema) if i.table == table]
    if not found:
        raise UsageError(
            f"{table} is not audited", hint=f"audit it first: audit install --table {name}"
        )
    return found[0]


def _install_again(installed: Installed, schema: str, config: Path | None) -> str:
    from audit_toolkit.remedies import install_command

    command = install_command(installed.table, installed.options) + " --upgrade"
    return runs_here(command, config, schema)


def _target(connection: Connection, name: str, schema: str) -> Target:
    from audit_toolkit.capture import Target
    from audit_toolkit.catalog import find_relation, read_table
    from audit_toolkit.config import TableRule

    installed = _installed(connection, name, schema)
    table = read_table(connection, find_relation(connection, name))
    rule = TableRule.from_dict(installed.options)
    return Target(table=table, rule=rule, function_name=installed.function)


@contextmanager
def _progress(connection: Connection, target: Target) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from audit_toolkit.connection import fetch
    from audit_toolkit.templates import query

    [row] = fetch(connection, query("row_estimate"), {"table": target.table.oid})
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(str(target.table.name), total=row["rows"])
        yield lambda done: bar.update(task, completed=done.seen)
