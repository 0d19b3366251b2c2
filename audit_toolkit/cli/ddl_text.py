"""What DDL did to an audited table, in words, from an M event."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from audit_toolkit.config import option_words
from audit_toolkit.trail.event import Event


def ddl_verb(event: Event) -> str:
    """What happened to the table: `renamed from public.orders`, `columns changed`."""
    match event.new_row:
        case {"change": "renamed", "from": [schema, table]}:
            return f"renamed from {schema}.{table}"
        case {"change": "created"}:
            return "created; events under this name before belong to another table"
        case {"change": "dropped"}:
            return "dropped"
        case {"change": "capture", "capture": str(state)}:
            return f"capture is {state}"
        case {"change": "drill", "ok": bool(ok), "partition": str(partition)}:
            return f"restore drill of {partition} {'succeeded' if ok else 'failed'}"
        case {"change": "review", "by": str(by), "note": str(note)}:
            return f"reviewed by {by}: {note}"
        case {"change": "partition", "partition": str(partition), **said}:
            how = " by hand" if said.get("by_hand") else ""
            where = f", archived at {said['archive']}" if "archive" in said else ", not archived"
            return f"partition {partition} dropped{how}{where}"
        case {"change": "ddl", "ddl": {"tag": str(tag), "object": str(what)}}:
            return f"{tag} {what}"
        case {"change": str(what)}:
            return f"{what} changed"
    return "changed by DDL"


def ddl_lines(event: Event) -> Iterator[tuple[str, str]]:
    """What changed of columns or partitions, each with its style."""
    said: Mapping[str, Any] = event.new_row or {}
    for old, new in _items(said, "renamed"):
        yield f"column {old} renamed to {new}", "yellow"
    for name, type_name in _items(said, "added"):
        yield f"column {name} {type_name} added", "green"
    for name, type_name in _items(said, "dropped"):
        yield f"column {name} {type_name} dropped", "red"
    for name, types in _items(said, "retyped"):
        before, after = types
        yield f"column {name} changed from {before} to {after}", "yellow"
    if said.get("change") == "capture" and isinstance(options := said.get("options"), Mapping):
        yield f"rule: {shlex.join(option_words(options)) or 'every column'}", "yellow"
        if why := said.get("fallback"):
            yield f"by triggers again: {why}", "yellow"
        elif said.get("assurance") == "wal":
            yield "read from the WAL from here on", "yellow"
    for name in said.get("attached", ()):
        yield f"partition {name} attached: its rows arrived without events", "green"
    for name in said.get("detached", ()):
        yield f"partition {name} detached: its rows left without events", "red"


def _items(said: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    found = said.get(key)
    return sorted(found.items()) if isinstance(found, Mapping) else []
