"""Which captured table a change in the WAL belongs to, and what is recorded of it. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from audit_toolkit.wal.changes import Changes, lsn_text
from audit_toolkit.wal.decoder import Sent, texts_of
from audit_toolkit.wal.messages import Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that is captured from the WAL, or shall be."""

    function_name: str
    relation_id: int
    schema_name: str
    table_name: str
    wal_since: int | None
    """What commits behind it is read from the WAL; None while triggers record it."""
    fallback: str | None = None
    """Why triggers record it again, where the worker is to leave it to them."""
    columns: Mapping[str, str]
    """Their types by their names, as the trail last noted them."""
    partitions: frozenset[int] = frozenset()
    """The OIDs of those that hold its rows, and of those that the trail last noted."""
    noted_partitions: frozenset[int] = frozenset()
    unseen_partitions: tuple[str, ...] = ()
    """Those whose changes are not in the WAL."""
    unready_partitions: tuple[str, ...] = ()
    """Those without whole old rows in the WAL, or without their trigger on TRUNCATE."""
    noted_entry: str | None = None
    """The version of its entry in the publication, as it was when the worker took it over."""
    entry: str | None = None
    keeps_truncate: bool = False
    """Whether its triggers on TRUNCATE tell the worker which rows were there."""
    is_there: bool
    is_changed: bool
    """Whether DDL has changed it since."""
    is_unready: bool
    """Whether a trigger that records it is enabled, or it or a partition is not prepared (any more)."""
    lacks_old_rows: bool = False
    """Whether its replica identity is not FULL."""
    virtual_columns: tuple[str, ...]
    unpublished_columns: tuple[str, ...]
    """Stored generated columns that this server never puts into the WAL's stream."""

    @property
    def called(self) -> tuple[str, str]:
        """The schema and the name that the trail knows it by."""
        return self.schema_name, self.table_name

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.schema_name}.{self.table_name}"

    def is_described_by(self, relation: Relation, columns: Mapping[str, str]) -> bool:
        """Whether the trail knows it as it was when rows of this form were written."""
        unread = {*self.virtual_columns, *self.unpublished_columns}
        noted = {name: type_name for name, type_name in self.columns.items() if name not in unread}
        if columns != noted:
            return False
        if relation.oid != self.relation_id:
            return relation.oid in self.noted_partitions
        return (relation.schema, relation.name) == self.called


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """By which rule changes of a table become events, at the moment when they do."""

    called: tuple[str, str]
    """The schema and the name that the trail knows it by."""
    key: tuple[str, ...]
    """The columns of its key, as they were called when capture was installed."""
    version: str
    """Of what the trail knows of the table: another one after each change."""
    log_unchanged: bool
    is_whole: bool
    """Whether events have all columns of all rows as they are, and no option asks for anything else."""


@dataclass(frozen=True, slots=True)
class Made:
    """An event that needs no image of what is in the WAL."""

    action: str
    row_key: str | None = None
    old_row: str | None = None
    new_row: Mapping[str, Any] | None = None
    called: tuple[str, str] | None = None
    """The name that the table had, where the trail may know it by another one."""


Found = tuple[Table, Changes, Made | None]
"""Changes of a table, or the one event of them where there is no image to be made."""


@dataclass(slots=True)
class Tables:
    """The captured tables, and what one reading of the slot said of them so far."""

    truncated_rows: int
    """The OID of the table by which triggers tell the rows that TRUNCATE takes."""
    _by_relation: dict[int, Table] = field(default_factory=dict)
    _by_function: dict[str, Table] = field(default_factory=dict)
    _transaction: int = 0
    _announced: set[int] = field(default_factory=set)
    """The tables and partitions whose rows this transaction told before it emptied them."""
    _unknown: set[int] = field(default_factory=set)

    def know(self, tables: Iterable[Table]) -> None:
        """Take these tables, as they are by now, for those that are captured."""
        tables = tuple(tables)
        self._by_function = {table.function_name: table for table in tables}
        self._by_relation = {oid: table for table in tables for oid in table.noted_partitions}
        self._by_relation |= {table.relation_id: table for table in tables}
        # Attached to an audited table, which records it, as triggers do.
        self._by_relation |= {
            oid: table for table in tables for oid in table.partitions - table.noted_partitions
        }

    def renewed(self, table: Table) -> Table:
        """The table as it is known by now."""
        return self._by_function.get(table.function_name, table)

    def of(self, change: Changes) -> tuple[Found, ...]:
        """What is to be recorded of changes."""
        relation = change.relation.oid
        table = self._by_relation.get(relation)
        if table is None:
            if relation == self.truncated_rows:
                return self._told(change)
            return self._of_unknown(change)
        if not _is_read(table, change):
            return ()
        if change.action == "T" and table.keeps_truncate:
            return self._emptied(table, change)
        return ((table, change, None),)

    def _told(self, change: Changes) -> tuple[Found, ...]:
        """Rows of the table by which triggers on TRUNCATE say what they find."""
        if change.action != "I":
            return ()
        rows = (self._told_row(change, after) for _, after in change.rows if after is not None)
        return tuple(row for row in rows if row is not None)

    def _told_row(self, change: Changes, row: Sent) -> Found | None:
        names = (column.name for column in change.relation.columns)
        said = dict(zip(names, texts_of(row), strict=True))
        self._announced_in(change).add(int(said["relation_id"] or 0))
        table = self._by_function.get(said["function_name"] or "")
        if table is None or said["action"] not in ("D", "T") or not _is_read(table, change):
            return None
        called = (said["schema_name"] or "", said["table_name"] or "")
        return (
            table,
            change,
            Made(said["action"], said["row_key"], said["old_row"], called=called),
        )

    def _emptied(self, table: Table, change: Changes) -> tuple[Found, ...]:
        relation = change.relation
        if relation.oid in self._announced_in(change):
            return ()  # its rows were told, and that the table was emptied
        if relation.oid == table.relation_id:
            return ((table, change, None),)
        reason = (
            f"the partition {relation.schema}.{relation.name} was truncated without the trigger that tells "
            "its rows: they are unknown"
        )
        return ((table, change, _gap(reason, change)),)

    def _announced_in(self, change: Changes) -> set[int]:
        if change.begin.commit_lsn != self._transaction:
            self._transaction = change.begin.commit_lsn
            self._announced.clear()
        return self._announced

    def _of_unknown(self, change: Changes) -> tuple[Found, ...]:
        """A table that nothing is known of: a partition that came and went since the last reading, perhaps."""
        relation = change.relation
        if relation.oid in self._unknown:
            return ()
        self._unknown.add(relation.oid)
        names = {column.name for column in relation.columns}
        reason = (
            f"{relation.schema}.{relation.name}, a partition of it or of a table with the same columns, was "
            "detached or dropped before its changes were read: they are unknown"
        )
        return tuple(
            (table, change, _gap(reason, change))
            for table in self._by_function.values()
            if table.partitions and names == set(table.columns) and _is_read(table, change)
        )


def _is_read(table: Table, change: Changes) -> bool:
    return table.wal_since is not None and change.begin.commit_lsn > table.wal_since


def _gap(reason: str, change: Changes) -> Made:
    to_lsn = lsn_text(change.begin.commit_lsn)
    return Made("G", new_row={"capture": "resumed", "reason": reason, "to_lsn": to_lsn})
