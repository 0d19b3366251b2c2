"""What the sections of a report are read with: one connection in one snapshot, and the statements as they were sent."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from audit_toolkit.completeness.coverage import Stretch, read_coverage, read_registry
from audit_toolkit.connection import fetch
from audit_toolkit.evidence.report import Period, exact
from audit_toolkit.findings import Finding
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    from audit_toolkit.names import QualifiedName
    from audit_toolkit.seals import PublicKey

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """That the seals are to be verified, and with what."""

    keys: Sequence[PublicKey] = ()
    """Public keys that are trusted; without any, those that the database names."""
    outside: Sequence[tuple[str, str]] = ()
    """Checkpoints that were kept outside, as (where, note)."""
    words: tuple[str, ...] = ()
    """The options that say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailEvent:
    """An event that is no change of a row."""

    event_id: int
    at: datetime
    action: str
    table: QualifiedName
    who: str
    said: Mapping[str, Any]

    @property
    def change(self) -> str:
        """What kind of `M` event it is; empty for others."""
        return str(self.said.get("change", "")) if self.action == "M" else ""


@dataclass(kw_only=True)
class Reading:
    """A snapshot that sections are read from."""

    connection: Connection
    schema: str
    period: Period
    now: datetime
    check: Callable[[], Sequence[Finding]]
    verification: Verification | None
    check_words: tuple[str, ...] = ()
    """The options of `audit check` that `check` goes by."""
    last: str = field(default="", init=False)
    """The statement that was sent last, as it can be sent again."""

    def rows(self, template: str, **values: Any) -> list[dict[str, Any]]:
        """All rows of a statement about this trail and this period."""
        period = {"begin": self.period.begin, "end": self.period.end}
        return self.run(render(template, schema=self.schema, **period, **values))

    def run(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """All rows of a statement, which is remembered with its values in it."""
        from psycopg import ClientCursor

        self.last = sql.strip()
        if parameters is not None:
            self.last = ClientCursor(self.connection).mogrify(sql, parameters).strip()
        return fetch(self.connection, sql, parameters)

    def audit(self, *words: str, dated: bool = False) -> str:
        """A command of ours about this trail, as it is typed; `dated` with the period."""
        options: list[str] = []
        if dated:
            options += ["--since", exact(self.period.begin), "--until", exact(self.period.end)]
        if self.schema != "audit":
            options += ["--audit-schema", self.schema]
        return shlex.join(["audit", *words, *options])

    @cached_property
    def coverage(self) -> tuple[Mapping[QualifiedName, tuple[Stretch, ...]], str]:
        """When each table was captured, and the statement that says it."""
        found = read_coverage(self.connection, self.schema)
        may_read = read_registry(self.connection, self.schema) is not None
        marks = render("coverage/marks", schema=self.schema, may_read_registry=may_read)
        return found, marks.strip()

    @cached_property
    def first_event(self) -> datetime | None:
        """When the first event of the trail was; None where it has none."""
        (reach,) = self.rows("evidence/reach")
        first: datetime | None = reach["first_event"]
        return first

    @cached_property
    def noted(self) -> tuple[tuple[TrailEvent, ...], str]:
        """The events of the period that are no change of a row, and the statement that reads them."""
        from audit_toolkit.names import QualifiedName

        found = tuple(
            TrailEvent(
                event_id=row["event_id"],
                at=row["action_tstamp"],
                action=row["action"],
                table=QualifiedName(row["schema_name"], row["table_name"]),
                who=row["who"],
                said=_object(row["said"]),
            )
            for row in self.rows("evidence/events")
        )
        return found, self.last

    def events(self, *actions: str, changes: Sequence[str] = ()) -> tuple[TrailEvent, ...]:
        """Those of some actions, or `M` events that say one of these changes."""
        found, self.last = self.noted
        return tuple(e for e in found if e.action in actions or (e.change and e.change in changes))


def _object(text: str | None) -> Mapping[str, Any]:
    said = json.loads(text or "{}")
    return said if isinstance(said, dict) else {"value": said}
