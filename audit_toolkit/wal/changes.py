"""Messages to changes: one a row, each with a key that redelivery repeats, and with its context. No I/O.

Nothing is kept of a transaction but its beginning, so that memory does not grow with its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NamedTuple, NoReturn, TypeVar

from audit_toolkit.wal.decoder import AsSent, Decoder, Rows, Sent, Texts, malformed
from audit_toolkit.wal.messages import Begin, Commit, Note, Relation, Row, Truncate

R = TypeVar("R")

CONTEXT_PREFIX = "audit.context"
"""The prefix of the messages that carry the context of the changes behind them."""
_XIDS = 1 << 32
_ACTIONS = {b"I": "I", b"U": "U", b"D": "D"}


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a change stands: the same however often it is delivered, and in commit order.

    The LSN of a row is no key: all rows that one COPY writes to a page share it.
    """

    commit_lsn: int
    ordinal: int
    """Its place in the transaction, from 1."""


class Change(NamedTuple, Generic[R]):
    """What happened to one row, or to a whole table. A named tuple, as one is made for each row."""

    action: str
    """I, U, D or T, as in the trail."""
    relation: Relation
    before: R | None
    after: R | None
    begin: Begin
    """The transaction."""
    ordinal: int
    """Its place in the transaction, from 1."""
    context: bytes | None
    """The last message of the context before it in the transaction; a claim, as anybody can write one."""

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.begin.commit_lsn, self.ordinal)

    @property
    def xid(self) -> int:
        """The 32 bits of the number of the transaction."""
        return self.begin.xid

    @property
    def committed_at(self) -> datetime:
        """When the transaction committed."""
        return self.begin.committed_at


@dataclass(frozen=True, slots=True)
class Done:
    """All changes of a transaction were told: the slot may be advanced to here, once they are kept."""

    end_lsn: int


def read_changes(
    data: Iterable[bytes], *, prefix: str = CONTEXT_PREFIX
) -> Iterator[Change[Row] | Done]:
    """The changes of what one reading of a slot gave, and the end of each transaction.

    Raises:
        AuditError: a message cannot be decoded, or comes outside a transaction.
    """
    return _read(data, Texts, prefix)


def read_as_sent(
    data: Iterable[bytes], *, prefix: str = CONTEXT_PREFIX
) -> Iterator[Change[Sent] | Done]:
    """The same, with rows as the messages have them."""
    return _read(data, AsSent, prefix)


def full_xid(xid: int, next_xid: int) -> int:
    """All 64 bits of a transaction whose WAL is there when `next_xid` (all 64 bits) is the next one.

    It may be a later one, which committed since. PostgreSQL keeps the ids of one time within half of their circle:
    the slot holds the oldest, beyond which no new one is given out.
    """
    distance = (xid - next_xid + _XIDS // 2) % _XIDS - _XIDS // 2
    return next_xid + distance


def lsn_text(lsn: int) -> str:
    """As PostgreSQL writes it: `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _read(
    messages: Iterable[bytes], form: Callable[[Relation], Rows[R]], prefix: str
) -> Iterator[Change[R] | Done]:
    decoder = Decoder(form)
    begin: Begin | None = None
    context: bytes | None = None
    ordinal = 0
    for data in messages:
        if action := _ACTIONS.get(data[:1]):
            rows = decoder.rows(data)
            before, after = rows.read(data)
            ordinal += 1
            yield Change(
                action, rows.relation, before, after, begin or _outside(data), ordinal, context
            )
            continue
        match message := decoder.decode(data):
            case Begin():
                begin, context, ordinal = message, None, 0
            case Commit():
                begin = None
                yield Done(message.end_lsn)
            case Note():
                if message.transactional and message.prefix == prefix:
                    context = message.content
            case Truncate():
                begin = begin or _outside(data)
                for ordinal, relation in enumerate(message.relations, ordinal + 1):  # noqa: B020
                    yield Change("T", relation, None, None, begin, ordinal, context)
            case _:
                pass  # about tables, types and origins, which the decoder has taken in


def _outside(data: bytes) -> NoReturn:
    raise malformed(data, "a change is outside a transaction")
