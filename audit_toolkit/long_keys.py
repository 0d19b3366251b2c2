"""Keys that are too long for an index: the trail has their digest, so that no write fails for its key.

An entry of a btree takes 2704 bytes, with the names of schema and table. A table may well have keys whose text is
longer: of type bytea, which the trail writes in hex, or of several columns with characters that JSON escapes. The
values themselves are in the images, whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

LONGEST = 2500
"""Bytes of a key, in UTF-8, that the trail has as it is."""

_NARROW = {
    *(
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "real",
        "double precision",
        "money",
        "oid",
        "uuid",
    ),
    *("inet", "cidr", "macaddr", "macaddr8", "pg_lsn", "date", "interval"),
    *(f"{kind} {zone} time zone" for kind in ("time", "timestamp") for zone in ("with", "without")),
}
"""Types whose values take at most 64 bytes."""
_PRECISION = re.compile(r"^(time|timestamp|interval)\(\d\)")
_OF_LENGTH = re.compile(r"(?:character varying|character|numeric)\((\d+)(?:,-?\d+)?\)")
_ESCAPED = 6
"""Bytes that a character takes at most, as JSON."""


def fitting(key: str) -> str:
    """A key as the trail has it."""
    return fitting_bytes(key.encode()).decode()


def fitting_bytes(key: bytes) -> bytes:
    """The same in UTF-8."""
    if len(key) <= LONGEST:
        return key
    return b"audit:sha256:" + hashlib.sha256(key).hexdigest().encode()


def may_be_long(types: Iterable[str]) -> bool:
    """Whether the text of a key of columns of these types, as `format_type` names them, may be longer."""
    return sum(map(_most_bytes, types)) > LONGEST


def _most_bytes(type_name: str) -> int:
    if _PRECISION.sub(r"\1", type_name) in _NARROW:
        return 64
    declared = _OF_LENGTH.fullmatch(type_name)
    return int(declared[1]) * _ESCAPED + 4 if declared else LONGEST + 1
