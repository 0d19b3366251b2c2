"""Events of the trail itself that say what people and machines did about it: drills and reviews."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.errors import UsageError
from audit_toolkit.evidence.report import Period
from audit_toolkit.templates import render

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def note(connection: Connection, schema: str, change: str, said: Mapping[str, Any]) -> int:
    """Write an `M` event of the trail itself; its number. Needs the right to insert into the trail: its owner's."""
    text = json.dumps({"change": change, **said})
    [row] = fetch(connection, render("evidence/note", schema=schema, said=text))
    return int(row["event_id"])


def note_review(
    connection: Connection,
    schema: str,
    *,
    by: str,
    note_text: str,
    period: Period | None = None,
    file: str | None = None,
    sha256: str | None = None,
) -> int:
    """Record that somebody looked, at what, and what they say of it; the number of the event.

    Raises `UsageError` where it does not say who, or what, in text that can be read and stored.
    """
    if not _is_said(by):
        raise UsageError(
            "a review needs the name of the reviewer", hint="add --by 'jo@example.com'"
        )
    if not _is_said(note_text):
        raise UsageError(
            "a review needs a conclusion", hint="add --note 'looked at all gaps of October'"
        )
    for option, text in (("--by", by), ("--note", note_text), ("--file", file or "")):
        if "\0" in text or (not text.isascii() and text != text.encode(errors="ignore").decode()):
            raise UsageError(
                f"{option}: {text!a} is not text that PostgreSQL can store",
                hint="give names and texts in UTF-8, without NUL; rename the file",
            )
    said = {
        "by": by,
        "note": note_text,
        "from": period and period.begin.isoformat(),
        "to": period and period.end.isoformat(),
        "file": file,
        "sha256": sha256,
    }
    return note(connection, schema, "review", {k: v for k, v in said.items() if v is not None})


def _is_said(text: str) -> bool:
    """Whether there is something to read."""
    return any(c.isprintable() and not c.isspace() for c in text)
