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
    """The stretch that a moment is in; None before capture began."""
    return next((one for one in stretches if one.covers(moment)), None)


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
        rule = one.rule if one.rule is not None else rule
        if following is not None and following.since <= one.since:
            continue
        until = None if following is None else following.since
        yield replace(one, until=until, rule=rule if one.capture is Capture.ON else None)


def _beginnings(name: QualifiedName, marks: Sequence[Mapping[str, Any]]) -> Iterator[Stretch]:
    """Where something of capture changed, in the order of time."""
    capture: Capture | None = None
    rule: Mapping[str, Any] | None = None
    for mark in marks:
        said = json.loads(mark["said"] or "{}")
        one = Stretch(
            table=name,
            capture=Capture.ON,
            since=mark["at"],
            event_id=mark["event_id"],
            who=mark["who"],
            reason=said.get("reason"),
        )
        match mark["action"], said:
            case "first", _:
                if capture is not None:
                    continue
            case "M", {"change": "dropped"}:
                one = replace(one, capture=Capture.OFF, reason="the table was dropped")
            case "M", {"capture": state}:
                if state == "on" and capture is Capture.ON and said.get("options") == rule:
                    continue
                one = replace(one, capture=_CAPTURE[state], reason=_NOTED[state])
                rule = said.get("options")
                one = replace(one, rule=rule)
                if capture is None and said.get("since"):
                    one = replace(one, since=min(one.since, datetime.fromisoformat(said["since"])))
            case _, {"capture": "resumed"}:
                if capture is Capture.ON and mark["before"] is not None:
                    yield replace(one, capture=Capture.UNKNOWN, since=mark["before"])
            case _:
                one = replace(one, capture=Capture.OFF)
        capture = one.capture
        yield one


_CAPTURE = {"on": Capture.ON, "off": Capture.OFF, "interrupted": Capture.UNKNOWN}
_NOTED = {
    "on": None,
    "off": "its triggers were off or gone when maintenance looked",
    "interrupted": "its triggers were disabled and enabled, or changed, by hand",
}
