"""Columns as people name them: what is misspelt hides nothing, and nobody would notice."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from audit_toolkit.errors import UsageError


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean email?`, or nothing where no column is called like it."""
    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else ""


def require_columns(
    names: Collection[str] | None, option: str, known: Collection[str], what: object
) -> None:
    """Raise `UsageError` for a name that is none of the known columns; where none are known, never."""
    for name in (names or ()) if known else ():
        if name not in known:
            raise UsageError(
                f"{option}: {what} has no column {name!a}",
                hint=nearest(name, known) or "it has " + ", ".join(sorted(known)),
            )
