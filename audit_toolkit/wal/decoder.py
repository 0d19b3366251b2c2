"""Bytes of pgoutput to messages: version 1 of its protocol, text format, PostgreSQL 14 to 18. No I/O.

A row is decoded by the last relation message about its table: that is what the table was like when
the row was written, whatever DDL came since. What becomes of its cells is for the reader to choose:
text for who looks at them (`Texts`), or what the message has (`AsSent`), of which fields for COPY or
images are made later.
"""

from __future__ import annotations

import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from audit_toolkit.errors import AuditError
from audit_toolkit.wal.messages import (
    Begin,
    Column,
    Commit,
    Message,
    Missing,
    Note,
    Origin,
    Relation,
    Row,
    Truncate,
    Type,
)

R = TypeVar("R")

_U8, _U16, _I32, _U32, _U64 = (struct.Struct(f"!{code}") for code in "BHiIQ")
_BEGIN, _COMMIT, _NOTE = struct.Struct("!QqI"), struct.Struct("!BQQq"), struct.Struct("!BQ")
_INSERT, _DELETE = b"ID"
_KEY_ONLY, _WHOLE, _NEW = b"KON"
_TEXT, _NULL, _UNCHANGED = b"tnu"
_CASCADE, _RESTART_IDENTITY = 1, 2
_oid = _U32.unpack_from
_length = _U32.unpack_from


class Rows(ABC, Generic[R]):
    """Reads the rows of one table, as a relation message described it.

    Where all cells of a message are text, it is taken apart by searching for what a cell begins with,
    which is many times quicker than going from one cell to the next. That is exact: no text of
    PostgreSQL has a zero byte, so that in a message of less than 64 kB a `t` with two of them behind it
    is a cell and its length, and nothing else.
    """

    __slots__ = ("count", "new", "new_cell", "old", "quick_size", "relation")

    def __init__(self, relation: Relation) -> None:
        self.relation = relation
        self.count = len(relation.columns)
        count = _U16.pack(self.count)
        self.new, self.old = b"N" + count, b"O" + count
        self.new_cell = self.new + _CELL
        # Beyond 255 columns the number of columns has no zero byte to be found by.
        self.quick_size = _QUICK_SIZE if 0 < self.count < 256 else 0

    def read(self, data: bytes) -> tuple[R | None, R | None]:
        """The old and the new row of an insert, update or delete, as far as the message has them.

        Raises:
            AuditError: the message is malformed.
        """
        kind = data[0]
        if len(data) < self.quick_size:
            cells = data.count(_CELL, 8)
            if cells == self.count and kind != _UPDATE and _is_whole(data):
                if kind == _INSERT and data.startswith(self.new, 5):
                    return None, self._plain(data[8:])
                if kind == _DELETE and data.startswith(self.old, 5):
                    return self._plain(data[8:]), None
            elif cells == 2 * self.count and data.startswith(self.old, 5) and _is_whole(data):
                at = data.find(self.new_cell, 8)
                if at > 0:
                    return self._plain(data[8:at]), self._plain(data[at + 3 :])
        return self._read_by_cell(data, kind)

    def read_all(self, messages: Sequence[bytes]) -> list[tuple[R | None, R | None]]:
        """The rows of several messages, each of the same kind."""
        return list(map(self.read, messages))

    @abstractmethod
    def _plain(self, cells: bytes) -> R:
        """The row of these cells, all of which are text."""

    @abstractmethod
    def _row(self, cells: list[_Cell]) -> R: ...

    def _read_by_cell(self, data: bytes, kind: int) -> tuple[R | None, R | None]:
        before, old, position = None, None, 5
        if kind != _INSERT and data[5:6] != b"N":
            identity = data[5:6]
            if identity not in (b"K", b"O"):
                raise malformed(data, f"an old row expected, {identity!r} found")
            old, position = self._cells(data, 6)
            # Of a key alone, the other cells say NULL on the wire, which means nothing. Which of both it
            # is goes by the replica identity of the table that is named: for a partition published
            # under its root, that of the root. Only where both are FULL is a NULL a NULL.
            if identity == b"K":
                old = self._absent(old)
            before = self._row(old)
        if kind == _DELETE:
            after = None
            if old is None:
                raise malformed(data, "an old row expected")
        else:
            if data[position : position + 1] != b"N":
                raise malformed(data, f"b'N' expected, {data[position : position + 1]!r} found")
            new, position = self._cells(data, position + 1)
            if old is not None and Missing.UNCHANGED in new:
                new = [
                    was if cell is Missing.UNCHANGED and was is not Missing.ABSENT else cell
                    for cell, was in zip(new, old, strict=True)
                ]
            after = self._row(new)
        if position != len(data):
            raise malformed(data, f"{len(data) - position} bytes too many")
        return before, after

    def _absent(self, cells: list[_Cell]) -> list[_Cell]:
        return [
            cell if column.is_identity else Missing.ABSENT
            for cell, column in zip(cells, self.relation.columns, strict=True)
        ]

    def _cells(self, data: bytes, position: int) -> tuple[list[_Cell], int]:
        size, count = len(data), self.count
        if data[position : position + 2] != self.new[1:]:
            if position + 2 > size:
                raise malformed(data, "it is cut off")
            (found,) = _U16.unpack_from(data, position)
            raise malformed(data, f"{found} cells for {count} columns of {self.relation.name}")
        position += 2
        cells: list[_Cell] = []
        append = cells.append
        try:
            for _ in range(count):
                kind = data[position]
                if kind == _TEXT:
                    start = position + 1
                    position += 5 + _length(data, start)[0]
                    append(data[start:position])
                elif kind == _NULL:
                    append(None)
                    position += 1
                elif kind == _UNCHANGED:
                    append(Missing.UNCHANGED)
                    position += 1
                else:
                    raise malformed(data, f"unknown kind of cell {bytes([kind])!r}")
        except (IndexError, struct.error):
            raise malformed(data, "it is cut off") from None
        if position > size:
            raise malformed(data, "it is cut off")
        return cells, position


