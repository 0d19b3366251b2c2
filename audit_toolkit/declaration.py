"""Declarations: `Audit(…)` on a model, `[tool.audit_toolkit]` of pyproject.toml, or audit.toml.

An option has the name that `audit install` gives it, everywhere: `--capture-query` is `capture_query`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from audit_toolkit.config import Interval, Mask, TableRule
from audit_toolkit.errors import RuleError, UsageError
from audit_toolkit.names import NamePattern, check_schema_name

Word = TypeVar("Word", bound=StrEnum)

INFO_KEY = "audit"
"""Where the rule of a table is in `Table.info`."""


class Options(TypedDict, total=False):
    """The rule of a table as it is written down; `TableRule` says what each option means."""

    capture: Literal["row", "statement", "wal"]
    exclude: list[str] | tuple[str, ...]
    only: list[str] | tuple[str, ...]
    mask: dict[str, str] | list[str] | tuple[str, ...]
    store: Literal["rows", "changes", "delta"]
    when: str
    truncate: Literal["event", "rows", "forbid"]
    on_oversize: Literal["fail", "mark"]
    require_context: str
    capture_query: bool
    force_capture_query: bool
    log_unchanged: bool
    touch: list[str] | tuple[str, ...]


def Audit(**options: Unpack[Options]) -> TableRule:  # noqa: N802 - it reads like the rule that it makes
    """What a model declares of its table: `info={"audit": …}` of `Table` or `__table_args__`.

    `mask` is a dict of columns and methods, or a list of `"column"` and `"column=method"`.
    Raises `RuleError` for an unknown option (with the nearest name), a wrong value or a contradiction.
    """
    return read_rule(options, where="Audit")


class Managed(StrEnum):
    """Whose capture autogenerate may end."""

    OWN = "own"
    """What was declared once and is not any more; capture that a command installed stays."""
    DECLARED = "declared"
    """Declarations are all: what is not declared is not captured."""


class Style(StrEnum):
    """What autogenerate writes into a revision."""

    SQL = "sql"
    """The SQL itself, frozen: nothing of this package is needed to run it."""
    DIRECTIVES = "directives"
    """`op.audit_table("orders", …)`, which this package carries out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declarations:
    """What a file declares."""

    source: str
    """The name of the file."""
    audit_schema: str = "audit"
    interval: Interval | None = None
    autogenerate: Style = Style.SQL
    managed: Managed = Managed.OWN
    alembic_config: Path | None = None
    """The Alembic configuration, for `--config`; relative to the file."""
    alembic_name: str | None = None
    """The section of it, for `--name`."""
    version_path: Path | None = None
    """The directory that revisions are written into, for `--version-path`; relative to the file."""
    models: tuple[str, ...] = ()
    """Where models are that declare, too: `shop.models:Base`."""
    tables: Mapping[str, TableRule] = field(default_factory=dict)
    """By the names that somebody typed: `orders`, `sales.orders`."""
    require: tuple[str, ...] = ()
    """Patterns of tables that have to be audited: `public.*`; with a `!` before them, that need not."""
    seal_key: Path | None = None
    """The key to seal with, for `--key`; relative to the file."""
    checkpoint_to: tuple[str, ...] = ()
    """Where checkpoints are kept, for `--checkpoint-to`."""
    accept: Mapping[str, str] = field(default_factory=dict)
    """Findings that somebody decided to leave, as `KIND OBJECT`, with the reason."""
    page: Mapping[str, Any] = field(default_factory=dict)
    """What `audit ui` calls tables and columns, and in which language; read by it."""


def find_declarations(directory: Path | None = None) -> Declarations | None:
    """What audit.toml or pyproject.toml of a directory (the working directory) declares, if any does.

    Raises `UsageError` when both do, or a file cannot be read, and `RuleError` for what it says.
    """
    place = directory or Path()
    own = _load(place / "audit.toml")
    shared = (_load(place / "pyproject.toml") or {}).get("tool", {}).get("audit_toolkit")
    if own is not None and shared is not None:
        raise UsageError(
            "both audit.toml and [tool.audit_toolkit] of pyproject.toml declare what is audited",
            hint="keep one of them",
        )
    if own is not None:
        return read_declarations(own, source="audit.toml", directory=place)
    if shared is not None:
        return read_declarations(shared, source="pyproject.toml", directory=place)
    return None


_SETTINGS = (
    "audit_schema",
    "interval",
    "autogenerate",
    "managed",
    "alembic_config",
    "alembic_name",
    "version_path",
    "models",
    "tables",
    "require",
    "seal_key",
    "checkpoint_to",
    "accept",
    "page",
)


