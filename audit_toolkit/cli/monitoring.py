"""Commands that monitoring calls: they wait for nobody for long, and name who is in the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.errors import BusyError, UsageError
from audit_toolkit.partitions.blockers import name_blockers
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

TIMEOUT = 3.0
SLOW = 10
"""A statement that waits for no lock may take so many times as long."""
LONGEST = 60.0
"""Seconds that a run of maintenance waits for a lock that it needs only to look."""

Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", help="How long to wait for a lock."),
]


@contextmanager
def impatient(connection: Connection, schema: str, timeout: float) -> Iterator[None]:
    """Let each statement wait at most `timeout` seconds for a lock; raises `BusyError`, which names who has it."""
    if not 0 < timeout < 86400:
        raise UsageError(
            f"--timeout: {timeout:g} is not a number of seconds", hint="use 3 or 0.5, for example"
        )
    errors = import_psycopg().errors
    _set(connection, timeout)
    try:
        yield
    except (BusyError, errors.LockNotAvailable, errors.QueryCanceled) as error:
        slow = isinstance(error, errors.QueryCanceled)
        limit = timeout * SLOW if slow else timeout
        longer = "; --timeout allows more time"
        raise _who_is_in_the_way(connection, schema, limit, longer) from error


@contextmanager
def not_for_ever(connection: Connection, schema: str) -> Iterator[None]:
    """Let what a run of maintenance reads wait for a lock as well, but not without end; steps have limits of their own.

    Raises `BusyError`, which names who has the lock.
    """
    connection.execute(
        "select pg_catalog.set_config('lock_timeout', %s, false)", (f"{LONGEST * 1000:.0f}ms",)
    )
    missed = import_psycopg().errors.LockNotAvailable
    try:
        yield
    except (missed, BusyError) as error:
        if connection.closed or not isinstance(error.__cause__ or error, missed):
            raise
        raise _who_is_in_the_way(connection, schema, LONGEST) from error


def _set(connection: Connection, timeout: float) -> None:
    connection.execute(
        "select pg_catalog.set_config('lock_timeout', %s, false),"
        " pg_catalog.set_config('statement_timeout', %s, false)",
        (f"{timeout * 1000:.0f}ms", f"{timeout * SLOW * 1000:.0f}ms"),
    )


def _who_is_in_the_way(
    connection: Connection, schema: str, limit: float, longer: str = ""
) -> BusyError:
    found = fetch(connection, render("queries/exclusive_locks"), {"schema": schema})
    if not found:
        others = name_blockers(connection, schema)
        return BusyError(
            f"the database did not answer within {limit:g} s" + (f": {others}" if others else ""),
            hint=f"try again{longer}",
        )
    who = found[0]
    has = "holds" if who["granted"] else "waits for"
    return BusyError(
        f"could not read within {limit:g} s: {who['who']} ({who['role']}, "
        f"{who['application']}) {has} ACCESS EXCLUSIVE on {who['relation']} since "
        f"{who['since']}: {' '.join(who['query'].split())}",
        hint=f"try again when it is done{longer}; {who['remedy']} ends it",
    )
