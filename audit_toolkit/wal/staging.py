"""Rows of the WAL as lines for a binary COPY, and who wrote them: what the worker hands over. No I/O.

The server makes the images: by the templates that triggers are made of, of values of the types that
the columns had. Cells go as they stand in the WAL, as text; a view over the staged rows gives them types.
"""

from __future__ import annotations

import ipaddress
import json
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import product
from typing import Any

from audit_toolkit.config import CONTEXT_LIMIT
from audit_toolkit.wal.changes import Change
from audit_toolkit.wal.decoder import NULL_FIELD
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


HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""What COPY in its binary format begins with."""
TRAILER = b"\xff\xff"
"""What it ends with."""
STAGED = (
    ("event_id", "bigint"),
    ("transaction_id", "xid8"),
    ("committed_at", "timestamptz"),
    ("context", "text"),
    ("session_user_name", "text"),
    ("role_name", "text"),
    ("application_name", "text"),
    ("client_addr", "text"),
    ("transaction_tstamp", "text"),
    ("action", "text"),
    ("has_before", "boolean"),
    ("has_after", "boolean"),
    ("is_changed", "boolean"),
)
"""The columns of a line before those of the cells, of the old row and then of the new one."""
_STAMP = struct.Struct("!iQiq")


def stamp(change: Change[bytes], transaction_id: int) -> bytes:
    """The fields of a line that all changes of a transaction share, up to the next context."""
    begin = change.begin
    return _STAMP.pack(8, transaction_id, 8, begin.moment) + _who_fields(change.context)


def line(change: Change[bytes], stamped: bytes, nulls: bytes) -> bytes:
    """The fields of a change behind its id; `nulls` are those of a row that there is not."""
    action, _, before, after, *_ = change
    kind = _KINDS[action, before is not None, after is not None, before != after]
    return b"".join((stamped, kind, before or nulls, after or nulls))


def lines(table: Lines, ids: bytes) -> Iterator[bytes]:
    """The lines of a table, with their ids; `ids` are those of the whole batch, eight bytes each."""
    head = _U16.pack(len(STAGED) + 2 * table.columns) + _EIGHT
    for number, rest in zip(table.numbers, table.rest, strict=True):
        yield head + ids[number : number + 8] + rest


@dataclass(slots=True)
class Lines:
    """Changes of one table as lines for COPY, but for their ids."""

    columns: int
    rest: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Where in the ids of the batch that of each line is."""


def is_incomplete(change: Change[Any]) -> bool:
    """Whether the WAL has no whole old row, as the replica identity was not FULL."""
    return change.before is None and change.action in "UD"


@lru_cache(maxsize=64)
def _who_fields(message: bytes | None) -> bytes:
    who = who_of(message)
    said = (
        who.context,
        who.session_user_name,
        who.role_name,
        who.application_name,
        who.client_addr,
        who.transaction_tstamp,
    )
    return b"".join(map(_field, said))


def copied_made(
    event_id: int, table: Table, change: Change[bytes], made: Made, transaction_id: int
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


def _field(text: str | None) -> bytes:
    if text is None:
        return NULL_FIELD
    data = text.encode()
    return _I32.pack(len(data)) + data


_U16, _I32 = struct.Struct("!H"), struct.Struct("!i")
_EIGHT = _I32.pack(8)
_BOOLEANS = {False: b"\0\0\0\1\0", True: b"\0\0\0\1\1"}
_KINDS = {
    (action, *said): _field(action) + b"".join(_BOOLEANS[each] for each in said)
    for action in "IUDT"
    for said in product((False, True), repeat=3)
}


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
