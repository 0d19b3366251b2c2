"""What a sink is handed: one event in some format, with the key that orders it and the id that tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from audit_toolkit.trail import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event on its way out."""

    id: str
    """The same whenever the event is delivered again: what a receiver tells duplicates by."""
    key: str
    """Of the row, or the table: messages of one key arrive in their order."""
    topic: str
    """Schema, table and action, with dots between."""
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    event: Event


Format: TypeAlias = Callable[[Event], "Message | None"]
"""Makes a message of an event; None where the format has no words for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of messages that were sent: the first `done` were taken, and none behind that one.

    Without `refused` and `error` nothing stands against the rest: it is sent at once.
    """

    done: int
    refused: str | None = None
    """Why the receiver will not take the next one, however often it comes."""
    error: str | None = None
    """Why it went no further for now: to be tried again."""
    hint: str | None = None
    """What to do about it."""
    wait: float = 0.0
    """Seconds that the receiver wants to be left alone."""
    is_unreachable: bool = False
    """Whether there was no connection at all."""


def row_of(event: Event) -> str:
    """The row that an event is about, in one text; the table where it is about no row."""
    table = f"{event.schema_name}.{event.table_name}"
    return table if event.row_key is None else f"{table}:{event.row_key}"
