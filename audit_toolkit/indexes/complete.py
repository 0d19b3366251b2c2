"""From the declared index of a partitioned table to the same index on every leaf, and valid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from audit_toolkit.indexes import steps
from audit_toolkit.indexes.coverage import same_shape
from audit_toolkit.indexes.model import Catalogue, Constraint, Index, Partition, split_condition
from audit_toolkit.names import QualifiedName, quote_identifier
from audit_toolkit.plan import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An index as it should be on a partitioned table and all its leaves."""

    name: QualifiedName
    table: QualifiedName
    table_oid: int
    using: str
    """Its definition from the access method on."""
    shape: str
    unique: bool
    oid: int | None
    """None while the partitioned table does not have it."""
    constraint: Constraint | None = None
    predicate: str = ""
    tablespace: str = ""

    @classmethod
    def like(cls, index: Index) -> Wanted:
        """The index that is there, with everything that it promises."""
        return cls(
            name=index.name,
            table=index.table,
            table_oid=index.table_oid,
            using=index.using,
            shape=index.shape,
            unique=index.unique,
            oid=index.oid,
            constraint=index.constraint,
            predicate=index.predicate,
            tablespace=index.tablespace,
        )

    @property
    def clause(self) -> str:
        """The definition with its tablespace, which PostgreSQL does not print."""
        if not self.tablespace:
            return self.using
        head, condition = split_condition(self.using, self.predicate)
        return f"{head} tablespace {quote_identifier(self.tablespace)}{condition}"


@dataclass(slots=True)
class Completion:
    """The steps for one wanted index; the names that it gives are free and given once."""

    catalogue: Catalogue
    taken: set[QualifiedName] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.taken |= self.catalogue.names

    def steps(self, wanted: Wanted) -> Iterator[Step]:
        """What is missing of `wanted`, the newest leaf first; nothing where all is well."""
        self.taken.add(wanted.name)
        partitions = self.catalogue.partitions_of(wanted.table_oid)
        attached = [p for p in partitions if not p.detach_pending]
        nothing_missing = True
        for partition in reversed(attached):
            for step in self._partition(wanted, partition):
                nothing_missing = False
                yield step
        if wanted.oid is not None and nothing_missing:
            yield from self._check_again(wanted, attached)

    def _check_again(self, wanted: Wanted, partitions: list[Partition]) -> Iterator[Step]:
        index = self.catalogue.by_oid[wanted.oid or 0]
        children = (self.catalogue.child(wanted.oid, partition) for partition in partitions)
        child = next(filter(None, children), None)
        if not index.valid and child is not None:
            yield steps.attach(index.name, child.name)

    def _partition(self, wanted: Wanted, partition: Partition) -> Iterator[Step]:
        child = self.catalogue.child(wanted.oid, partition)
        if child is not None and not child.broken:
            return
        index = child or same_shape(partition, wanted.shape, self.catalogue)
        if index is None:
            name = steps.leaf_name(wanted.name, wanted.table, partition.name, self.taken)
            self.taken.add(name)
            yield from self._new(wanted, partition, name)
        else:
            name = index.name
            yield from self._mended(index)
            if child is None and wanted.constraint and not index.constraint:
                yield steps.add_constraint(name, partition.name, wanted.constraint)
        yield steps.attach(wanted.name, name)

    def _new(self, wanted: Wanted, partition: Partition, name: QualifiedName) -> Iterator[Step]:
        table, unique = partition.name, wanted.unique
        if not partition.partitioned:
            yield steps.build(name, table, wanted.clause, unique=unique)
            if wanted.constraint:
                yield steps.add_constraint(name, table, wanted.constraint)
            return
        yield steps.frame(name, table, wanted.clause, unique=unique)
        yield from self.steps(
            replace(wanted, name=name, table=table, table_oid=partition.oid, oid=None)
        )

    def _mended(self, index: Index) -> Iterator[Step]:
        if index.partitioned:
            yield from self.steps(Wanted.like(index))
        elif index.broken:
            yield steps.rebuild(index, self.taken)
