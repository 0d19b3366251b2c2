"""Rows of the WAL as JSON and as keys, as `to_jsonb` would have them. No I/O.

The text of a value is its JSON, or nearly so, for the types that most columns have. Of other types (arrays, above
all) the server makes the images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from audit_toolkit.long_keys import fitting_bytes
from audit_toolkit.wal.decoder import Sent, plain_values, values_of
from audit_toolkit.wal.messages import Missing

Column = list[bytes]
"""The values of a column in several rows."""
Show = Callable[[Column], Column]


def _as_they_are(texts: Column) -> Column:
    return texts


def _numbers(texts: Column) -> Column:
    """Infinity, -Infinity and NaN are strings in JSON."""
    if not _any_has(texts, b"yN"):
        return texts
    return [b'"' + text + b'"' if text[-1:] in (b"y", b"N") else text for text in texts]


def _booleans(texts: Column) -> Column:
    return [b"true" if text == b"t" else b"false" for text in texts]


def _timestamps(texts: Column) -> Column:
    """ISO 8601, up to what follows the year of a date before Christ; infinity has no blank."""
    if _any_has(texts, b"B"):
        return [text.replace(b" ", b"T", 1) for text in texts]
    return b"\n".join(texts).replace(b" ", b"T").split(b"\n")


def _timestamptzs(texts: Column) -> Column:
    """The same; they are printed in UTC."""
    if _any_has(texts, b"B"):
        return [text.replace(b"+00", b"+00:00", 1) for text in _timestamps(texts)]
    return b"\n".join(texts).replace(b" ", b"T").replace(b"+00", b"+00:00").split(b"\n")


def _any_has(texts: Column, characters: bytes) -> bool:
    """Whether one of the characters is in one of the texts: quicker than to look into each."""
    text = b"".join(texts)
    return len(text) != len(text.translate(None, characters))


class _Kind(NamedTuple):
    """How the values of a type are shown."""

    show: Show = _as_they_are
    is_text: bool = False
    """Whether it is a string in JSON."""
    may_need_escapes: bool = False
    makes_keys: bool = True
    """Whether `->>` gives what is shown."""


_TEXT = _Kind(is_text=True, may_need_escapes=True)
_STRING = _Kind(is_text=True)
_KINDS = {
    **dict.fromkeys(("smallint", "integer", "bigint"), _Kind()),
    "numeric": _Kind(_numbers, makes_keys=False),
    **dict.fromkeys(("real", "double precision"), _Kind(_numbers, makes_keys=False)),
    "boolean": _Kind(_booleans),
    **dict.fromkeys(("json", "jsonb"), _Kind(makes_keys=False)),
    **dict.fromkeys(
        ("text", "character varying", "pg_catalog.bpchar", "name", '"char"', "bytea"), _TEXT
    ),
    **dict.fromkeys(("uuid", "inet", "cidr", "macaddr", "date"), _STRING),
    **dict.fromkeys(("time without time zone", "time with time zone", "interval"), _STRING),
    "timestamp without time zone": _Kind(_timestamps, is_text=True),
    "timestamp with time zone": _Kind(_timestamptzs, is_text=True),
}
"""By the names of the types in which values are staged; those of types that are not PostgreSQL's own are text."""
_ESCAPED = bytes(range(0x20)) + b'"\\'


