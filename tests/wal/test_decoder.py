"""The decoder by bytes as the protocol has them, and by bytes that no server should send."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from audit_toolkit.errors import AuditError
from audit_toolkit.wal import Column, Decoder, Missing, Relation, full_xid, lsn_text
from audit_toolkit.wal.messages import Begin, Commit, Delete, Insert, Origin, Truncate, Type, Update

RELATION = bytes.fromhex(
    "52 00004001 7075626c696300 7400 64 0002 01 696400 00000017 ffffffff 00 7600 00000019 ffffffff"
)
TABLE = Relation(
    16385, "public", "t", "d", (Column("id", 23, -1, True), Column("v", 25, -1, False))
)
INSERT = bytes.fromhex("49 00004001 4e 0002 74 00000001 31 6e")


def decoded(*messages: bytes) -> object:
    decoder = Decoder()
    return [decoder.decode(message) for message in messages][-1]


def test_the_messages_of_a_transaction() -> None:
    begin = bytes.fromhex("42 0000000001a2b3c8 0002ffce0a9ab000 000002f3")
    commit = bytes.fromhex("43 00 0000000001a2b3c8 0000000001a2b3f8 0002ffce0a9ab000")
    at = datetime(2026, 10, 1, 22, 52, 39, 676928, tzinfo=UTC)
    started, ended = decoded(begin), decoded(commit)
    assert isinstance(started, Begin)
    assert isinstance(ended, Commit)
    assert (started.commit_lsn, started.xid) == (0x1A2B3C8, 755)
    assert (ended.commit_lsn, ended.end_lsn) == (0x1A2B3C8, 0x1A2B3F8)
    assert started.committed_at == ended.committed_at == at


def test_rows_are_decoded_by_the_relation_before_them() -> None:
    assert decoded(RELATION) == TABLE
    assert decoded(RELATION, INSERT) == Insert(TABLE, ("1", None))


def test_a_key_alone_leaves_the_other_cells_absent_rather_than_null() -> None:
    old_key = bytes.fromhex("4b 0002 74 00000001 31 6e")
    assert decoded(RELATION, b"D\x00\x00\x40\x01" + old_key) == Delete(TABLE, ("1", Missing.ABSENT))
    update = b"U\x00\x00\x40\x01" + old_key + bytes.fromhex("4e 0002 74 00000001 32 75")
    changed = Update(TABLE, ("1", Missing.ABSENT), ("2", Missing.UNCHANGED))
    assert decoded(RELATION, update) == changed


def test_what_is_unchanged_is_taken_from_the_whole_old_row_where_it_may_be_null() -> None:
    new = bytes.fromhex("4e 0002 74 00000001 32 75")
    whole = bytes.fromhex("4f 0002 74 00000001 31 74 00000002 c3a9")
    nothing = bytes.fromhex("4f 0002 74 00000001 31 6e")
    for old, value in ((whole, "\u00e9"), (nothing, None)):
        update = b"U\x00\x00\x40\x01" + old + new
        assert decoded(RELATION, update) == Update(TABLE, ("1", value), ("2", value))


def test_the_other_kinds() -> None:
    truncate = bytes.fromhex("54 00000001 03 00004001")
    assert decoded(RELATION, truncate) == Truncate((TABLE,), cascade=True, restart_identity=True)
    assert decoded(b"Y\x00\x00\x40\x02public\0mood\0") == Type(16386, "public", "mood")
    assert decoded(b"O" + bytes(7) + b"\x05east\0") == Origin(5, "east")


@pytest.mark.parametrize("message", [RELATION, INSERT], ids=["relation", "insert"])
def test_a_message_that_is_cut_off_anywhere_is_refused(message: bytes) -> None:
    decoder = Decoder()
    decoder.decode(RELATION)
    for length in range(len(message)):
        with pytest.raises(AuditError):
            decoder.decode(message[:length])
    with pytest.raises(AuditError, match="1 bytes too many"):
        decoder.decode(message + b"\0")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"S\x00\x00\x00\x01\x01", "unknown message"),
        (INSERT, "no message described the table with OID 16385"),
        (b"Y\x00\x00\x40\x02\xff\0mood\0", "not UTF-8"),
    ],
)
def test_what_cannot_be_decoded_is_named(message: bytes, reason: str) -> None:
    with pytest.raises(AuditError, match=reason):
        decoded(message)


def test_a_row_of_another_shape_or_with_binary_cells_is_refused() -> None:
    for row in ("4e 0001 6e", "4e 0002 6e 62 00000001 31", "4f 0002 6e 6e"):
        with pytest.raises(AuditError, match="malformed message"):
            decoded(RELATION, b"I\x00\x00\x40\x01" + bytes.fromhex(row))


@pytest.mark.parametrize(
    ("xid", "next_xid", "full"),
    [
        (755, 800, 755),
        (755, (3 << 32) + 800, (3 << 32) + 755),
        (0xFFFFFFF0, (3 << 32) + 800, (2 << 32) + 0xFFFFFFF0),
        (800, (1 << 32) + 800, 800),
    ],
)
def test_a_transaction_number_is_widened_by_the_next_one(
    xid: int, next_xid: int, full: int
) -> None:
    assert full_xid(xid, next_xid) == full


def test_a_position_in_the_log_is_written_as_postgresql_does() -> None:
    assert lsn_text(0x16B374D848) == "16/B374D848"
    assert lsn_text(0x100000000) == "1/0"
