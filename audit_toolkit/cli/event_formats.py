"""The formats in which events are printed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from audit_toolkit.cli import output as printers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from audit_toolkit.trail import Event
    from audit_toolkit.trail.rows.lookup import Scope


class EventFormat(StrEnum):
    """How events are printed: for people, or for programs."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """How events are shown."""

    hidden: frozenset[str] = frozenset()
    """Columns of rows that are left out."""
    utc: bool = False
    guarded: bool = False
    """Whether no cell of CSV is a formula."""


def print_as(output: EventFormat, subject: Scope, events: Iterator[Event], shown: Shown) -> int:
    """Print events in this format, as they come; how many there were."""
    if shown.hidden:
        events = (event.without(shown.hidden) for event in events)
    match output:
        case EventFormat.JSON:
            return printers.print_events_as_json(events)
        case EventFormat.JSONL:
            return printers.print_events_as_lines(events)
        case EventFormat.CSV:
            return printers.print_events_as_csv(events, guarded=shown.guarded)
        case EventFormat.TEXT:
            return printers.print_timeline(subject, events, utc=shown.utc)
