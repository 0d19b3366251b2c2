"""What the witness knows of captured tables: by which rule their changes become events, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from audit_toolkit.names import QualifiedName

FROM_WAL = "captured from the WAL itself"


@dataclass(slots=True, kw_only=True)
class Watched:
    """A table whose changes have to have events."""

    oid: int
    schema: str
    table: str
    function: str
    key: tuple[str, ...]
    """The columns of the key that its events have."""
    when: str | None = None
    log_unchanged: bool = False
    hidden: tuple[str, ...] = ()
    """The columns that its images do not hold as they are, under all names that they have had."""
    only: tuple[str, ...] = ()
    """Where its images hold these and the key alone."""
    masked: bool = False
    rows_of_truncate: bool = False
    """Whether TRUNCATE may leave the rows as deleted."""
    is_delta: bool = False
    """Whether its events may hold nothing but what changed."""
    from_wal: bool = False
    """Whether its events are themselves read from the WAL, later and by another transaction."""
    is_partitioned: bool = False
    has_identity: bool = True
    """Whether UPDATE and DELETE of it can be published without harm to writers."""
    is_on: bool = True
    """Whether it is captured, as far as the trail has told."""
    since: int = 0
    """The first transaction that is judged: those before it may have begun before the table was published."""
    entry: int | None = None
    """The OID by which the publication has it; None where it has not."""
    is_noted: bool = field(default=True)
    """Whether the trail knows of its present columns."""
    trouble: str | None = None
    """Why it is not watched."""

    @property
    def name(self) -> QualifiedName:
        """Its name, as far as the stream has told."""
        return QualifiedName(self.schema, self.table)

    def takes(self, column: str) -> bool:
        """Whether images hold the values of a column as they are."""
        return column not in self.hidden and (
            not self.only or column in self.only or column in self.key
        )

    @property
    def is_pruned(self) -> bool:
        """Whether images leave something out."""
        return bool(self.hidden or self.only) or self.is_delta

    def as_dict(self) -> dict[str, Any]:
        """The table as JSON values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The table that was kept so."""
        known = {each.name for each in fields(cls)}
        taken: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            if name in known
        }
        return cls(**taken)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The table of a row of our query."""
        options, renamed = record["options"], record["renamed"]
        masked, left_out = [*options.get("mask", {})], options.get("exclude", ())
        hidden = {*masked, *left_out}
        only = tuple(options.get("only", ()))
        hidden |= {renamed[name] for name in hidden if name in renamed}
        return cls(
            oid=record["oid"],
            schema=record["schema_name"],
            table=record["table_name"],
            function=record["function_name"],
            key=tuple(record["key"]),
            when=options.get("when"),
            log_unchanged=bool(options.get("log_unchanged")),
            hidden=tuple(sorted(hidden)),
            only=only,
            masked=bool(masked),
            rows_of_truncate=options.get("truncate") == "rows" or record["is_partitioned"],
            is_delta=options.get("store") == "delta",
            from_wal=options.get("capture") == "wal",
            is_partitioned=record["is_partitioned"],
            has_identity=record["has_identity"],
            is_noted=bool(record["is_noted"]),
            trouble=_trouble(record),
        )


def _trouble(record: Mapping[str, Any]) -> str | None:
    if not record["is_there"]:
        return "the table is gone"
    if not record["is_logged"]:
        return "the table is not logged"
    if record["options"].get("capture") == "wal":
        return FROM_WAL
    if not record["is_owned"] and not record["entries"]:
        return "the role of the witness is not a member of its owner"
    return None


@dataclass(slots=True)
class Book:
    """All captured tables, by OID and by each name that the stream has told of them."""

    tables: dict[int, Watched] = field(default_factory=dict)
    names: dict[tuple[str, str], int] = field(default_factory=dict)
    roots: dict[int, int | None] = field(default_factory=dict)
    """Of relations of the stream, the captured table that they are or are a part of."""

    def __post_init__(self) -> None:
        for one in self.tables.values():
            self.names.setdefault((one.schema, one.table), one.oid)

    def of_relation(self, oid: int) -> Watched | None:
        """The table that a relation of the stream belongs to."""
        root = self.roots.get(oid, oid)
        return None if root is None else self.tables.get(root)

    def of_name(self, schema: str, table: str) -> Watched | None:
        """The table that events of that name are about."""
        oid = self.names.get((schema, table))
        return None if oid is None else self.tables.get(oid)

    def call(self, oid: int, schema: str, table: str) -> None:
        """Events of that name are of this table from now on."""
        if one := self.tables.get(oid):
            self.names[schema, table] = oid
            one.schema, one.table = schema, table

    def of_function(self, function: str) -> Watched | None:
        """The table that this function captures."""
        return next((one for one in self.tables.values() if one.function == function), None)

    def take_rules(self, read: Iterable[Watched]) -> None:
        """What the catalogue says of tables, beside what the stream has told of them."""
        for new in read:
            if known := self.tables.get(new.oid):
                new.is_on, new.since, new.entry = known.is_on, known.since, known.entry
                new.schema, new.table = known.schema, known.table
            self.tables[new.oid] = new
            self.names.setdefault((new.schema, new.table), new.oid)
