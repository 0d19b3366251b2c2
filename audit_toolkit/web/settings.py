"""What a team calls its tables and columns, how values are shown, and where its application is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from audit_toolkit.errors import UsageError
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName

LANGUAGES = ("en", "de")
FORMATS = ("number", "bytes", "time")

Labelled = TypeVar("Labelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnLabel:
    """How a column is shown."""

    label: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    """Words for values: `{"new": "New"}`; of other types by their JSON text (`"true"`, `"1"`)."""
    format: str | Callable[[Json], str] | None = None
    """`number` (grouped digits), `bytes`, `time`, or a function of the value."""
    unit: str | None = None
    """What stands behind the value: `EUR`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLabel:
    """How a table and its rows are shown."""

    label: str | None = None
    """What one row is called: `order`."""
    link: str | None = None
    """The row in your application: `https://shop.example/orders/{key}`."""
    columns: Mapping[str, ColumnLabel] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The page as a team wants it; the defaults show everything as the database has it."""

    title: str = "Audit trail"
    language: str | None = None
    """`en` or `de`; None: what the browser asks for."""
    time_zone: str = "UTC"
    tables: Mapping[str, TableLabel] = field(default_factory=dict)
    """By name: `orders`, `sales.orders`."""

    def __post_init__(self) -> None:
        if self.language not in (None, *LANGUAGES):
            raise UsageError(
                f"the page does not speak {self.language!r}",
                hint="choose one of " + ", ".join(LANGUAGES),
            )
        try:
            ZoneInfo(self.time_zone)
        except (KeyError, OSError, ValueError) as error:
            raise UsageError(
                f"there is no time zone {self.time_zone!r}", hint="write Europe/Berlin, or UTC"
            ) from error
        for name, table in self.tables.items():
            _check_table(name, table)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of what is shown and typed."""
        return ZoneInfo(self.time_zone)

    def table(self, table: QualifiedName) -> TableLabel:
        """How a table is shown."""
        for name in short_names(table):
            if name in self.tables:
                return self.tables[name]
        return _PLAIN_TABLE

    def column(self, table: QualifiedName, column: str) -> ColumnLabel:
        """How a column is shown."""
        return self.table(table).columns.get(column, _PLAIN_COLUMN)

    @classmethod
    def from_dict(cls, values: object, *, where: str) -> Settings:
        """The settings of `[tool.audit_toolkit.page]`; raises `UsageError` for what it does not know."""
        given = _options(cls, values, where)
        tables = _mapping(given.pop("tables", {}), f"{where}: tables")
        return cls(
            **given,
            tables={
                name: _table(options, f"{where}: tables.{name}") for name, options in tables.items()
            },
        )


_PLAIN_TABLE = TableLabel()
_PLAIN_COLUMN = ColumnLabel()


def short_names(table: QualifiedName) -> tuple[str, ...]:
    """How people name a table, the exact name first: `public.orders`, `orders`."""
    exact = (str(table), f"{table.schema}.{table.name}")
    return (*exact, table.name) if table.schema == "public" else exact


def _check_table(name: str, table: TableLabel) -> None:
    if table.link is not None and not table.link.startswith(("https://", "http://", "/")):
        raise UsageError(
            f"the link of {name} is not an address: {table.link!r}",
            hint="write https://shop.example/orders/{key}",
        )
    for column, shown in table.columns.items():
        if isinstance(shown.format, str) and shown.format not in FORMATS:
            raise UsageError(
                f"{name}.{column} has no format {shown.format!r}",
                hint="choose one of " + ", ".join(FORMATS),
            )


def _table(values: object, where: str) -> TableLabel:
    given = _options(TableLabel, values, where)
    columns = _mapping(given.pop("columns", {}), f"{where}: columns")
    return TableLabel(
        **given,
        columns={
            name: ColumnLabel(**_options(ColumnLabel, options, f"{where}: columns.{name}"))
            for name, options in columns.items()
        },
    )


def _options(kind: type[Any], values: object, where: str) -> dict[str, Any]:
    given = _mapping(values, where)
    known = [field.name for field in fields(kind)]
    for name, value in given.items():
        if name not in known:
            raise UsageError(
                f"{where}: there is no option {name!r}", hint="the options are " + ", ".join(known)
            )
        inner = name in ("tables", "columns", "values")
        if not isinstance(value, Mapping if inner else str):
            raise UsageError(
                f"{where}: {name} is {value!r}", hint="write a table" if inner else 'write "text"'
            )
    return dict(given)


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} is {value!r}, not a table", hint="see docs/page.md")
    return value
