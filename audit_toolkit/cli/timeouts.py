"""Timeouts as people type them, by the one parser of spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit_toolkit.partitions.boundaries import Span


def as_timeout(text: str, option: str) -> str:
    """A span as a timeout of the server: `2s`, `500 ms`, `1 day`; raises `UsageError`."""
    from audit_toolkit.errors import UsageError
    from audit_toolkit.partitions.boundaries import Span

    if text.strip() == "0":
        return "0"
    span = Span.parse(text, option)
    if span.milliseconds >= 2**31:
        raise UsageError(f"{option}: {text!r} is too long for a timeout", hint="write '2s'")
    seconds, rest = divmod(span.milliseconds, 1000)
    return f"{span.milliseconds}ms" if rest else _whole(seconds)


def _whole(seconds: int) -> str:
    """In the largest unit that is whole, as the plans print it."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def as_span(text: str, option: str) -> Span:
    """A span as people type it; raises `UsageError`."""
    from audit_toolkit.partitions.boundaries import Span

    return Span.parse(text, option)