_Cell = bytes | Missing | None
"""With its length before it, as the message has it."""
_CELL = b"t\0\0"
_CELL_AND_LENGTH = re.compile(rb"t\0\0..", re.DOTALL)
_QUICK_SIZE = 1 << 16
_UPDATE = ord("U")


class Texts(Rows[Row]):
    """Rows as tuples of text."""

    __slots__ = ()

    def _plain(self, cells: bytes) -> Row:
        if cells.isascii():
            return tuple([cell[2:] for cell in cells.decode("ascii").split(_CELL_TEXT)[1:]])
        return tuple([_text(value) for value in plain_values(cells)])

    def _row(self, cells: list[_Cell]) -> Row:
        return tuple([_text(cell[4:]) if isinstance(cell, bytes) else cell for cell in cells])


_CELL_TEXT = _CELL.decode("ascii")


class AsSent(Rows["Sent"]):
    """Rows as the messages have them."""

    __slots__ = ()

    def _plain(self, cells: bytes) -> Sent:
        return cells

    def _row(self, cells: list[_Cell]) -> Sent:
        return cells


Sent = bytes | list[bytes | Missing | None]
"""The cells of a row: one after the other where all are text, or a list of them with the lengths before them."""
NULL_FIELD = b"\xff\xff\xff\xff"


def fields_of(row: Sent) -> bytes:
    """A row as fields of COPY in its binary format, of columns of type text."""
    if isinstance(row, bytes):
        return row.replace(_CELL, b"\0\0")
    return b"".join([cell if isinstance(cell, bytes) else NULL_FIELD for cell in row])


def is_partial(row: Sent) -> bool:
    """Whether the WAL has nothing but the replica identity of an old row."""
    return isinstance(row, list) and Missing.ABSENT in row


def values_of(row: Sent) -> list[bytes | Missing | None]:
    """The values of a row as bytes of text."""
    if isinstance(row, bytes):
        return list(plain_values(row))
    return [cell[4:] if isinstance(cell, bytes) else cell for cell in row]


def plain_values(cells: bytes) -> list[bytes]:
    """The values of cells that are all text."""
    return _CELL_AND_LENGTH.split(cells)[1:]


def texts_of(row: Sent) -> list[str | None]:
    """The values of a row as text."""
    return [_text(value) if isinstance(value, bytes) else None for value in values_of(row)]


