"""What the catalogues say about tables, as frozen values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from audit_toolkit.names import QualifiedName


class Kind(StrEnum):
    """What a relation is (`pg_class.relkind`)."""

    TABLE = "r"
    PARTITIONED_TABLE = "p"
    VIEW = "v"
    MATERIALIZED_VIEW = "m"
    FOREIGN_TABLE = "f"

    @property
    def words(self) -> str:
        """The kind as people say it: `view`, `materialized view`."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """Anything with a table's name, and what decides whether it can be audited."""

    oid: int
    name: QualifiedName
    kind: Kind
    temporary: bool
    unlogged: bool
    is_system: bool
    root: QualifiedName | None
    """The partitioned table it is a leaf of."""
    inherits: bool
    has_children: bool
    owned: bool
    """Whether this role is, or inherits from, the owner."""
    may_trigger: bool
    search_position: int
    """Its schema's place on the search_path, from 1; 0 when it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table."""

    name: str
    type_name: str
    not_null: bool
    generated: bool
    identity: bool
    key_position: int | None
    """Place in the primary key, from 0."""
    type_parts: frozenset[str]
    """The base types its values are built of; `range:date` for a date inside a range, `foreign` for
    types that are not PostgreSQL's own."""
    plain_type: str | None
    """The type of PostgreSQL's own that it stands for, through domains and arrays of them; None for a
    foreign type, to whose values a cast to json may belong that somebody made."""
    computed_from: frozenset[str] = frozenset()
    """The columns that a generated one is computed from."""
    virtual: bool = False
    """Generated when it is read: triggers get no value of it."""
    number: int | None = None
    """What it keeps when it is renamed (`attnum`); None where there is no table yet."""
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that can be audited."""

    oid: int
    name: QualifiedName
    partitioned: bool
    columns: tuple[Column, ...]
    unlogged: bool = False
    """Whether its changes are not in the WAL."""
    leaves: tuple[QualifiedName, ...] = ()
    """The tables that hold the rows of a partitioned table, at any depth."""
    inherits: bool = False
    """Whether it inherits from another table (not as a partition)."""
    heirs: tuple[Relation, ...] = ()
    """What inherits from it, at any depth: each holds rows of its own."""

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key, in its order; empty without one."""
        keyed = [(c.key_position, c.name) for c in self.columns if c.key_position is not None]
        return tuple(name for _, name in sorted(keyed))

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledTrigger:
    """A trigger that calls a capture function, on the table itself."""

    name: str
    state: str
    """`A` always, `O` not in replica mode, `R` in replica mode only, `D` disabled."""
    definition: str
    """The CREATE TRIGGER statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbering:
    """The numbers (`attnum`) that columns had under their names when capture was installed: a rename leaves them."""

    numbers: Mapping[str, int]
    is_complete: bool
    """Whether all columns are in it, and it is of this very table: numbers change when a table is restored."""

    def now(self, name: str, columns: Iterable[Column]) -> tuple[str, ...]:
        """What a column is called now; with a column that took its name since. Nothing where it is gone."""
        present = {column.name: column.number for column in columns}
        number = self.numbers.get(name)
        if number is None or (name in present and not self.is_complete):
            return (name,) if name in present else ()
        followed = tuple(each for each, other in present.items() if other == number)
        is_new = name in present and present[name] not in self.numbers.values()
        return (*followed, name) if is_new and name not in followed else followed

    def renamed(self, names: Iterable[str], columns: Iterable[Column]) -> dict[str, str]:
        """Those of these columns that are called otherwise now, with their new names."""
        columns = tuple(columns)
        followed = {name: self.now(name, columns)[:1] for name in names if name in self.numbers}
        return {name: new for name, found in followed.items() for new in found if new != name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """Capture of one table as the database has it."""

    function: str
    table: QualifiedName
    """The table as it is called now, which its triggers say."""
    made_for: QualifiedName
    """What it was called when it was installed."""
    options: dict[str, Any]
    numbering: Numbering
    hash: str
    toolkit: str
    definition: str
    comment: str
    triggers: tuple[InstalledTrigger, ...]

    @property
    def trigger_names(self) -> tuple[str, ...]:
        """The names of its triggers on the table."""
        return tuple(trigger.name for trigger in self.triggers)

    @property
    def active_triggers(self) -> tuple[str, ...]:
        """Those of them that are ENABLE ALWAYS, as all should be."""
        return tuple(trigger.name for trigger in self.triggers if trigger.state == "A")