class Images:
    """Makes the images and keys of rows that have these columns, column by column."""

    __slots__ = ("_columns", "_in_order", "_key")

    def __init__(self, columns: Sequence[tuple[str, str]], key: Sequence[str]) -> None:
        """`columns` are names and types that `images_of` has looked at."""
        places = {name: place for place, (name, _) in enumerate(columns)}
        self._key = [places[name] for name in key]
        self._columns = [_KINDS[type_name] for _, type_name in columns]
        # In the order that jsonb has, so that nothing is left to be sorted.
        names = sorted(
            ((name.encode(), place) for name, place in places.items()),
            key=lambda named: (len(named[0]), named[0]),
        )
        self._in_order = [
            (place, _quoted(name).replace(b"%", b"%%") + b": ") for name, place in names
        ]

    def of(self, rows: Sequence[Sent]) -> Iterator[tuple[bytes, bytes | None]]:
        """The images of rows as JSON, and their keys; without what the WAL does not have of them."""
        if not rows:
            return iter(())
        if not any(isinstance(row, list) and _lacks_cells(row) for row in rows):
            return self._of_columns(_columns_of(rows), len(rows))
        return (made for row in rows for made in self._of_columns(_columns_of([row]), 1))

    def _of_columns(
        self, columns: Sequence[Sequence[bytes | Missing | None]], count: int
    ) -> Iterator[tuple[bytes, bytes | None]]:
        cells = {
            place: _Cells(kind, values)
            for place, (kind, values) in enumerate(zip(self._columns, columns, strict=True))
            if not isinstance(values[0], Missing)
        }
        members = [(name, cells[place]) for place, name in self._in_order if place in cells]
        images = _filled(
            b"{" + b", ".join([name + cell.place for name, cell in members]) + b"}",
            [cell for _, cell in members],
            count,
        )
        return zip(images, self._keys(cells, count), strict=True)

    def _keys(self, cells: Mapping[int, _Cells], count: int) -> Iterable[bytes | None]:
        if not self._key or any(place not in cells for place in self._key):
            return repeat(None, count)
        parts = [cells[place] for place in self._key]
        if len(parts) == 1:
            return [value and fitting_bytes(value) for value in parts[0].shown]
        keys = _filled(b"[" + b", ".join([part.place for part in parts]) + b"]", parts, count)
        return map(fitting_bytes, keys)


class _Cells:
    """The cells of a column in several rows."""

    __slots__ = ("json", "place", "shown")

    def __init__(self, kind: _Kind, values: Sequence[Any]) -> None:
        present = list(values) if None not in values else [v for v in values if v is not None]
        shown = json = kind.show(present) if present else present
        self.place = b"%b"
        """What stands for a cell in a template."""
        if kind.is_text:
            if kind.may_need_escapes and _any_has(shown, _ESCAPED):
                json = list(map(_quoted, shown))
            elif len(present) < len(values):
                json = [b'"' + text + b'"' for text in shown]
            else:
                self.place = b'"%b"'
        self.shown: list[bytes | None] = _with_nulls(shown, values, None)
        self.json: list[bytes] = _with_nulls(json, values, b"null")


def _with_nulls(present: list[Any], values: Sequence[object], null: object) -> list[Any]:
    """What was made of the values, with this for each NULL."""
    if len(present) == len(values):
        return present
    made = iter(present)
    return [null if value is None else next(made) for value in values]


def _filled(template: bytes, cells: Sequence[_Cells], count: int) -> Iterable[bytes]:
    """The template with the cells of each row in it."""
    if not cells:
        return repeat(template % (), count)
    return map(template.__mod__, zip(*(cell.json for cell in cells), strict=True))


def _columns_of(rows: Sequence[Sent]) -> Sequence[Sequence[bytes | Missing | None]]:
    """The values of rows by column."""
    plain = [row for row in rows if isinstance(row, bytes)]
    if len(plain) < len(rows):
        return list(zip(*map(values_of, rows), strict=True))
    values = plain_values(b"".join(plain))
    count = len(values) // len(rows)
    return [values[place::count] for place in range(count)]


def _lacks_cells(row: list[bytes | Missing | None]) -> bool:
    return Missing.ABSENT in row or Missing.UNCHANGED in row


def images_of(columns: Sequence[tuple[str, str]], key: Sequence[str]) -> Images | None:
    """What makes the images and keys of rows of these columns; None where only the server can."""
    types = dict(columns)
    is_possible = all(type_name in _KINDS for type_name in types.values()) and all(
        name in types and _KINDS[types[name]].makes_keys for name in key
    )
    return Images(columns, key) if is_possible else None


def _quoted(text: bytes) -> bytes:
    """A string as PostgreSQL writes it in JSON."""
    if len(text) == len(text.translate(None, _ESCAPED)):
        return b'"' + text + b'"'
    return json.dumps(text.decode("utf-8", "surrogateescape"), ensure_ascii=False).encode(
        "utf-8", "surrogateescape"
    )