def read_declarations(
    values: Mapping[str, Any], *, source: str, directory: Path | None = None
) -> Declarations:
    """The content of a file in `directory` as declarations; raises `RuleError` for what it cannot be."""
    _refuse_unknown(values, _SETTINGS, where=source)
    place = directory or Path()

    def text(name: str) -> str | None:
        return _text(values[name], f"{source}: {name}") if name in values else None

    def path(name: str) -> Path | None:
        return place / given if (given := text(name)) else None

    tables = values.get("tables", {})
    if not isinstance(tables, dict):
        raise RuleError(
            f"{source}: tables is not a table of tables", hint="use [tables.NAME] for each"
        )
    for name in tables:
        NamePattern.parse(name)
    return Declarations(
        source=source,
        audit_schema=check_schema_name(_text(values.get("audit_schema", "audit"), source)),
        interval=_word(Interval, values["interval"], f"{source}: interval")
        if "interval" in values
        else None,
        autogenerate=_word(Style, values.get("autogenerate", "sql"), f"{source}: autogenerate"),
        managed=_word(Managed, values.get("managed", "own"), f"{source}: managed"),
        alembic_config=path("alembic_config"),
        alembic_name=text("alembic_name"),
        version_path=path("version_path"),
        models=_models(values.get("models", ()), f"{source}: models"),
        require=tuple(_texts(values.get("require", []), f"{source}: require", "tables")),
        seal_key=path("seal_key"),
        checkpoint_to=tuple(
            _texts(values.get("checkpoint_to", []), f"{source}: checkpoint_to", "places")
        ),
        accept=_accepted(values.get("accept", {}), f"{source}: accept"),
        page=values.get("page", {}),
        tables={
            name: read_rule(options, where=f"{source}: tables.{name}")
            for name, options in tables.items()
        },
    )


def read_rule(options: object, *, where: str) -> TableRule:
    """A rule from its options; `where` they stand goes into the message of a `RuleError`."""
    if isinstance(options, TableRule):
        return options
    if not isinstance(options, Mapping):
        raise RuleError(
            f"{where}: {options!r} is not a table of options",
            hint='use options, as in exclude = ["note"]',
        )
    names = Options.__annotations__
    _refuse_unknown(options, names, where=where)
    try:
        return TableRule.from_dict(
            {name: _value(name, value, f"{where}: {name}") for name, value in options.items()}
        )
    except RuleError as error:
        # The message may already name the place.
        said = error.message if error.message.startswith(where) else f"{where}: {error.message}"
        raise RuleError(said, hint=error.hint) from error
    except ValueError as error:
        raise RuleError(
            f"{where}: {error}", hint="for the options, run: audit install --help"
        ) from error


_LISTS = ("exclude", "only", "touch")
_FLAGS = ("capture_query", "force_capture_query", "log_unchanged")


def _value(name: str, value: object, where: str) -> Any:
    if name in _LISTS:
        return _texts(value, where)
    if name == "mask":
        if isinstance(value, Mapping):
            return value
        return {mask.column: mask.method for mask in map(Mask.parse, _texts(value, where))}
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise RuleError(f"{where} is {value!r}", hint="use true or false")
        return value
    return _text(value, where)


def _texts(value: object, where: str, what: str = "columns") -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise RuleError(
            f"{where} is {value!r}, not a list of {what}",
            hint=f'write ["{what.removesuffix("s")}"]',
        )
    return list(value)


def _accepted(value: object, where: str) -> dict[str, str]:
    hint = 'use "secret_in_clear public.users.token_hint" = "shown to its user anyway"'
    if not isinstance(value, Mapping):
        raise RuleError(f"{where} is {value!r}, not a table of findings and reasons", hint=hint)
    for finding, reason in value.items():
        if not isinstance(reason, str) or not reason.strip():
            raise RuleError(f"{where}: {finding!r} has no reason", hint=hint)
        if " " not in finding:
            raise RuleError(f"{where}: {finding!r} is not a KIND and an OBJECT", hint=hint)
    return dict(value)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise RuleError(f"{where} is {value!r}, not a text", hint='write "text"')
    return value


def _models(value: object, where: str) -> tuple[str, ...]:
    places = (value,) if isinstance(value, str) else value
    hint = 'use "package.module:Base", or a list of such'
    if not isinstance(places, list | tuple):
        raise RuleError(f"{where} is {value!r}", hint=hint)
    for place in places:
        if not isinstance(place, str) or not _PLACE.fullmatch(place):
            raise RuleError(f"{where}: {place!r} does not say where models are", hint=hint)
    return tuple(places)


_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def _word(words: type[Word], value: object, where: str) -> Word:
    if value not in {word.value for word in words}:
        raise RuleError(f"{where} cannot be {value!r}", hint="choose one of " + ", ".join(words))
    return words(value)


def _refuse_unknown(values: Iterable[str], known: Iterable[str], *, where: str) -> None:
    names = list(known)
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else "the options are " + ", ".join(names)
            raise RuleError(f"{where}: there is no option {name!r}", hint=hint)


def _load(file: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file.name} cannot be read: {error}", hint="fix the file") from error
