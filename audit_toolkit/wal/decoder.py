"""Bytes of pgoutput to messages: version 1 of its protocol, text format, PostgreSQL 14 to 18. No I/O.

A row is decoded by the last relation message about its table: that is what the table was like when
the row was written, whatever DDL came since.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from audit_toolkit.errors import AuditError
from audit_toolkit.wal.messages import (
    Begin,
    Cell,
    Column,
    Commit,
    Delete,
    Insert,
    Message,
    Missing,
    Note,
    Origin,
    Relation,
    Row,
    Truncate,
    Type,
    Update,
)

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_U8, _U16, _I32, _U32, _U64 = (struct.Struct(f"!{code}") for code in "BHiIQ")
_I64 = struct.Struct("!q")
_KEY_ONLY, _WHOLE, _NEW = b"K", b"O", b"N"
_CASCADE, _RESTART_IDENTITY = 1, 2


@dataclass(slots=True)
class Decoder:
    """Decodes the messages of one reading of a slot; it remembers the relations that it was told."""

    _relations: dict[int, Relation] = field(default_factory=dict)

    def decode(self, data: bytes) -> Message:
        """The message.

        Raises:
            AuditError: it is of no kind that version 1 has, is cut off, or tells of a table that
                no message before it described.
        """
        reader = _Reader(data)
        kind = reader.take(1)
        read = _KINDS.get(kind)
        if read is None:
            raise AuditError(f"unknown message of pgoutput: {kind!r}", hint=_HINT)
        message = read(self, reader)
        if reader.position != len(data):
            raise _malformed(data, f"{len(data) - reader.position} bytes too many")
        return message

    def _relation_of(self, reader: _Reader) -> Relation:
        oid = reader.number(_U32)
        try:
            return self._relations[oid]
        except KeyError:
            reason = f"no message described the table with OID {oid}"
            raise _malformed(reader.data, reason) from None

    def _begin(self, reader: _Reader) -> Begin:
        return Begin(reader.number(_U64), reader.time(), reader.number(_U32))

    def _commit(self, reader: _Reader) -> Commit:
        reader.take(1)  # flags, of which there are none
        return Commit(reader.number(_U64), reader.number(_U64), reader.time())

    def _relation(self, reader: _Reader) -> Relation:
        oid, schema, name = reader.number(_U32), reader.string(), reader.string()
        identity = reader.take(1).decode("ascii")
        columns = tuple(_column(reader) for _ in range(reader.number(_U16)))
        relation = Relation(oid, schema or "pg_catalog", name, identity, columns)
        self._relations[oid] = relation
        return relation

    def _type(self, reader: _Reader) -> Type:
        return Type(reader.number(_U32), reader.string() or "pg_catalog", reader.string())

    def _origin(self, reader: _Reader) -> Origin:
        return Origin(reader.number(_U64), reader.string())

    def _insert(self, reader: _Reader) -> Insert:
        relation = self._relation_of(reader)
        reader.expect(_NEW)
        return Insert(relation, _row(reader, relation))

    def _update(self, reader: _Reader) -> Update:
        relation = self._relation_of(reader)
        before, kind = None, reader.take(1)
        if kind != _NEW:
            before = _old_row(reader, relation, kind)
            reader.expect(_NEW)
        return Update(relation, before, _with_unchanged(_row(reader, relation), before))

    def _delete(self, reader: _Reader) -> Delete:
        relation = self._relation_of(reader)
        return Delete(relation, _old_row(reader, relation, reader.take(1)))

    def _truncate(self, reader: _Reader) -> Truncate:
        count, options = reader.number(_U32), reader.number(_U8)
        relations = tuple(self._relation_of(reader) for _ in range(count))
        return Truncate(relations, bool(options & _CASCADE), bool(options & _RESTART_IDENTITY))

    def _note(self, reader: _Reader) -> Note:
        transactional = bool(reader.number(_U8))
        lsn, prefix = reader.number(_U64), reader.string()
        return Note(transactional, lsn, prefix, reader.take(reader.number(_U32)))


_KINDS: dict[bytes, Callable[[Decoder, _Reader], Message]] = {
    b"B": Decoder._begin,
    b"C": Decoder._commit,
    b"R": Decoder._relation,
    b"Y": Decoder._type,
    b"O": Decoder._origin,
    b"I": Decoder._insert,
    b"U": Decoder._update,
    b"D": Decoder._delete,
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
            raise _malformed(self.data, "it is cut off")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def expect(self, kind: bytes) -> None:
        found = self.take(1)
        if found != kind:
            raise _malformed(self.data, f"{kind!r} expected, {found!r} found")

    def number(self, form: struct.Struct) -> int:
        (value,) = form.unpack(self.take(form.size))
        return int(value)

    def time(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.number(_I64))

    def string(self) -> str:
        end = self.data.find(b"\0", self.position)
        if end < 0:
            raise _malformed(self.data, "it is cut off")
        text = self.data[self.position : end]
        self.position = end + 1
        return _text(text)


def _column(reader: _Reader) -> Column:
    is_identity = bool(reader.number(_U8) & 1)
    return Column(reader.string(), reader.number(_U32), reader.number(_I32), is_identity)


def _row(reader: _Reader, relation: Relation) -> Row:
    count = reader.number(_U16)
    if count != len(relation.columns):
        reason = f"{count} cells for {len(relation.columns)} columns of {relation.name}"
        raise _malformed(reader.data, reason)
    # In place, and not by `take`: most of the time of a worker is spent here.
    data, position, size = reader.data, reader.position, len(reader.data)
    cells: list[Cell] = []
    for _ in range(count):
        kind = data[position : position + 1]
        position += 1
        if kind == b"t":
            start = position + 4
            position = start + int.from_bytes(data[position:start], "big")
            if position > size or start > size:
                raise _malformed(data, "it is cut off")
            cells.append(_text(data[start:position]))
        elif kind == b"n":
            cells.append(None)
        elif kind == b"u":
            cells.append(Missing.UNCHANGED)
        else:
            raise _malformed(data, f"unknown kind of cell {kind!r}" if kind else "it is cut off")
    reader.position = position
    return tuple(cells)


def _old_row(reader: _Reader, relation: Relation, kind: bytes) -> Row:
    """The old row. Of a key alone, the other cells say NULL on the wire, which means nothing.

    Which of both it is goes by the replica identity of the table that is named: for a partition
    published under its root, that of the root. Only where both are FULL is a NULL a NULL.
    """
    if kind not in {_KEY_ONLY, _WHOLE}:
        raise _malformed(reader.data, f"an old row expected, {kind!r} found")
    row = _row(reader, relation)
    if kind == _WHOLE:
        return row
    return tuple(
        cell if column.is_identity else Missing.ABSENT
        for cell, column in zip(row, relation.columns, strict=True)
    )


def _with_unchanged(after: Row, before: Row | None) -> Row:
    """The new row, with what did not change taken from the old one where the old one has it."""
    if before is None or Missing.UNCHANGED not in after:
        return after
    return tuple(
        old if new is Missing.UNCHANGED and old is not Missing.ABSENT else new
        for new, old in zip(after, before, strict=True)
    )


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AuditError(
            f"a value in the WAL is not UTF-8: {error.reason}",
            hint="a database in SQL_ASCII takes text in any encoding, and cannot be read this way",
        ) from error


def _malformed(data: bytes, reason: str) -> AuditError:
    return AuditError(f"malformed message of pgoutput ({data[:1]!r}): {reason}", hint=_HINT)
