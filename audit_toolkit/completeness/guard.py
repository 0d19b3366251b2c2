"""The guard: event triggers that refuse DDL which would take capture or the trail away.

The trail says when it was switched on and off, so that `audit check` misses it when it is gone. It lets through what
the registry says, which is written only by functions that write the events, too.
See `sql_templates/functions/guard_ddl.sql.j2`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.plan import Plan, Step
from audit_toolkit.templates import render, render_statements

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardNames:
    """The event triggers of the guard of one trail; they belong to no schema."""

    end: str
    drop: str
    note_end: str
    note_drop: str
    """Those that have the trail told of DDL (`audit install --ddl`)."""

    @classmethod
    def of(cls, schema: str) -> GuardNames:
        """The names for a trail."""
        short = schema[:48]
        return cls(
            end=f"{short}_guard_ddl",
            drop=f"{short}_guard_drop",
            note_end=f"{short}_note_ddl",
            note_drop=f"{short}_note_drop",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What the trail says of the guard, and what is there."""

    said: str | None
    """`on` or `off`; None where it was never switched on."""
    event_id: int | None
    since: datetime | None
    who: str | None
    reason: str | None
    working: tuple[str, ...]
    """Its event triggers that are ENABLE ALWAYS."""
    silenced: tuple[str, ...]
    """Those that are disabled, or could be silenced by session_replication_role."""

    @property
    def state(self) -> str:
        """`on`, `off`, or `broken`: on by what the trail says, and not there."""
        if len(self.working) == 2 and not self.silenced:
            return "on"
        return "broken" if self.said == "on" or self.working or self.silenced else "off"

    def as_dict(self) -> dict[str, Any]:
        """The guard as JSON values."""
        since = None if self.since is None else self.since.isoformat()
        return {"state": self.state} | asdict(self) | {"since": since}


def read_guard(connection: Connection, schema: str) -> Guard:
    """The guard of a trail. Raises what psycopg raises where this role may not read the trail."""
    [row] = fetch(connection, render("guard/state", schema=schema))
    return Guard(**(row | {name: tuple(row[name]) for name in ("working", "silenced")}))


def plan_guard_on(guard: Guard, schema: str, *, reason: str) -> Plan:
    """Make the event triggers, all of them anew where some are missing, and write the event that says so.

    Raises `UsageError` where it is on.
    """
    if guard.state == "on":
        raise UsageError("the guard is already on", hint="see: audit guard status")
    again = [*guard.working, *guard.silenced]
    return _plan(
        "Refuse DDL that would disable or remove capture or the trail",
        [
            *(s for name in again for s in render_statements("guard/drop", name=name)),
            *_rendered("guard/on", schema, "on", reason),
        ],
    )


def plan_guard_off(guard: Guard, schema: str, *, reason: str) -> Plan:
    """Take the event triggers away, after the event that says so.

    Raises `UsageError` where it is off, or there is no reason.
    """
    if not reason.strip():
        raise UsageError("disabling the guard needs a reason", hint="add --reason 'ticket 123'")
    if guard.state == "off":
        raise UsageError("the guard is already off", hint="see: audit guard status")
    return _plan(
        "Disable the guard, and record it in the trail",
        _rendered("guard/off", schema, "off", reason),
    )


def plan_ddl_on(connection: Connection, schema: str) -> Plan:
    """Make the event triggers that have the trail told of DDL in its own transaction; empty where they are there."""
    found = fetch(connection, render("guard/ddl_state", schema=schema))
    if len(found) == 2 and all(row["is_always"] for row in found):
        return Plan(steps=())
    return _plan(
        "The trail is told of DDL at once, by the statement that does it",
        [
            *(s for row in found for s in render_statements("guard/drop", name=row["name"])),
            *render_statements("guard/ddl_on", schema=schema, names=GuardNames.of(schema)),
        ],
    )


def guard_findings(guard: Guard, schema: str) -> Iterator[Finding]:
    """A guard that was switched on, and is gone or can be silenced."""
    if guard.state != "broken":
        return
    missing = 2 - len(guard.working) - len(guard.silenced)
    what = (
        f"{missing} of its 2 event triggers are gone"
        if missing > 0
        else f"event trigger {guard.silenced[0]} is not ENABLE ALWAYS"
    )
    since = f" (event {guard.event_id})" if guard.said == "on" else ""
    yield Finding(
        kind=FindingKind.GUARD_MISSING,
        severity=Severity.ERROR,
        subject=f"guard of {schema}.logged_actions",
        message=f"it was enabled{since}, but {what}",
        remedy="find out who did it, then: audit guard on",
    )


def _rendered(template: str, schema: str, state: str, reason: str) -> list[str]:
    names = GuardNames.of(schema)
    return render_statements(template, schema=schema, names=names, state=state, reason=reason)


def _plan(why: str, statements: list[str]) -> Plan:
    return Plan(steps=(Step(why=why, statements=tuple(statements)),))
