"""What pgoutput says: one small value for each kind of message of version 1 of its protocol."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple


class Missing(Enum):
    """Why a cell has no value; a NULL is a value, and `None`."""

    UNCHANGED = "unchanged"
    """Stored out of line and not changed, so that it is not in the WAL again."""
    ABSENT = "absent"
    """Not in the replica identity, so that the old row was written without it."""


Cell = str | None | Missing
"""The text of a value, as its type prints it."""
Row = tuple[Cell, ...]
"""The cells of a row in the order of the columns of its relation."""


_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


# Named tuples, as many of these are made: a frozen dataclass takes several times as long.
class Begin(NamedTuple):
    """A transaction begins; it is sent once it has committed."""

    commit_lsn: int
    moment: int
    """When it committed, in microseconds since 2000, as PostgreSQL has it."""
    xid: int
    """Its 32 bits; see `full_xid`."""

    @property
    def committed_at(self) -> datetime:
        """When it committed."""
        return _EPOCH + timedelta(microseconds=self.moment)


class Commit(NamedTuple):
    """The end of the transaction."""

    commit_lsn: int
    end_lsn: int
    """Behind its commit record: where a slot that has done with it is advanced to."""
    moment: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column, as it was when the rows that follow were written."""

    name: str
    type_oid: int
    type_modifier: int
    is_identity: bool
    """Whether the replica identity has it."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, sent before its first row and again after DDL."""

    oid: int
    schema: str
    name: str
    replica_identity: str
    """As in `pg_class.relreplident`: d, n, f or i."""
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """A type that is not built in, sent before a relation that has it."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the transaction was replicated from."""

    lsn: int
    name: str


@dataclass(frozen=True, slots=True)
class Truncate:
    """One TRUNCATE, of one or more tables."""

    relations: tuple[Relation, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody wrote with `pg_logical_emit_message`."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes
    """As it was written: in the encoding of the database, where it is text."""


Message = Begin | Commit | Relation | Type | Origin | Truncate | Note