class Decoder(Generic[R]):
    """Decodes the messages of one reading of a slot; it remembers the relations that it was told."""

    __slots__ = ("_form", "_rows")

    def __init__(self, form: Callable[[Relation], Rows[R]]) -> None:
        self._form = form
        self._rows: dict[int, Rows[R]] = {}

    def rows(self, data: bytes) -> Rows[R]:
        """What reads the rows of this message, which is an insert, update or delete.

        Raises:
            AuditError: no message before it told of its table.
        """
        try:
            return self._rows[_oid(data, 1)[0]]
        except (KeyError, struct.error):
            return self._of(_Reader(data, 1))

    def decode(self, data: bytes) -> Message:
        """A message about anything but a row.

        Raises:
            AuditError: it is of no kind that version 1 has, is cut off, or tells of a table that
                no message before it described.
        """
        kind = data[:1]
        read = _KINDS.get(kind)
        if read is None:
            raise AuditError(f"unknown message of pgoutput: {kind!r}", hint=_HINT)
        reader = _Reader(data, 1)
        message = read(self, reader)
        if reader.position != len(data):
            raise malformed(data, f"{len(data) - reader.position} bytes too many")
        return message

    def _of(self, reader: _Reader) -> Rows[R]:
        oid = reader.number(_U32)
        try:
            return self._rows[oid]
        except KeyError:
            reason = f"no message described the table with OID {oid}"
            raise malformed(reader.data, reason) from None

    def _begin(self, reader: _Reader) -> Begin:
        return Begin(*reader.fields(_BEGIN))

    def _commit(self, reader: _Reader) -> Commit:
        _, *said = reader.fields(_COMMIT)  # flags, of which there are none
        return Commit(*said)

    def _relation(self, reader: _Reader) -> Relation:
        oid, schema, name = reader.number(_U32), reader.string(), reader.string()
        identity = reader.take(1).decode("ascii")
        columns = tuple(_column(reader) for _ in range(reader.number(_U16)))
        relation = Relation(oid, schema or "pg_catalog", name, identity, columns)
        self._rows[oid] = self._form(relation)
        return relation

    def _type(self, reader: _Reader) -> Type:
        return Type(reader.number(_U32), reader.string() or "pg_catalog", reader.string())

    def _origin(self, reader: _Reader) -> Origin:
        return Origin(reader.number(_U64), reader.string())

    def _truncate(self, reader: _Reader) -> Truncate:
        count, options = reader.number(_U32), reader.number(_U8)
        relations = tuple(self._of(reader).relation for _ in range(count))
        return Truncate(relations, bool(options & _CASCADE), bool(options & _RESTART_IDENTITY))

    def _note(self, reader: _Reader) -> Note:
        transactional, lsn = reader.fields(_NOTE)
        prefix = reader.string()
        return Note(bool(transactional), lsn, prefix, reader.take(reader.number(_U32)))


_KINDS: dict[bytes, Callable[[Decoder[R], _Reader], Message]] = {
    b"B": Decoder._begin,
    b"C": Decoder._commit,
    b"R": Decoder._relation,
    b"Y": Decoder._type,
    b"O": Decoder._origin,
    b"T": Decoder._truncate,
    b"M": Decoder._note,
}
_HINT = "read the slot with proto_version 1, without streaming, two_phase and binary"


@dataclass(slots=True)
class _Reader:
    data: bytes
    position: int = 0

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise malformed(self.data, "it is cut off")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def fields(self, form: struct.Struct) -> tuple[int, ...]:
        try:
            values = form.unpack_from(self.data, self.position)
        except struct.error:
            raise malformed(self.data, "it is cut off") from None
        self.position += form.size
        return values

    def number(self, form: struct.Struct) -> int:
        (value,) = self.fields(form)
        return value

    def string(self) -> str:
        end = self.data.find(b"\0", self.position)
        if end < 0:
            raise malformed(self.data, "it is cut off")
        text = self.data[self.position : end]
        self.position = end + 1
        return _text(text)


def _column(reader: _Reader) -> Column:
    is_identity = bool(reader.number(_U8) & 1)
    return Column(reader.string(), reader.number(_U32), reader.number(_I32), is_identity)


def _is_whole(data: bytes) -> bool:
    """Whether a message of text cells ends where its last cell does."""
    start, size = data.rfind(_CELL) + 3, len(data)
    return start + 2 <= size and start + 2 + (data[start] << 8) + data[start + 1] == size


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AuditError(
            f"a value in the WAL is not UTF-8: {error.reason}",
            hint="a database in SQL_ASCII takes text in any encoding, and cannot be read this way",
        ) from error


def malformed(data: bytes, reason: str) -> AuditError:
    """The error of a message that is not as the protocol has it."""
    return AuditError(f"malformed message of pgoutput ({data[:1]!r}): {reason}", hint=_HINT)
