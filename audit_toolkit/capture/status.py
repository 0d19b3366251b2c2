"""What is audited and how, and what is not and why: what people ask first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.capture.drift import audited_tables
from audit_toolkit.capture.moved_functions import moved_back
from audit_toolkit.capture.selection import why_unsupported
from audit_toolkit.catalog import Relation, parse_comment, read_relations
from audit_toolkit.catalog.trail import TrailObjects, TriggerState, read_trail_objects
from audit_toolkit.config import Capture
from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.names import QualifiedName
from audit_toolkit.schema.access import read_access, readers_of
from audit_toolkit.templates import query, render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

EXACT_BELOW = 1_000_000
"""Events up to which they are counted; a larger trail is estimated from a sample of its pages."""
_SAMPLED = 200_000
"""Events of such a sample, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """A table that is audited."""

    table: str
    state: str
    """`on`, `off` (triggers are missing or disabled, as while it is paused) or `gone` (the table is)."""
    capture: str
    """`row`, `statement` or `wal`."""
    assurance: str
    """What vouches for it now: `trigger`, as part of each transaction, or `wal`, once the worker has read it."""
    options: dict[str, Any]
    """Its rule, where it differs from the defaults."""
    since: datetime | None
    """Since when without a break; None where that is not recorded, or may not be read."""
    events: int | None
    bytes: int | None
    last_event: datetime | None
    gaps: int | None
    """How many events say that capture was off for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAudited:
    """A table that is not."""

    table: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a trail."""

    audited: tuple[Audited, ...]
    not_audited: tuple[NotAudited, ...]
    readers: tuple[str, ...]
    """The roles that can log in and read the trail, by whatever way."""
    partitions: int
    bytes: int
    """Of the whole trail on disk, with its indexes."""
    estimated: bool
    """Whether events and sizes are from a sample."""
    readable: bool
    """Whether this role may read the trail: else events are not counted."""

    def as_dict(self) -> dict[str, Any]:
        """The status as JSON values, times as ISO 8601."""
        values = asdict(self)
        for table in values["audited"]:
            for name in ("since", "last_event"):
                table[name] = table[name].isoformat() if table[name] else None
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def read_status(connection: Connection, schema: str) -> Status:
    """The state of the trail of a schema. Reads catalogues, and events where this role may."""
    objects = moved_back(read_trail_objects(connection, schema))
    relations = read_relations(connection)
    (size,) = fetch(connection, query("status_size"), {"schema": schema})
    estimated = size["events"] > EXACT_BELOW
    captured = audited_tables(objects)
    events = _read_events(connection, schema, captured, int(size["events"]) if estimated else None)
    since = _read_since(connection, schema)
    audited = tuple(_audited(objects, relations, events or {}, since, readable=events is not None))
    return Status(
        audited=audited,
        not_audited=tuple(_not_audited(relations, {one.table for one in audited}, schema)),
        readers=readers_of(read_access(connection, schema)),
        partitions=size["partitions"],
        bytes=size["bytes"],
        estimated=estimated,
        readable=events is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What is audited and what is not, without a look at the events."""

    audited: tuple[Audited, ...]
    not_audited: tuple[NotAudited, ...]


def read_tables(connection: Connection, schema: str) -> Tables:
    """What is audited and what is not. Reads catalogues only, so that a large trail costs no more."""
    objects = read_trail_objects(connection, schema)
    relations = read_relations(connection)
    since = _read_since(connection, schema)
    audited = tuple(_audited(objects, relations, {}, since, readable=False))
    return Tables(
        audited=audited,
        not_audited=tuple(_not_audited(relations, {one.table for one in audited}, schema)),
    )


_Events = Mapping[QualifiedName, Mapping[str, Any]]


def _read_events(
    connection: Connection, schema: str, captured: Sequence[QualifiedName], estimate: int | None
) -> _Events | None:
    share = 1 if estimate is None else min(1, _SAMPLED / max(estimate, 1))
    parameters = {
        "schemas": [table.schema for table in captured],
        "names": [table.name for table in captured],
    }
    errors = import_psycopg().errors
    # A trail of an older release follows no names, and a role with SELECT alone may not ask for them.
    for follows in (True, False):
        text = render(
            "queries/status_events",
            schema=schema.replace("%", "%%"),
            sampled=estimate is not None,
            percent=f"{share:.6%}".rstrip("%"),
            share=f"{share:.8f}",
            follows=follows,
        )
        with (
            suppress(errors.InsufficientPrivilege, errors.UndefinedFunction),
            connection.transaction(),
        ):
            return {_name(row): row for row in fetch(connection, text, parameters)}
    return None


def _read_since(connection: Connection, schema: str) -> Mapping[str, datetime]:
    """By capture function: a table may have been renamed since, and nobody noted it yet."""
    errors = import_psycopg().errors
    # A trail of an older release has no registry; within a transaction of the caller, a refusal must not end it.
    with (
        suppress(errors.InsufficientPrivilege, errors.UndefinedTable),
        connection.transaction(),
    ):
        rows = fetch(connection, render("queries/captured_since", schema=schema))
        return {row["function_name"]: row["captured_since"] for row in rows}
    return {}


def _name(row: Mapping[str, Any]) -> QualifiedName:
    return QualifiedName(row["schema_name"], row["table_name"])


def _audited(
    objects: TrailObjects,
    relations: Sequence[Relation],
    events: _Events,
    since: Mapping[str, datetime],
    *,
    readable: bool,
) -> Iterator[Audited]:
    present = {relation.name for relation in relations}
    for function in objects.functions:
        recorded = parse_comment(function.comment)
        if "table" not in recorded:
            continue
        name = objects.captured_by(function) or QualifiedName(*recorded["table"])
        options = dict(recorded["options"])
        found = events.get(name, {})
        triggers = [
            trigger
            for trigger in objects.triggers_by_table.get(name, ())
            if trigger.function.name == function.name
        ]
        yield Audited(
            table=str(name),
            state=_state(triggers, is_read=name in objects.from_wal) if name in present else "gone",
            capture=str(options.pop("capture", Capture.ROW.value)),
            assurance="wal" if name in objects.from_wal else "trigger",
            options=options,
            # Without triggers, it is another table of that name, or is no longer captured.
            since=since.get(function.name, found.get("first_event")) if triggers else None,
            events=found.get("events", 0 if readable else None),
            bytes=found.get("bytes", 0 if readable else None),
            last_event=found.get("last_event"),
            gaps=found.get("gaps", 0 if readable else None),
        )


def _state(triggers: Sequence[TriggerState], *, is_read: bool) -> str:
    every_change = 4 | 8 | 16  # insert, delete, update
    fired = 0
    for trigger in triggers:
        fired |= trigger.type
    is_whole = fired & every_change == every_change
    if is_read:
        return "on"  # off themselves, as the WAL is read
    return "on" if is_whole and all(trigger.state == "A" for trigger in triggers) else "off"


def _not_audited(
    relations: Sequence[Relation], audited: set[str], schema: str
) -> Iterator[NotAudited]:
    for relation in relations:
        own = relation.is_system or relation.temporary or relation.name.schema == schema
        view = relation.kind.name.endswith("VIEW")
        if own or view or relation.root is not None or str(relation.name) in audited:
            continue
        reason = why_unsupported(relation, trail_schema=schema)
        yield NotAudited(
            table=str(relation.name),
            why=reason[0] if reason else "capture is not installed",
        )
