"""Numbers of things in words: `1 event`, `2 events`, `1,000 events`."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """`number` of `thing`, a noun in the singular: `1 row`, `3 indexes`."""
    if number == 1:
        return f"1 {thing}"
    return f"{number:,} {thing}{'es' if thing.endswith(('x', 's', 'ch')) else 's'}"
