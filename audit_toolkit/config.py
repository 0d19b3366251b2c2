"""What is to be audited, and how: the rule of a table, the settings of the trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from audit_toolkit.condition import on_one_row
from audit_toolkit.errors import RuleError
from audit_toolkit.names import check_schema_name

OVERSIZE_BYTES = 16 * 1024 * 1024
"""With `--on-oversize mark`, values beyond this are recorded by size and hash. JSONB ends at 256 MB for a
whole row, of which `bytea` takes two for one."""


KEYFRAME_EVERY = 32
"""With `--store delta`, one of so many updates is stored whole all the same, so that few have to be read together."""

QUERY_LIMIT = 10_000
"""Characters of the statement that `--capture-query` keeps."""


CONTEXT_LIMIT = 65_536
"""Bytes of a context that an event holds; of a longer one it says how many they were."""


class Capture(StrEnum):
    """What records changes: a trigger for every row, one for every statement, or a worker that reads the WAL."""

    ROW = "row"
    STATEMENT = "statement"
    WAL = "wal"


class Store(StrEnum):
    """What an update stores: both rows whole, the old one and what changed, or only what changed."""

    ROWS = "rows"
    CHANGES = "changes"
    DELTA = "delta"


class Truncate(StrEnum):
    """What TRUNCATE leaves in the trail: a marker, every row as deleted, or an error."""

    EVENT = "event"
    ROWS = "rows"
    FORBID = "forbid"


class OnOversize(StrEnum):
    """What happens to a value that JSON cannot hold: the write fails, or size and hash are recorded."""

    FAIL = "fail"
    MARK = "mark"


class MaskMethod(StrEnum):
    """What stands in the trail instead of a masked value (NULL stays NULL)."""

    SHA256 = "sha256"
    SHA256_PLAIN = "sha256-plain"
    REDACT = "redact"
    LENGTH = "length"


class Interval(StrEnum):
    """How much time one leaf of the trail holds; boundaries are UTC, weeks begin on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    @property
    def leaves_ahead(self) -> int:
        """How many leaves are made ahead of now, enough to outlive months without maintenance."""
        return {Interval.DAY: 45, Interval.WEEK: 12, Interval.MONTH: 6}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailSettings:
    """The trail itself: which schema it lives in, how long a leaf is, and which role owns it."""

    schema: str = "audit"
    interval: Interval = Interval.MONTH
    owner: str | None = None
    """None: whoever makes it."""

    def __post_init__(self) -> None:
        check_schema_name(self.schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A column whose values are hidden, and how."""

    column: str
    method: MaskMethod = MaskMethod.REDACT

    @classmethod
    def parse(cls, text: str) -> Mask:
        """Read `COL` or `COL=METHOD`; raises `RuleError` for an unknown method."""
        column, equals, method = text.rpartition("=")
        if not equals:
            return cls(column=text)
        if method not in {m.value for m in MaskMethod}:
            raise RuleError(
                f"unknown mask method {method!r} for column {column!r}",
                hint="choose one of " + ", ".join(MaskMethod),
            )
        return cls(column=column, method=MaskMethod(method))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRule:
    """How one table is captured. The defaults are the full trail: every change, both rows whole.

    Field names are the names of the options everywhere: command line, revision, COMMENT.
    """

    capture: Capture = Capture.ROW
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    mask: tuple[Mask, ...] = ()
    store: Store = Store.ROWS
    when: str | None = None
    truncate: Truncate = Truncate.EVENT
    on_oversize: OnOversize = OnOversize.FAIL
    require_context: str | None = None
    capture_query: bool = False
    force_capture_query: bool = False
    """Keep the text of statements although it shows values of hidden columns; implies `capture_query`."""
    log_unchanged: bool = False
    touch: tuple[str, ...] = ()
    """Columns such as `updated_at`: recorded like any other, but no conflict of an undo and not put back."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", tuple(sorted(set(self.exclude))))
        object.__setattr__(self, "only", tuple(sorted(set(self.only))))
        object.__setattr__(self, "touch", tuple(sorted(set(self.touch))))
        object.__setattr__(
            self, "mask", tuple(sorted(set(self.mask), key=lambda m: (m.column, m.method)))
        )
        if self.when:
            object.__setattr__(self, "when", on_one_row(self.when))
        if self.force_capture_query:
            object.__setattr__(self, "capture_query", True)
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        masked = [mask.column for mask in self.mask]
        if len(set(masked)) != len(masked):
            raise RuleError(
                "a column is masked in two ways", hint="name each column once in --mask"
            )
        if self.exclude and self.only:
            raise RuleError(
                "--exclude cannot be combined with --only",
                hint="--only keeps the named columns and the key; --exclude keeps all others",
            )
        if both := sorted(set(self.exclude) & set(masked)):
            raise RuleError(
                f"column {both[0]!r} is both excluded and masked",
                hint="--exclude drops it from the trail, --mask keeps a stand-in: use one of them",
            )
        if self.only and (lost := sorted(set(masked) - set(self.only))):
            raise RuleError(
                f"column {lost[0]!r} is masked but not in --only",
                hint="add it to --only, or remove its --mask",
            )
        if self.capture is Capture.STATEMENT and self.when:
            raise RuleError(
                "--when needs --capture row",
                hint="the rows of a statement are recorded together; leave out --when or "
                "--capture statement",
            )
        if self.capture is Capture.STATEMENT and self.on_oversize is OnOversize.MARK:
            raise RuleError(
                "--on-oversize mark needs --capture row",
                hint="values are checked row by row; leave out one of the two",
            )
        if self.capture is Capture.STATEMENT and self.store is Store.DELTA:
            raise RuleError(
                "--store delta needs --capture row",
                hint="a statement trigger does not see which transaction wrote a row; leave out one of the two",
            )
        if self.capture is Capture.WAL:
            self._refuse_what_the_wal_lacks()
        hidden = self.exclude or self.mask or self.only
        if self.capture_query and hidden and not self.force_capture_query:
            raise RuleError(
                "--capture-query would record hidden values: the text of a statement contains them",
                hint="leave out --capture-query on a table with --exclude, --only or --mask, or "
                "accept it with --force-capture-query",
            )

    def _refuse_what_the_wal_lacks(self) -> None:
        if self.store is Store.DELTA:
            raise RuleError(
                "--store delta needs --capture row",
                hint="the WAL does not say which event a row is to be read with; --store changes works with both",
            )
        if self.capture_query:
            raise RuleError(
                "--capture-query needs triggers: the WAL does not have the text of statements",
                hint="leave out --capture-query or --capture wal",
            )
        if self.require_context:
            raise RuleError(
                "--require-context needs triggers: what is in the WAL has been written already",
                hint="leave out --require-context or --capture wal",
            )

    def as_dict(self) -> dict[str, Any]:
        """The options that differ from the defaults, as JSON values: for COMMENTs and revisions."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                values[field.name] = _as_json(value)
        return values

    def as_options(self) -> list[str]:
        """The options of `audit install` that say this rule, as words; none for the defaults."""
        return option_words(self.as_dict())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TableRule:
        """The reverse of `as_dict`; raises `RuleError` for names that it does not know."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise RuleError(
                f"unknown option {unknown[0]!r} of an audited table",
                hint="it may come from a newer audit-toolkit: upgrade the package",
            )
        readers: dict[str, Any] = {
            "capture": Capture,
            "store": Store,
            "truncate": Truncate,
            "on_oversize": OnOversize,
            "exclude": tuple,
            "only": tuple,
            "touch": tuple,
            "mask": lambda masks: tuple(
                Mask(column=c, method=MaskMethod(m)) for c, m in masks.items()
            ),
        }
        return cls(
            **{name: readers.get(name, lambda v: v)(value) for name, value in values.items()}
        )


def _as_json(value: Any) -> Any:
    if isinstance(value, tuple):
        masks = [item for item in value if isinstance(item, Mask)]
        return {mask.column: mask.method.value for mask in masks} if masks else list(value)
    return value.value if isinstance(value, StrEnum) else value


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Options as `as_dict` gives them, as words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        match value:
            case True:
                words.append(option)
            case list():
                words += [word for item in value for word in (option, item)]
            case dict():
                words += [
                    w for column, method in value.items() for w in (option, _mask(column, method))
                ]
            case _:
                words += [option, str(value)]
    return words


def _mask(column: str, method: str) -> str:
    return column if method == MaskMethod.REDACT and "=" not in column else f"{column}={method}"
