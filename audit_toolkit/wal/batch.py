"""Changes on their way into the trail, by the tables that they belong to. No I/O."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from audit_toolkit.wal.changes import full_xid
from audit_toolkit.wal.context import Who, who_of
from audit_toolkit.wal.decoder import Sent, is_partial
from audit_toolkit.wal.messages import Begin, Missing, Relation
from audit_toolkit.wal.staging import Row, stamp
from audit_toolkit.wal.tables import Found, Made, Table

FLUSH_ROWS = 5_000
"""Changes that become events at once; of a large transaction no more are held in memory."""
FLUSH_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Part:
    """The changes of a batch to one table and its partitions, while they had the same columns."""

    table: Table
    relation: Relation
    rows: list[Row] = field(default_factory=list)
    incomplete_lsn: int | None = None
    """The transaction of the first change whose old row the WAL does not have whole."""


@dataclass(slots=True)
class Batch:
    """Changes in their order, of which events are to be made in this transaction."""

    next_xid: int
    who: Callable[[builtins.bytes | None], Who] = who_of
    """Who wrote, by the message that says so."""
    parts: list[Part] = field(default_factory=list)
    by_form: dict[int, Part] = field(default_factory=dict)
    """By the identity of the relation, which is one object in one reading; partitions share a part."""
    made: list[tuple[int, builtins.bytes, Table, Made]] = field(default_factory=list)
    """Events that need no image, each with its place and its stamp."""
    count: int = 0
    bytes: int = 0
    commit_lsn: int = 0
    flushed: int = 0
    _begin: Begin | None = None
    _context: builtins.bytes | None = None
    _stamp: builtins.bytes = b""

    def add(self, found: Found) -> None:
        """More changes, after all others."""
        table, changes, made = found
        action, relation, rows, begin, context = changes
        if begin is not self._begin or context is not self._context:
            self._begin, self._context, self.commit_lsn = begin, context, begin.commit_lsn
            self._stamp = stamp(begin, full_xid(begin.xid, self.next_xid), self.who(context))
        place = 8 * self.count
        if made is not None:
            self.count += 1
            self.made.append((place, self._stamp, table, made))
            self.bytes += len(made.old_row or "")
            return
        self.count += len(rows)
        part = self.by_form.get(id(relation)) or self._part(table, relation)
        if part.incomplete_lsn is None and action in "UD" and not all(map(_is_complete, rows)):
            part.incomplete_lsn = begin.commit_lsn
        part.rows += [
            (number, self._stamp, action, before, after)
            for number, (before, after) in zip(count(place, 8), rows, strict=False)
        ]
        self.bytes += sum(map(_size, rows)) + len(rows) * len(self._stamp)

    def _part(self, table: Table, relation: Relation) -> Part:
        for part in self.parts:
            if part.table is table and part.relation.columns == relation.columns:
                break
        else:
            part = Part(table, relation)
            self.parts.append(part)
        self.by_form[id(relation)] = part
        return part

    def clear(self) -> None:
        """Its changes are events."""
        self.flushed += self.count
        self.parts.clear()
        self.by_form.clear()
        self.made.clear()
        self.count = self.bytes = 0

    @property
    def is_long(self) -> bool:
        """Whether it is worth a transaction."""
        return self.count >= FLUSH_ROWS

    @property
    def is_full(self) -> bool:
        """Whether no more are to be held in memory."""
        return self.is_long or self.bytes >= FLUSH_BYTES


def _is_complete(rows: tuple[Sent | None, Sent | None]) -> bool:
    """Whether the WAL has the old row whole."""
    before, _ = rows
    return before is not None and not is_partial(before)


def _size(rows: tuple[Sent | None, Sent | None]) -> int:
    return sum(
        [
            len(row) if isinstance(row, bytes) else _size_of_list(row)
            for row in rows
            if row is not None
        ]
    )


def _size_of_list(row: list[builtins.bytes | Missing | None]) -> int:
    return sum(64 + len(cell) if isinstance(cell, bytes) else 64 for cell in row)
