"""The decoder by bytes as the protocol has them, and by bytes that no server should send."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from audit_toolkit.errors import AuditError
from audit_toolkit.wal import Column, Decoder, Missing, Relation, Row, full_xid, lsn_text
from audit_toolkit.wal.decoder import NULL_FIELD, AsSent, Texts, fields_of, is_partial, texts_of
from audit_toolkit.wal.messages import Begin, Commit, Origin, Truncate, Type

RELATION = bytes.fromhex(
    "52 00004001 7075626c696300 7400 64 0002 01 696400 00000017 ffffffff 00 7600 00000019 ffffffff"
)
TABLE = Relation(
    16385, "public", "t", "d", (Column("id", 23, -1, True), Column("v", 25, -1, False))
)
INSERT = bytes.fromhex("49 00004001 4e 0002 74 00000001 31 6e")


def decoded(*messages: bytes) -> object:
    decoder = Decoder(Texts)
    return [decoder.decode(message) for message in messages][-1]


def read(message: bytes, relation: bytes = RELATION) -> tuple[Row | None, Row | None]:
    """The old and the new row, which are the same as fields for COPY."""
    texts, as_sent = Decoder(Texts), Decoder(AsSent)
    texts.decode(relation)
    as_sent.decode(relation)
    rows = texts.rows(message).read(message)
    for row, sent in zip(rows, as_sent.rows(message).read(message), strict=True):
        if row is None:
            assert sent is None
        else:
            assert sent is not None
            assert is_partial(sent) == (Missing.ABSENT in row)
            assert fields_of(sent) == b"".join(map(field, row))
            assert texts_of(sent) == [cell if isinstance(cell, str) else None for cell in row]
    return rows


def field(cell: object) -> bytes:
    data = cell.encode() if isinstance(cell, str) else None
    return NULL_FIELD if data is None else len(data).to_bytes(4, "big") + data


def row_of(mark: bytes, *cells: str | Missing | None) -> bytes:
    kinds = {None: b"n", Missing.UNCHANGED: b"u"}
    told = (kinds[cell] if not isinstance(cell, str) else b"t" + field(cell) for cell in cells)
    return mark + len(cells).to_bytes(2, "big") + b"".join(told)


def table_of(columns: int) -> bytes:
    named = b"".join(b"\1c%d\0\0\0\0\x19\xff\xff\xff\xff" % n for n in range(columns))
    return RELATION[:14] + b"f" + columns.to_bytes(2, "big") + named


def test_the_messages_of_a_transaction() -> None:
    begin = bytes.fromhex("42 0000000001a2b3c8 0002ffce0a9ab000 000002f3")
    commit = bytes.fromhex("43 00 0000000001a2b3c8 0000000001a2b3f8 0002ffce0a9ab000")
    at = datetime(2026, 10, 1, 22, 52, 39, 676928, tzinfo=UTC)
    started, ended = decoded(begin), decoded(commit)
    assert isinstance(started, Begin)
    assert isinstance(ended, Commit)
    assert (started.commit_lsn, started.xid) == (0x1A2B3C8, 755)
    assert (ended.commit_lsn, ended.end_lsn) == (0x1A2B3C8, 0x1A2B3F8)
    assert (started.committed_at, ended.moment) == (at, started.moment)


def test_rows_are_decoded_by_the_relation_before_them() -> None:
    assert decoded(RELATION) == TABLE
    assert read(INSERT) == (None, ("1", None))


def test_a_key_alone_leaves_the_other_cells_absent_rather_than_null() -> None:
    old_key = bytes.fromhex("4b 0002 74 00000001 31 6e")
    assert read(b"D\x00\x00\x40\x01" + old_key) == (("1", Missing.ABSENT), None)
    update = b"U\x00\x00\x40\x01" + old_key + bytes.fromhex("4e 0002 74 00000001 32 75")
    assert read(update) == (("1", Missing.ABSENT), ("2", Missing.UNCHANGED))


def test_what_is_unchanged_is_taken_from_the_whole_old_row_where_it_may_be_null() -> None:
    new = bytes.fromhex("4e 0002 74 00000001 32 75")
    whole = bytes.fromhex("4f 0002 74 00000001 31 74 00000002 c3a9")
    nothing = bytes.fromhex("4f 0002 74 00000001 31 6e")
    for old, value in ((whole, "\u00e9"), (nothing, None)):
        update = b"U\x00\x00\x40\x01" + old + new
        assert read(update) == (("1", value), ("2", value))


CELLS = (
    "",
    "t",
    "nnut",
    "N\1",
    "\u00e9" * 60,
    "t" * 116,
    "x" * 255,
    "N" * 78,
    "y" * 256,
    "z" * 29696,
)


@pytest.mark.parametrize("columns", [1, 2, 7, 78, 255, 256, 300])
def test_rows_are_taken_apart_at_the_same_places_whatever_they_hold(columns: int) -> None:
    relation, draw = table_of(columns), random.Random(columns)
    head = RELATION[1:5]
    for size in range(1, len(CELLS) + 1):
        for nulls in (0, 0, 0.3):
            old, new = (
                [
                    None if draw.random() < nulls else draw.choice(CELLS[:size])
                    for _ in range(columns)
                ]
                for _ in range(2)
            )
            whole, fresh = row_of(b"O", *old), row_of(b"N", *new)
            assert read(b"I" + head + fresh, relation) == (None, tuple(new))
            assert read(b"D" + head + whole, relation) == (tuple(old), None)
            assert read(b"U" + head + fresh, relation) == (None, tuple(new))
            assert read(b"U" + head + whole + fresh, relation) == (tuple(old), tuple(new))


def test_the_other_kinds() -> None:
    truncate = bytes.fromhex("54 00000001 03 00004001")
    assert decoded(RELATION, truncate) == Truncate((TABLE,), cascade=True, restart_identity=True)
    assert decoded(b"Y\x00\x00\x40\x02public\0mood\0") == Type(16386, "public", "mood")
    assert decoded(b"O" + bytes(7) + b"\x05east\0") == Origin(5, "east")


UPDATE = b"U" + INSERT[1:5] + row_of(b"O", "1", "a") + row_of(b"N", "2", "b")


@pytest.mark.parametrize(
    "message",
    [RELATION, INSERT, b"I" + UPDATE[1:5] + row_of(b"N", "1", "a"), UPDATE, b"D" + UPDATE[1:20]],
    ids=["relation", "insert", "insert without NULL", "update", "delete"],
)
def test_a_message_that_is_cut_off_anywhere_is_refused(message: bytes) -> None:
    decoder = Decoder(Texts)
    decoder.decode(RELATION)

    def taken(data: bytes) -> object:
        if data[:1] in (b"I", b"U", b"D"):
            return decoder.rows(data).read(data)
        return decoder.decode(data)

    taken(message)
    for length in range(len(message)):
        with pytest.raises(AuditError):
            taken(message[:length])
    with pytest.raises(AuditError, match="1 bytes too many"):
        taken(message + b"\0")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"S\x00\x00\x00\x01\x01", "unknown message"),
        (b"T\0\0\0\1\0" + INSERT[1:5], "no message described the table with OID 16385"),
        (b"Y\x00\x00\x40\x02\xff\0mood\0", "not UTF-8"),
    ],
)
def test_what_cannot_be_decoded_is_named(message: bytes, reason: str) -> None:
    with pytest.raises(AuditError, match=reason):
        decoded(message)
    with pytest.raises(AuditError, match="no message described the table with OID 16385"):
        Decoder(Texts).rows(INSERT)


def test_a_row_of_another_shape_or_with_binary_cells_is_refused() -> None:
    for row in ("4e 0001 6e", "4e 0002 6e 62 00000001 31", "4f 0002 6e 6e"):
        with pytest.raises(AuditError, match="malformed message"):
            read(b"I\x00\x00\x40\x01" + bytes.fromhex(row))


@pytest.mark.parametrize(
    ("xid", "next_xid", "full"),
    [
        (755, 800, 755),
        (755, (3 << 32) + 800, (3 << 32) + 755),
        (0xFFFFFFF0, (3 << 32) + 800, (2 << 32) + 0xFFFFFFF0),
        (801, 800, 801),
        (5, (4 << 32) - 6, (4 << 32) + 5),
        (0xFFFFFFF0, (1 << 32) + 800, 0xFFFFFFF0),
    ],
)
def test_a_transaction_number_is_widened_by_one_of_its_time(
    xid: int, next_xid: int, full: int
) -> None:
    assert full_xid(xid, next_xid) == full


def test_a_position_in_the_log_is_written_as_postgresql_does() -> None:
    assert lsn_text(0x16B374D848) == "16/B374D848"
    assert lsn_text(0x100000000) == "1/0"
