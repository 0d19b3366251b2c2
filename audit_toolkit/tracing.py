"""Spans of OpenTelemetry, for programs that trace: where nobody has imported OpenTelemetry, nothing happens.

Names begin with `audit.`. Attributes are counts and names of consumers, stages and schemas; no key and no value of a
row, and of an error only its type, as its text may hold some.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Span:
    """What is going on, as far as somebody wants to know."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def note(self, **attributes: str | int | float | bool | None) -> None:
        """Add attributes: `events` becomes `audit.events`."""
        if self._span is not None:
            for name, value in attributes.items():
                if value is not None:
                    self._span.set_attribute(f"audit.{name}", value)

    def fail(self, reason: str) -> None:
        """Mark it as failed."""
        if self._span is not None:
            status = sys.modules["opentelemetry.trace"]
            self._span.set_status(status.Status(status.StatusCode.ERROR, reason))


_NOTHING = Span()


@contextmanager
def span(name: str, **attributes: str | int | float | bool | None) -> Iterator[Span]:
    """A span around what is done in the block; spans begun within are its children."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        yield _NOTHING
        return
    with trace.get_tracer("audit_toolkit").start_as_current_span(
        f"audit.{name}", record_exception=False, set_status_on_exception=False
    ) as begun:
        found = Span(begun)
        found.note(**attributes)
        try:
            yield found
        except Exception as error:
            found.fail(type(error).__name__)
            raise


def traced(name: str, items: Generator[T, None, None]) -> Generator[T, None, None]:
    """What a generator gives, in a span from the first item asked for to the end; it is nobody's parent."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return items
    return _traced(trace.get_tracer("audit_toolkit").start_span(f"audit.{name}"), items)


def _traced(begun: Any, items: Generator[T, None, None]) -> Generator[T, None, None]:
    found, number = Span(begun), 0
    try:
        for item in items:
            number += 1
            yield item
    except Exception as error:
        found.fail(type(error).__name__)
        raise
    finally:
        items.close()
        found.note(items=number)
        begun.end()
