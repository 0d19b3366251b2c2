"""Rows of the WAL as lines for COPY, and who wrote them: what the worker hands to the server. No I/O.

The server makes the images: by the templates that triggers are made of, of values of the types that
the columns had.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from audit_toolkit.config import CONTEXT_LIMIT
from audit_toolkit.wal.changes import Change
from audit_toolkit.wal.messages import Missing, Row
from audit_toolkit.wal.tables import Made, Table

_NOT_JSONB = re.compile(r"\\u0000|[eE][+-]?\d{4,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """What the application said of a change: a claim, all of it, as anybody can write such a message."""

    context: str | None = None
    session_user_name: str | None = None
    role_name: str | None = None
    application_name: str | None = None
    client_addr: str | None = None
    transaction_tstamp: str | None = None


NOBODY = Who()


@lru_cache(maxsize=64)
def who_of(message: bytes | None) -> Who:
    """Who wrote, by the message of `attach`; what is not as it writes it counts as not said."""
    if message is None:
        return NOBODY
    try:
        said = json.loads(message)
    except ValueError:
        return NOBODY
    if not isinstance(said, dict):
        return NOBODY
    return Who(
        context=_context(_text(said, "context")),
        session_user_name=_text(said, "session_user"),
        role_name=_text(said, "role"),
        application_name=_text(said, "application_name"),
        client_addr=_address(_text(said, "client_addr")),
        transaction_tstamp=_moment(_text(said, "transaction_tstamp")),
    )


def copied(event_id: int, change: Change, transaction_id: int, absent: int) -> tuple[Any, ...]:
    """The line of a change for COPY; `absent` columns of the table are never in the WAL."""
    before = None if _is_partial(change.before) else change.before
    after = change.after
    who = who_of(change.context)
    return (
        event_id,
        change.action,
        before is not None,
        after is not None,
        composite(before, absent),
        composite(after, absent),
        str(transaction_id),
        change.committed_at,
        who.context,
        who.session_user_name,
        who.role_name,
        who.application_name,
        who.client_addr,
        who.transaction_tstamp,
    )


def copied_made(
    event_id: int, table: Table, change: Change, made: Made, transaction_id: int
) -> tuple[Any, ...]:
    """The line of an event that needs no image, for COPY into the trail."""
    who = who_of(change.context)
    return (
        event_id,
        change.committed_at,
        str(transaction_id),
        table.schema_name,
        table.table_name,
        made.action,
        made.row_key,
        made.old_row,
        None if made.new_row is None else json.dumps(made.new_row),
        who.context,
        who.session_user_name,
        who.role_name,
        who.application_name,
        who.client_addr,
        who.transaction_tstamp,
    )


def is_incomplete(change: Change) -> bool:
    """Whether the WAL has no whole old row, as the replica identity was not FULL."""
    return (change.action == "U" and change.before is None) or _is_partial(change.before)


def composite(row: Row | None, absent: int = 0) -> str | None:
    """A row as the text of a composite value, with NULLs behind it for columns that it does not have."""
    if row is None:
        return None
    cells = [_cell(cell) for cell in row]
    return f"({','.join(cells)}{',' * absent})"


def _cell(cell: object) -> str:
    if type(cell) is not str:
        return ""  # NULL, or missing
    if '"' in cell or "\\" in cell:
        cell = cell.replace("\\", "\\\\").replace('"', '""')
    return f'"{cell}"'


def _is_partial(row: Row | None) -> bool:
    return row is not None and Missing.ABSENT in row


def _text(said: dict[str, Any], name: str) -> str | None:
    value = said.get(name)
    if not isinstance(value, str) or not value or "\0" in value or _has_surrogate(value):
        return None
    return value


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _context(text: str | None) -> str | None:
    """The context as JSON that PostgreSQL takes; of one beyond the limit its size, as in triggers."""
    if text is None:
        return None
    length = len(text.encode())
    if length > CONTEXT_LIMIT:
        return json.dumps({"audit:oversize": {"bytes": length}})
    try:
        read = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if _NOT_JSONB.search(text) or any(map(_has_surrogate, _strings(read))):
        return None
    return text


def _refuse(name: str) -> None:
    raise ValueError(name)


def _strings(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _address(text: str | None) -> str | None:
    try:
        return text and str(ipaddress.ip_interface(text))
    except ValueError:
        return None


def _moment(text: str | None) -> str | None:
    try:
        return text and datetime.fromisoformat(text).isoformat()
    except ValueError:
        return None
