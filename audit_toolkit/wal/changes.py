"""Messages to changes: one a row, each with a key that redelivery repeats, and with its context. No I/O.

Nothing is kept of a transaction but its beginning, so that memory does not grow with its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from audit_toolkit.wal.decoder import AsSent, Decoder, Sent, Texts, malformed
from audit_toolkit.wal.messages import Begin, Commit, Note, Relation, Row, Truncate

R = TypeVar("R")

CONTEXT_PREFIX = "audit.context"
"""The prefix of the messages that carry the context of the changes behind them."""
_XIDS = 1 << 32
_ACTIONS = {b"I": "I", b"U": "U", b"D": "D"}
_HEAD = itemgetter(slice(5))
"""The kind of a message, and the table of a row."""


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


class Changes(NamedTuple):
    """The same that happened to rows of one table, one after the other, in one transaction and context."""

    action: str
    relation: Relation
    rows: list[tuple[Sent | None, Sent | None]]
    """The old and the new row of each; of a TRUNCATE neither."""
    begin: Begin
    context: bytes | None


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
    reading = _Reading(Decoder(Texts), prefix)
    for message in data:
        if action := _ACTIONS.get(message[:1]):
            rows = reading.decoder.rows(message)
            before, after = rows.read(message)
            begin = reading.begin or _outside(message)
            reading.ordinal += 1
            yield Change(
                action, rows.relation, before, after, begin, reading.ordinal, reading.context
            )
            continue
        for told in reading.take(message):
            if isinstance(told, Done):
                yield told
                continue
            reading.ordinal += 1
            begin = reading.begin or _outside(message)
            yield Change("T", told, None, None, begin, reading.ordinal, reading.context)


def read_as_sent(
    data: Iterable[Sequence[bytes]], *, prefix: str = CONTEXT_PREFIX
) -> Iterator[Changes | Done]:
    """The same of messages that come in batches, with rows as the messages have them, as many at once as are alike."""
    reading = _Reading(Decoder(AsSent), prefix)
    for messages in data:
        for head, alike in groupby(messages, _HEAD):
            if action := _ACTIONS.get(head[:1]):
                some = list(alike)
                rows = reading.decoder.rows(some[0])
                begin = reading.begin or _outside(some[0])
                yield Changes(action, rows.relation, rows.read_all(some), begin, reading.context)
                continue
            for message in alike:
                for told in reading.take(message):
                    if isinstance(told, Done):
                        yield told
                        continue
                    begin = reading.begin or _outside(message)
                    yield Changes("T", told, [(None, None)], begin, reading.context)


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


@dataclass(slots=True)
class _Reading:
    """Where in a transaction a reading of the slot is."""

    decoder: Decoder[Any]
    prefix: str
    begin: Begin | None = None
    context: bytes | None = None
    ordinal: int = 0

    def take(self, data: bytes) -> tuple[Done | Relation, ...]:
        """A message about anything but a row: the end of a transaction, or the tables that were emptied."""
        match message := self.decoder.decode(data):
            case Begin():
                self.begin, self.context, self.ordinal = message, None, 0
            case Commit():
                self.begin = None
                return (Done(message.end_lsn),)
            case Note():
                if message.transactional and message.prefix == self.prefix:
                    self.context = message.content
            case Truncate():
                return message.relations
            case _:
                pass  # about tables, types and origins, which the decoder has taken in
        return ()


def _outside(data: bytes) -> NoReturn:
    raise malformed(data, "a change is outside a transaction")
