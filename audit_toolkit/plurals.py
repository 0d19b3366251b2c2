"""Numbers of things in words: `1 event`, `2 events`, `1,000 events`."""

from __future__ import annotations

import re

from audit_toolkit.errors import UsageError

_UNITS = {"": 1, "b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3, "tb": 1024**4}


def counted(number: int, thing: str) -> str:
    """`number` of `thing`, a noun in the singular: `1 row`, `3 indexes`."""
    if number == 1:
        return f"1 {thing}"
    return f"{number:,} {thing}{'es' if thing.endswith(('x', 's', 'ch')) else 's'}"


def show_bytes(number: int) -> str:
    """A size as people read it."""
    size = float(max(number, 0))
    for unit in ("bytes", "kB", "MB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} GB"


def parse_bytes(text: str) -> int:
    """A size as PostgreSQL's settings write it: `20GB`. Raises `UsageError` for anything else."""
    found = re.fullmatch(r"\s*(\d+)\s*([a-z]*)\s*", text, re.IGNORECASE | re.ASCII)
    if found is None or found[2].lower() not in _UNITS:
        raise UsageError(f"{text!r} is not a size", hint="write it as 500MB or 20GB")
    return int(found[1]) * _UNITS[found[2].lower()]
