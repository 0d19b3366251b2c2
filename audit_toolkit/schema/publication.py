"""A logical publication of the trail alone: what makes it, what a server needs for it, and what became of it.

The trail notes when it was published and when that ended, so that `audit check` misses a publication that is gone.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_toolkit.catalog import read_trail
from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import MAX_NAME_BYTES, quote_identifier
from audit_toolkit.plan import Plan, Step
from audit_toolkit.plurals import counted
from audit_toolkit.remedies import psql_command
from audit_toolkit.templates import query, render, render_statements

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A publication that the trail knows of, and what is there of it."""

    name: str
    state: str
    """What the trail says: `on` or `off`."""
    event_id: int
    """The event that says so."""
    is_there: bool
    inserts: bool
    more: tuple[str, ...]
    """What it publishes besides."""
    via_root: bool
    has_trail: bool
    is_partial: bool
    """Whether it leaves out rows or columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a server has of what the consumer of a publication needs."""

    wal_level: str
    max_slots: int
    slots: int
    max_senders: int
    keeps_all_wal: bool
    """Whether a slot keeps WAL without limit."""
    may_create: bool
    """Whether this role may create a publication in this database."""
    is_there: bool
    """Whether a publication of that name exists."""
    older_slots: tuple[str, ...]
    """Slots of this database for pgoutput."""


def publication_name(schema: str) -> str:
    """What the publication of a trail is called where nobody says otherwise."""
    return f"{schema[: MAX_NAME_BYTES - 4]}_out"


def plan_publication(name: str, schema: str) -> Plan:
    """Create the publication, and the event that says so."""
    values = {"name": name, "schema": schema}
    step = Step(
        why=f"The publication {quote_identifier(name)} of the trail alone",
        statements=tuple(render_statements("publication/create", state="on", **values)),
        undo=tuple(render_statements("publication/drop", state="off", **values)),
    )
    return Plan(steps=(step,))


def plan_no_publication(name: str, schema: str) -> Plan:
    """End the publication, after the event that says so."""
    created = plan_publication(name, schema).steps[0]
    step = Step(
        why=f"The publication {quote_identifier(name)} ends; its slots have to be dropped by hand",
        statements=created.undo,
        undo=created.statements,
    )
    return Plan(steps=(step,))


def read_publications(connection: Connection, schema: str) -> list[Publication]:
    """The publications that the trail knows of. Raises what psycopg raises where this role may not read it."""
    if not read_trail(connection, schema):
        return []
    rows = fetch(connection, render("publication/noted", schema=schema))
    return [Publication(**{**row, "more": tuple(row["more"])}) for row in rows]


def read_server(connection: Connection, name: str) -> Server:
    """What the server has for a publication of that name."""
    [row] = fetch(connection, query("publishing"), {"name": name})
    return Server(**{**row, "older_slots": tuple(row["older_slots"])})


def require_free_name(name: str, server: Server) -> None:
    """Raise `UsageError` where a publication cannot have that name."""
    if not name or len(name.encode()) > MAX_NAME_BYTES:
        raise UsageError(
            f"{name!r} cannot be the name of a publication", hint="use a name of 1 to 63 bytes"
        )
    if server.is_there:
        raise UsageError(
            f"the database already has a publication {quote_identifier(name)}, which the toolkit did not create",
            hint="choose another name: audit publication NAME",
        )


def advice(server: Server, name: str) -> Iterator[str]:
    """What is to be done before a consumer can follow the publication."""
    if server.wal_level != "logical":
        yield (
            f"wal_level is {server.wal_level}, and a slot needs logical: "
            + psql_command("alter system set wal_level = logical")
            + ", then restart the server"
        )
    if server.slots >= server.max_slots:
        yield (
            f"all of {counted(server.max_slots, 'replication slot')} are in use: "
            + psql_command(f"alter system set max_replication_slots = {server.max_slots + 4}")
            + ", then restart the server"
        )
    if server.max_senders == 0:
        yield (
            "max_wal_senders is 0, so no consumer can connect: "
            + psql_command("alter system set max_wal_senders = 10")
            + ", then restart the server"
        )
    if server.keeps_all_wal:
        yield (
            "max_slot_wal_keep_size is not set: a slot that nobody reads keeps WAL until the disk is full"
        )
    if not server.may_create:
        yield (
            "this role may not create a publication here: apply the migration as one that may "
            "(grant create on database), and that owns the trail"
        )
    for slot in server.older_slots:
        yield (
            f"the slot {slot} is there already: a slot that is older than the publication cannot "
            f"follow {quote_identifier(name)} through what was written before; create a new slot afterwards"
        )


def publication_findings(publications: list[Publication], schema: str) -> Iterator[Finding]:
    """Publications that were installed, and are gone or no longer what they were."""
    for one in publications:
        if one.state != "on":
            continue
        name = quote_identifier(one.name)
        if not one.is_there:
            yield _finding(
                FindingKind.PUBLICATION_MISSING,
                Severity.ERROR,
                one,
                f"it was created (event {one.event_id}), and is gone: its consumers get nothing",
                f"audit publication {shlex.quote(one.name)} --upgrade",
            )
            continue
        for severity, message, change in _changes(
            one, f"{quote_identifier(schema)}.logged_actions"
        ):
            remedy = psql_command(f"alter publication {name} {change}")
            yield _finding(FindingKind.PUBLICATION_CHANGED, severity, one, message, remedy)


def _changes(one: Publication, trail: str) -> Iterator[tuple[Severity, str, str]]:
    """What is not as it was created: how bad it is, in words, and what puts it right."""
    if not one.has_trail:
        yield (
            Severity.ERROR,
            "the trail is not part of it: its consumers get nothing",
            f"add table {trail}",
        )
    elif one.is_partial:
        yield Severity.ERROR, "it leaves out rows or columns of the trail", f"set table {trail}"
    if not one.inserts:
        yield (
            Severity.ERROR,
            "it publishes no inserts: its consumers get nothing",
            "set (publish = 'insert')",
        )
    elif one.more:
        yield (
            Severity.WARNING,
            f"it also publishes {', '.join(one.more)}: a redaction reaches consumers as an event that is none",
            "set (publish = 'insert')",
        )
    if not one.via_root:
        yield (
            Severity.ERROR,
            "it names partitions instead of the trail: consumers miss the events of new ones",
            "set (publish_via_partition_root = true)",
        )


def _finding(
    kind: FindingKind, severity: Severity, one: Publication, message: str, remedy: str
) -> Finding:
    return Finding(
        kind=kind,
        severity=severity,
        subject=f"publication {one.name}",
        message=message,
        remedy=remedy,
    )
