"""Rows of the WAL as JSON and as keys, as `to_jsonb` would have them. No I/O.

The text of a value is its JSON, or nearly so, for the types that most columns have. Of other types (arrays, above
all) the server makes the images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

from audit_toolkit.long_keys import fitting_bytes
from audit_toolkit.wal.decoder import Sent, plain_values, values_of
from audit_toolkit.wal.messages import Missing

Show = Callable[[bytes], bytes]


def _as_it_is(text: bytes) -> bytes:
    return text


def _number(text: bytes) -> bytes:
    """Infinity, -Infinity and NaN are strings in JSON."""
    return b'"' + text + b'"' if text[-1:] in (b"y", b"N") else text


def _boolean(text: bytes) -> bytes:
    return b"true" if text == b"t" else b"false"


def _timestamp(text: bytes) -> bytes:
    """ISO 8601, up to what follows the year of a date before Christ; infinity has no blank."""
    return text.replace(b" ", b"T", 1)


def _timestamptz(text: bytes) -> bytes:
    """The same; it is printed in UTC."""
    return text.replace(b" ", b"T", 1).replace(b"+00", b"+00:00", 1)


class _Kind(NamedTuple):
    """How the values of a type are shown."""

    show: Show = _as_it_is
    is_text: bool = False
    """Whether it is a string in JSON."""
    may_need_escapes: bool = False
    makes_keys: bool = True
    """Whether `->>` gives what is shown."""


_TEXT = _Kind(is_text=True, may_need_escapes=True)
_STRING = _Kind(is_text=True)
_KINDS = {
    **dict.fromkeys(("smallint", "integer", "bigint"), _Kind()),
    "numeric": _Kind(_number, makes_keys=False),
    **dict.fromkeys(("real", "double precision"), _Kind(_number, makes_keys=False)),
    "boolean": _Kind(_boolean),
    **dict.fromkeys(("json", "jsonb"), _Kind(makes_keys=False)),
    **dict.fromkeys(
        ("text", "character varying", "pg_catalog.bpchar", "name", '"char"', "bytea"), _TEXT
    ),
    **dict.fromkeys(("uuid", "inet", "cidr", "macaddr", "date"), _STRING),
    **dict.fromkeys(("time without time zone", "time with time zone", "interval"), _STRING),
    "timestamp without time zone": _Kind(_timestamp, is_text=True),
    "timestamp with time zone": _Kind(_timestamptz, is_text=True),
}
"""By the names of the types in which values are staged; those of types that are not PostgreSQL's own are text."""
_ESCAPED = bytes(range(0x20)) + b'"\\'


class Images:
    """Makes the images and keys of rows that have these columns."""

    __slots__ = ("_columns", "_in_order", "_key", "_pieces", "_shown", "_template", "_texts")

    def __init__(self, columns: Sequence[tuple[str, str]], key: Sequence[str]) -> None:
        """`columns` are names and types that `images_of` has looked at."""
        kinds = [(name, _KINDS[type_name]) for name, type_name in columns]
        places = {name: place for place, (name, _) in enumerate(kinds)}
        self._key = [places[name] for name in key]
        self._columns = [kind for _, kind in kinds]
        self._shown = [
            (place, kind.show)
            for place, kind in enumerate(self._columns)
            if kind.show is not _as_it_is
        ]
        self._texts = _getter(
            [place for place, kind in enumerate(self._columns) if kind.may_need_escapes]
        )
        # In the order that jsonb has, so that nothing is left to be sorted.
        names = sorted(
            ((name.encode(), place) for name, place in places.items()),
            key=lambda named: (len(named[0]), named[0]),
        )
        self._in_order = _getter([place for _, place in names])
        self._pieces = [(_quoted(name) + b": ", place) for name, place in names]
        pieces = (
            piece.replace(b"%", b"%%") + (b'"%b"' if self._columns[place].is_text else b"%b")
            for piece, place in self._pieces
        )
        self._template = b"{" + b", ".join(pieces) + b"}"

    def of(self, row: Sent) -> tuple[bytes, bytes | None]:
        """The image of a row as JSON, and its key; without what the WAL does not have of it."""
        if isinstance(row, bytes):
            values = plain_values(row)
            text = b"".join(self._texts(values))
            if len(text) == len(text.translate(None, _ESCAPED)):
                for place, show in self._shown:
                    values[place] = show(values[place])
                return self._template % self._in_order(values), self._key_of(values)
        shown = [
            kind.show(value) if isinstance(value, bytes) else value
            for kind, value in zip(self._columns, values_of(row), strict=True)
        ]
        pieces = [
            name + self._json(place, value)
            for name, place in self._pieces
            if not isinstance(value := shown[place], Missing)
        ]
        return b"{" + b", ".join(pieces) + b"}", self._key_of(shown)

    def _json(self, place: int, shown: bytes | None) -> bytes:
        if shown is None:
            return b"null"
        kind = self._columns[place]
        if not kind.is_text:
            return shown
        return _quoted(shown) if kind.may_need_escapes else b'"' + shown + b'"'

    def _key_of(self, shown: Sequence[bytes | Missing | None]) -> bytes | None:
        pieces = []
        for place in self._key:
            value = shown[place]
            if isinstance(value, Missing):
                return None
            if len(self._key) == 1:
                return value and fitting_bytes(value)
            pieces.append(self._json(place, value))
        return fitting_bytes(b"[" + b", ".join(pieces) + b"]") if pieces else None


def images_of(columns: Sequence[tuple[str, str]], key: Sequence[str]) -> Images | None:
    """What makes the images and keys of rows of these columns; None where only the server can."""
    types = dict(columns)
    is_possible = all(type_name in _KINDS for type_name in types.values()) and all(
        name in types and _KINDS[types[name]].makes_keys for name in key
    )
    return Images(columns, key) if is_possible else None


def _getter(places: list[int]) -> Callable[[Sequence[bytes]], tuple[bytes, ...]]:
    """What takes these of some values."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: tuple([values[place] for place in places])


def _quoted(text: bytes) -> bytes:
    """A string as PostgreSQL writes it in JSON."""
    if len(text) == len(text.translate(None, _ESCAPED)):
        return b'"' + text + b'"'
    return json.dumps(text.decode("utf-8", "surrogateescape"), ensure_ascii=False).encode(
        "utf-8", "surrogateescape"
    )
