"""Messages to changes: one a row, each with a key that redelivery repeats, and with its context. No I/O.

Nothing is kept of a transaction but its beginning, so that memory does not grow with its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from audit_toolkit.errors import AuditError
from audit_toolkit.wal.decoder import Decoder
from audit_toolkit.wal.messages import (
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Note,
    Relation,
    Row,
    Truncate,
    Update,
)

CONTEXT_PREFIX = "audit.context"
"""The prefix of the messages that carry the context of the changes behind them."""
_XIDS = 1 << 32


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a change stands: the same however often it is delivered, and in commit order.

    The LSN of a row is no key: all rows that one COPY writes to a page share it.
    """

    commit_lsn: int
    ordinal: int
    """Its place in the transaction, from 1."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one row, or to a whole table."""

    position: Position
    action: str
    """I, U, D or T, as in the trail."""
    relation: Relation
    before: Row | None
    after: Row | None
    xid: int
    committed_at: datetime
    context: bytes | None
    """The last message of the context before it in the transaction; a claim, as anybody can write one."""


@dataclass(frozen=True, slots=True)
class Done:
    """All changes of a transaction were told: the slot may be advanced to here, once they are kept."""

    end_lsn: int


def read_changes(data: Iterable[bytes], *, prefix: str = CONTEXT_PREFIX) -> Iterator[Change | Done]:
    """The changes of what one reading of a slot gave, and the end of each transaction.

    Raises:
        AuditError: a message cannot be decoded, or comes outside a transaction.
    """
    decoder = Decoder()
    begin: Begin | None = None
    context: bytes | None = None
    ordinal = 0
    for message in map(decoder.decode, data):
        match message:
            case Begin():
                begin, context, ordinal = message, None, 0
            case Commit():
                begin = None
                yield Done(message.end_lsn)
            case Note():
                if message.transactional and message.prefix == prefix:
                    context = message.content
            case Insert() | Update() | Delete() | Truncate():
                if begin is None:
                    raise AuditError("a change of pgoutput is outside a transaction")
                for ordinal, row in enumerate(_rows(message), ordinal + 1):  # noqa: B020
                    position = Position(begin.commit_lsn, ordinal)
                    yield Change(position, *row, begin.xid, begin.committed_at, context)
            case _:
                pass  # about tables, types and origins, which the decoder has taken in


def full_xid(xid: int, next_xid: int) -> int:
    """The 64 bits of a transaction that ended before `next_xid` (all 64 bits) was given out."""
    full = next_xid - next_xid % _XIDS + xid
    return full if full < next_xid else full - _XIDS


def lsn_text(lsn: int) -> str:
    """As PostgreSQL writes it: `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _rows(message: Message) -> Iterator[tuple[str, Relation, Row | None, Row | None]]:
    match message:
        case Insert():
            yield "I", message.relation, None, message.after
        case Update():
            yield "U", message.relation, message.before, message.after
        case Delete():
            yield "D", message.relation, message.before, None
        case Truncate():
            for relation in message.relations:
                yield "T", relation, None, None
