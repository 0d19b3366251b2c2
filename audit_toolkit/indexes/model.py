"""What the catalogues say about indexes, as frozen values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from audit_toolkit.errors import AuditError
from audit_toolkit.findings import FindingKind, Severity
from audit_toolkit.names import QualifiedName

# CREATE [UNIQUE] INDEX name ON [ONLY] table USING …, as pg_get_indexdef() prints it.
_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^\s".]+)'
_DEFINITION = re.compile(
    rf"CREATE (UNIQUE )?INDEX {_IDENTIFIER} ON (?:ONLY )?{_IDENTIFIER}(?:\.{_IDENTIFIER})? USING (.*)",
    re.DOTALL,
)
UNSAFE_SERVERS = range(140000, 140004)
"""Where CREATE INDEX and REINDEX CONCURRENTLY could lose rows (BUG #17485, fixed in 14.4)."""

_OPTIONS = re.compile(r" WITH \([^()]*\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """The constraint that an index stands for."""

    name: str
    kind: str
    """`p` primary key, `u` unique, `x` exclusion."""
    deferrable: bool
    deferred: bool


@dataclass(frozen=True, kw_only=True)
class Index:
    """An index, and what is running on it."""

    oid: int
    name: QualifiedName
    table: QualifiedName
    """Its table; for an index of a TOAST table, the table whose values that holds."""
    table_oid: int
    partitioned: bool
    """Whether it is the index of a partitioned table: a frame without data of its own."""
    toast: bool
    valid: bool
    """Queries may use it."""
    ready: bool
    """Writes maintain it."""
    live: bool
    """False in the last phase of a DROP INDEX CONCURRENTLY."""
    unique: bool
    primary: bool
    exclusion: bool
    replica_identity: bool
    constraint: Constraint | None
    parent_oid: int | None
    """The index of the partitioned table that it is attached to."""
    definition: str
    predicate: str
    has_options: bool
    tablespace: str
    """Empty for the default of the database."""
    keys: tuple[str, ...]
    """Each key column or expression with the OIDs of operator class and collation and its order."""
    included: tuple[str, ...]
    access_method: str
    size: int
    """Bytes on disk."""
    scans: int
    """Scans since the statistics were reset."""
    busy_pid: int | None
    """The session that builds, rebuilds or drops it now."""

    @property
    def broken(self) -> bool:
        """Whether it is anything but a finished index."""
        return not (self.valid and self.ready and self.live)

    @property
    def protected(self) -> bool:
        """Whether something relies on it besides queries."""
        return self.unique or self.exclusion or self.replica_identity or self.constraint is not None

    @cached_property
    def using(self) -> str:
        """Its definition from the access method on: `btree (a, b) WHERE (a > 0)`."""
        return self._parts[1]

    @cached_property
    def shape(self) -> str:
        """What makes two indexes the same, on whatever leaf: uniqueness and definition."""
        head, condition = split_condition(self.using, self.predicate)
        unique = "unique " if self._parts[0] else ""
        return unique + (_OPTIONS.sub("", head) if self.has_options else head) + condition

    @cached_property
    def _parts(self) -> tuple[str | None, str]:
        found = _DEFINITION.fullmatch(self.definition)
        if found is None:
            raise AuditError(f"cannot parse the definition of {self.name}: {self.definition}")
        return found[1], found[2]


def split_condition(using: str, predicate: str) -> tuple[str, str]:
    """A definition's part before WHERE and the part from there on."""
    condition = f" WHERE {predicate}"
    if predicate and using.endswith(condition):
        return using.removesuffix(condition), condition
    return using, ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition of a partitioned table."""

    oid: int
    name: QualifiedName
    parent_oid: int
    parent: QualifiedName
    partitioned: bool
    detach_pending: bool
    """A DETACH CONCURRENTLY was interrupted."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What was read at one moment."""

    indexes: tuple[Index, ...]
    partitions: tuple[Partition, ...]
    names: frozenset[QualifiedName]
    """Every name that is taken in the schemas of these indexes and partitions."""
    statistics_days: float
    """For how many days, at least, the server has counted scans without a reset."""
    server_version: int

    @cached_property
    def by_oid(self) -> dict[int, Index]:
        """The indexes by their OID."""
        return {index.oid: index for index in self.indexes}

    def on(self, table_oid: int) -> list[Index]:
        """The indexes of a table."""
        return self._by_table.get(table_oid, [])

    def partitions_of(self, table_oid: int) -> list[Partition]:
        """The direct partitions of a table."""
        return self._by_parent.get(table_oid, [])

    def child(self, parent_oid: int | None, partition: Partition) -> Index | None:
        """The index of a partition that is attached to that index of its parent."""
        if parent_oid is None:
            return None
        attached = (i for i in self.on(partition.oid) if i.parent_oid == parent_oid)
        return next(attached, None)

    def root(self, index: Index) -> Index:
        """The index at the top of the tree that an index is attached to; itself without one."""
        parent = self.by_oid.get(index.parent_oid or 0)
        return index if parent is None else self.root(parent)

    @cached_property
    def _by_table(self) -> dict[int, list[Index]]:
        found: dict[int, list[Index]] = {}
        for index in self.indexes:
            found.setdefault(index.table_oid, []).append(index)
        return found

    @cached_property
    def _by_parent(self) -> dict[int, list[Partition]]:
        found: dict[int, list[Partition]] = {}
        for partition in self.partitions:
            found.setdefault(partition.parent_oid, []).append(partition)
        return found


class IndexState(StrEnum):
    """What is the matter with an index."""

    BUILDING = "building"
    FAILED_CREATE = "failed_create"
    UNFINISHED = "unfinished"
    CANCELLED_DROP = "cancelled_drop"
    CCNEW = "ccnew"
    CCOLD = "ccold"
    REPACK_LEFTOVER = "repack_leftover"
    INVALID_EXCLUSION = "invalid_exclusion"
    PARENT_INVALID = "parent_invalid"
    INVALID_UNDER_VALID_PARENT = "invalid_under_valid_parent"
    SOME_LEAVES_ONLY = "some_leaves_only"
    DUPLICATE = "duplicate"
    REDUNDANT = "redundant"
    UNUSED = "unused"
    UNSAFE_SERVER = "unsafe_server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is the matter with one index."""

    state: IndexState
    severity: Severity
    index: Index | None
    """None where it is about the server or about an index that is not there."""
    subject: str
    """What it is about, in words: the name of the index or the table."""
    message: str
    """What is the matter and what it costs, without a final period."""
    advice: str = ""
    """What to do where `fix` does nothing by itself."""

    @property
    def kind(self) -> FindingKind:
        """Its kind among all findings."""
        return FindingKind(f"index_{self.state}")
