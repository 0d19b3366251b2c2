"""What the commands of `audit stream` share."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from audit_toolkit.cli import times
from audit_toolkit.plurals import counted
from audit_toolkit.stream.consumers import MOST_COUNTED

if TYPE_CHECKING:
    from audit_toolkit.stream import Consumer

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The consumer, as `audit stream list` names it.")
]


def parse_begin(text: str, option: str = "--from", *, utc: bool) -> int | datetime | None:
    """Where a consumer begins: behind an event, at a time, or None for what commits from now on."""
    if text == "beginning":
        return 0
    if text == "now":
        return None
    return (
        int(text)
        if text.isascii() and text.isdigit()
        else times.parse_moment(text, option, utc=utc)
    )


def show_lag(consumer: Consumer) -> str:
    """How far a consumer is behind, in words."""
    if not consumer.lag_events:
        return "up to date"
    more = "at least " if consumer.lag_events >= MOST_COUNTED else ""
    seconds = consumer.lag_seconds or 0.0
    return f"{more}{counted(consumer.lag_events, 'event')} and {seconds:.1f} s behind"
