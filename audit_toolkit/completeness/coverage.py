"""Coverage: which tables were captured when, by which rule and with which gaps, as the trail itself says it.

What proves it are events: the first of a table, gaps (`G`), and what maintenance notes of capture (`M`). What only the
registry says, which its owner can write, is named as such.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch, import_psycopg
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


class Capture(StrEnum):
    """Whether changes of a table were captured."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"
    """It was off at some time before the event that says so, and nobody knows since when."""


class Cause(StrEnum):
    """Why a table was not captured, or may not have been."""

    SAID = "said"
    """Somebody announced it, by our commands."""
    FOUND = "found"
    """It was found later; nobody had said so."""
    DROPPED = "dropped"
    """The table was dropped."""


class Proof(StrEnum):
    """What says so."""

    EVENT = "event"
    REGISTRY = "registry"
    """What the database knows of captured tables, which is no event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A time in which capture of a table did not change."""

    table: QualifiedName
    capture: Capture
    since: datetime
    until: datetime | None = None
    proof: Proof = Proof.EVENT
    event_id: int | None = None
    """The event that says so."""
    who: str | None = None
    reason: str | None = None
    cause: Cause | None = None
    """Why it was not captured; None where it was."""
    rule: Mapping[str, Any] | None = None
    """The options of its installation; None where nothing in the trail says them."""

    def covers(self, moment: datetime) -> bool:
        """Whether a moment is in it."""
        return self.since <= moment and (self.until is None or moment < self.until)

    @property
    def said_by(self) -> str:
        """What says so, in words."""
        if self.event_id is not None:
            return f"event {self.event_id}"
        if self.until is not None:
            return "the registry says so; then came its first event"
        return "the registry says so, and no event"

    def as_dict(self) -> dict[str, Any]:
        """The stretch as JSON values."""
        return {
            "table": str(self.table),
            "capture": self.capture.value,
            "since": self.since.isoformat(),
            "until": None if self.until is None else self.until.isoformat(),
            "proof": self.proof.value,
            "event_id": self.event_id,
            "who": self.who,
            "reason": self.reason,
            "rule": None if self.rule is None else dict(self.rule),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What the registry says of a table that is captured now."""

    function: str
    since: datetime
    options: Mapping[str, Any]


def read_coverage(connection: Connection, schema: str) -> dict[QualifiedName, tuple[Stretch, ...]]:
    """When each table was captured, by the name that it has now, or had at last: stretches without a break between.

    The first stretch begins when capture began. Raises what psycopg raises where this role may not read the trail.
    """
    registered = read_registry(connection, schema)
    sql = render("coverage/marks", schema=schema, may_read_registry=registered is not None)
    rows = fetch(connection, sql)
    # Events under a former name belong to the same table.
    former = {
        (row["schema_name"], row["table_name"])
        for row in rows
        if (row["schema_name"], row["table_name"]) != (row["of_schema"], row["of_table"])
    }
    known = registered or {}
    found: dict[QualifiedName, tuple[Stretch, ...]] = {}
    for (of_schema, of_table), marks in groupby(
        rows, key=lambda r: (r["of_schema"], r["of_table"])
    ):
        name = QualifiedName(of_schema, of_table)
        if (of_schema, of_table) not in former or name in known:
            found[name] = tuple(_stretches(name, list(marks), known.get(name)))
    for name, entry in known.items():
        if not found.get(name):
            found[name] = (_registered(name, entry),)
    return {name: found[name] for name in sorted(found) if found[name]}


def covered_at(stretches: Sequence[Stretch], moment: datetime) -> Stretch | None:
    """The stretch that a moment is in; None before capture began.

    Where a clock was set back, and two claim it, the one that claims less.
    """
    there = [one for one in stretches if one.covers(moment)]
    return min(there, key=lambda one: one.capture is Capture.ON, default=None)


def read_registry(connection: Connection, schema: str) -> dict[QualifiedName, Registered] | None:
    """The tables that are captured now; None where this role may not read the registry, or there is none."""
    errors = import_psycopg().errors
    with (
        suppress(errors.InsufficientPrivilege, errors.UndefinedTable),
        connection.transaction(),
    ):
        return {
            QualifiedName(row["schema_name"], row["table_name"]): Registered(
                function=row["function_name"],
                since=row["captured_since"],
                options=json.loads(row["options"] or "{}"),
            )
            for row in fetch(connection, render("coverage/registry", schema=schema))
        }
    return None


def _registered(name: QualifiedName, entry: Registered) -> Stretch:
    return Stretch(
        table=name,
        capture=Capture.ON,
        since=entry.since,
        proof=Proof.REGISTRY,
        rule=entry.options,
    )


def _stretches(
    name: QualifiedName, marks: Sequence[Mapping[str, Any]], entry: Registered | None
) -> Iterator[Stretch]:
    begun = list(_beginnings(name, marks))
    if entry is not None and (not begun or entry.since < begun[0].since):
        begun.insert(0, replace(_registered(name, entry), rule=None))
    rule: Mapping[str, Any] | None = None
    for one, following in zip(begun, [*begun[1:], None], strict=True):
        is_on = one.capture is Capture.ON
        rule = one.rule if one.rule is not None else rule
        until = None if following is None else following.since
        since = one.since
        if until is not None and until <= since:
            if is_on or until == since:
                continue
            since, until = until, since  # a clock was set back meanwhile
        yield replace(one, since=since, until=until, rule=rule if is_on else None)


def _beginnings(name: QualifiedName, marks: Sequence[Mapping[str, Any]]) -> Iterator[Stretch]:
    """Where something of capture changed, in the order of events."""
    capture: Capture | None = None
    rule: Mapping[str, Any] | None = None
    for mark in marks:
        said = _object(mark["said"])
        one = Stretch(
            table=name,
            capture=Capture.ON,
            since=mark["at"],
            event_id=mark["event_id"],
            who=mark["who"],
            reason=said.get("reason"),
        )
        state = str(said.get("capture"))
        match mark["action"], said.get("change"):
            case "first", _:
                begun = [one] if capture is None else []
            case "M", "dropped":
                begun = [replace(one, capture=Capture.OFF, cause=Cause.DROPPED, reason=_DROPPED)]
            case "M", "capture" if state in _CAPTURE:
                begun = list(_noted(one, said, mark["before"], capture, rule))
                rule = begun[-1].rule if begun else rule
            case "G", _ if state == "resumed":
                begun = [*_doubtful(one, mark["before"], capture), one]
            case "G", _:
                begun = [replace(one, capture=Capture.OFF, cause=Cause.SAID)]
            case _:
                begun = []
        capture = begun[-1].capture if begun else capture
        yield from begun


def _doubtful(one: Stretch, before: datetime | None, capture: Capture | None) -> Iterator[Stretch]:
    """The time since the last event, if nobody had said that capture was off."""
    if capture is Capture.ON and before is not None:
        yield replace(one, capture=Capture.UNKNOWN, cause=Cause.FOUND, since=before)


def _noted(
    one: Stretch,
    said: Mapping[str, Any],
    before: datetime | None,
    capture: Capture | None,
    rule: Mapping[str, Any] | None,
) -> Iterator[Stretch]:
    """What maintenance noted of capture."""
    now = _CAPTURE[said["capture"]]
    options = said.get("options")
    if now is capture is Capture.ON and options == rule:
        return
    if now is capture is Capture.OFF:
        return  # as somebody had said
    one = replace(
        one,
        capture=now,
        cause=None if now is Capture.ON else Cause.FOUND,
        reason=_NOTED[said["capture"]],
        rule=options if isinstance(options, dict) else None,
    )
    if capture is None:
        one = replace(one, since=_earlier(one.since, said.get("since")))
    doubtful = [] if now is Capture.ON else list(_doubtful(one, before, capture))
    yield from doubtful
    if now is Capture.OFF or not doubtful:
        yield one


def _object(text: str | None) -> dict[str, Any]:
    """What an event says; nothing where it is not what we write."""
    said = json.loads(text or "{}")
    return said if isinstance(said, dict) else {}


def _earlier(moment: datetime, text: object) -> datetime:
    with suppress(ValueError, TypeError):
        return min(moment, datetime.fromisoformat(str(text)))
    return moment


_CAPTURE = {"on": Capture.ON, "off": Capture.OFF, "interrupted": Capture.UNKNOWN}
_DROPPED = "the table was dropped"
_NOTED = {
    "on": None,
    "off": "its triggers were off or gone when maintenance looked",
    "interrupted": "its triggers were disabled and enabled, or changed, by hand",
}
