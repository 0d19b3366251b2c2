"""Changes as lines for a binary COPY: events as the trail has them, or rows of which the server makes events. No I/O.

Where images are made here, the lines go into the trail. Else the server makes them: by the templates that triggers
are made of, of values of the types that the columns had. Cells go as they stand in the WAL, as text; a view over the
staged rows gives them types.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import product

from audit_toolkit.wal.context import Address, Who
from audit_toolkit.wal.decoder import NULL_FIELD, Sent, fields_of, is_partial
from audit_toolkit.wal.images import Images
from audit_toolkit.wal.messages import Begin
from audit_toolkit.wal.tables import Made, Rule

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""What COPY in its binary format begins with."""
TRAILER = b"\xff\xff"
"""What it ends with."""
STAMP = (
    ("event_id", "bigint"),
    ("action_tstamp", "timestamptz"),
    ("transaction_id", "xid8"),
    ("context", "jsonb"),
    ("session_user_name", "text"),
    ("role_name", "text"),
    ("application_name", "text"),
    ("client_addr", "inet"),
    ("transaction_tstamp", "timestamptz"),
    ("action", "text"),
)
"""The columns that each line begins with."""
STAGED = (*STAMP, ("has_before", "boolean"), ("has_after", "boolean"), ("is_changed", "boolean"))
"""The columns of a staged row before those of the cells, of the old row and then of the new one."""
COPIED = (
    *(name for name, _ in STAMP),
    *("schema_name", "table_name", "row_key", "old_row_key", "old_row", "new_row"),
)
"""The columns of an event."""


Row = tuple[int, bytes, str, Sent | None, Sent | None]
"""A change that is to become a line: its place among the ids of the batch, its stamp, action, old and new row."""


def stamp(begin: Begin, transaction_id: int, who: Who) -> bytes:
    """The fields of a line that all changes of a transaction share, up to the next context."""
    return _STAMP.pack(8, begin.moment, 8, transaction_id) + _who_fields(who)


def staged_lines(rows: Iterable[Row], columns: int, ids: bytes) -> Iterator[bytes]:
    """Rows of which the server makes images; `ids` are those of the whole batch, eight bytes each."""
    wide = is_wide(columns)
    head = _U16.pack(len(STAGED) + (2 if wide else 2 * columns)) + _EIGHT
    nulls = NULL_FIELD if wide else NULL_FIELD * columns
    array = _ARRAY.pack(1, 1, _TEXT_OID, columns, 1)
    told = (lambda row: _counted(array + fields_of(row))) if wide else fields_of
    for number, stamped, action, before, after in rows:
        if before is not None and is_partial(before):
            before = None  # noqa: PLW2901
        kind = _KINDS[action, before is not None, after is not None, before != after]
        yield b"".join(
            (
                head,
                ids[number : number + 8],
                stamped,
                kind,
                nulls if before is None else told(before),
                nulls if after is None else told(after),
            )
        )


def is_wide(columns: int) -> bool:
    """Whether a table has no place for two rows of so many columns, so that each is staged as one array."""
    return len(STAGED) + 2 * columns > _MOST_COLUMNS


def event_lines(rows: Sequence[Row], images: Images, rule: Rule, ids: bytes) -> Iterator[bytes]:
    """Events with images that are made here."""
    head = _U16.pack(len(COPIED)) + _EIGHT
    actions = {action: _field(action) + b"".join(map(_field, rule.called)) for action in "IUDT"}
    olds = images.of([before for _, _, _, before, _ in rows if before is not None])
    news = images.of([after for *_, after in rows if after is not None])
    for number, stamped, action, before, after in rows:
        old, old_key = (None, None) if before is None else next(olds)
        new, key = (None, None) if after is None else next(news)
        if before is not None and is_partial(before):
            old = None
        if before == after and before is not None and not rule.log_unchanged:
            continue
        if action == "D":
            key, old_key = old_key, None
        elif key == old_key:
            old_key = None
        yield b"".join(
            (
                head,
                ids[number : number + 8],
                stamped,
                actions[action],
                NULL_FIELD if key is None else _I32.pack(len(key)) + key,
                NULL_FIELD if old_key is None else _I32.pack(len(old_key)) + old_key,
                NULL_FIELD if old is None else _JSONB.pack(len(old) + 1, 1) + old,
                NULL_FIELD if new is None else _JSONB.pack(len(new) + 1, 1) + new,
            )
        )


def made_line(place: int, stamped: bytes, made: Made, called: tuple[str, str], ids: bytes) -> bytes:
    """The line of an event that needs no image."""
    head = _U16.pack(len(COPIED)) + _EIGHT + ids[place : place + 8]
    new_row = None if made.new_row is None else json.dumps(made.new_row)
    fields = (made.action, *called, made.row_key, None)  # no former key
    return b"".join((head, stamped, *map(_field, fields), _jsonb(made.old_row), _jsonb(new_row)))


@lru_cache(maxsize=64)
def _who_fields(who: Who) -> bytes:
    said = (who.session_user_name, who.role_name, who.application_name)
    moment = who.transaction_moment
    return b"".join(
        (
            _jsonb(who.context),
            *map(_field, said),
            _inet(who.client_addr),
            NULL_FIELD if moment is None else _MOMENT.pack(8, moment),
        )
    )


def _counted(data: bytes) -> bytes:
    return _I32.pack(len(data)) + data


def _field(text: str | None) -> bytes:
    if text is None:
        return NULL_FIELD
    data = text.encode()
    return _I32.pack(len(data)) + data


def _jsonb(text: str | None) -> bytes:
    if text is None:
        return NULL_FIELD
    data = text.encode()
    return _JSONB.pack(len(data) + 1, 1) + data


def _inet(address: Address | None) -> bytes:
    if address is None:
        return NULL_FIELD
    packed = address.packed
    family = 2 if address.version == 4 else 3
    return _INET.pack(4 + len(packed), family, address.network.prefixlen, 0, len(packed)) + packed


_U16, _I32, _MOMENT = struct.Struct("!H"), struct.Struct("!i"), struct.Struct("!iq")
_STAMP = struct.Struct("!iqiQ")
_JSONB = struct.Struct("!iB")
_INET = struct.Struct("!iBBBB")
_ARRAY = struct.Struct("!iiIii")
"""Dimensions, whether there are NULLs, the type of the elements, how many, and the number of the first."""
_TEXT_OID, _MOST_COLUMNS = 25, 1600
_EIGHT = _I32.pack(8)
_BOOLEANS = {False: b"\0\0\0\1\0", True: b"\0\0\0\1\1"}
_KINDS = {
    (action, *said): _field(action) + b"".join(_BOOLEANS[each] for each in said)
    for action in "IUDT"
    for said in product((False, True), repeat=3)
}
