"""An event of the trail."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from json.encoder import encode_basestring
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

from audit_toolkit import exact_json
from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName
from audit_toolkit.trail import json_diff

MOST_PATHS = 100
"""So many places are named that changed inside a column."""

BIGGEST = 2**63 - 1
"""No event and no transaction has a higher number."""

Row = dict[str, Json]
"""A row as the trail has it: column names and JSON values."""
Texts = tuple[str | None, str | None, str | None]
"""`old_row`, `new_row` and `context`, as JSON."""


REDACTED = "audit:redacted"
"""What stands in place of a redacted value is {"audit:redacted": N}, with the event that tells of it."""


def redaction_of(value: Json) -> int | None:
    """The event that tells of the redaction of a value; None for any other value."""
    if not isinstance(value, dict) or not value.keys() <= {REDACTED, "changed"}:
        return None  # the application may have a member of that name
    found = value.get(REDACTED)
    return found if type(found) is int else None


class Action(StrEnum):
    """What happened."""

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"
    TRUNCATE = "T"
    SNAPSHOT = "S"
    GAP = "G"
    DDL = "M"
    BOUNDARY = "B"
    MARK = "V"
    REDACTION = "R"
    """Values of other events were erased: `new_row` says why, and of which columns."""
    EVENT = "E"
    """Of the application: `new_row` has its name and payload."""

    @classmethod
    def _missing_(cls, value: object) -> Self:
        raise AuditError(
            f"the trail has events of kind {value!r}, which this version does not know",
            hint="pip install --upgrade audit-toolkit",
        )


_ACTIONS = {action.value: action for action in Action}
_IMAGES = ("old_row", "new_row", "context")
UNKNOWN = "unknown"
"""Who wrote, where nothing says it: the WAL does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of `audit.logged_actions`, its columns in their order.

    Of an event that was read from the trail, rows and context are parsed when they are first asked for.
    """

    event_id: int
    action_tstamp: datetime
    """When it was captured, in UTC."""
    transaction_id: int
    schema_name: str
    table_name: str
    action: Action
    row_key: str | None
    old_row_key: str | None
    old_row: Row | None
    new_row: Row | None
    context: Json
    """Whatever the application set: usually a dict, a claim and not a proof."""
    session_user_name: str | None
    """None where the WAL was read, and the application did not say it."""
    role_name: str | None
    application_name: str | None
    client_addr: str | None
    query: str | None
    texts: Texts | None = field(init=False, default=None, repr=False, compare=False)
    """Rows and context as PostgreSQL printed them; None where they did not come from there as they are."""
    changed_text: str | None = field(init=False, default=None, repr=False, compare=False)
    """What `changed` is as JSON, where the database has worked it out; then no paths changed inside of columns."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The event of a row of our queries: `jsonb` as text, the time in UTC without a zone."""
        event = cls.__new__(cls)
        for write, value in zip(_WRITERS, _PLAIN_FIELDS(record), strict=True):
            write(event, value)
        action = record["action"]
        _write_action(event, _ACTIONS.get(action) or Action(action))
        _write_time(event, record["action_tstamp"].replace(tzinfo=UTC))
        _write_texts(event, _IMAGE_FIELDS(record))
        _write_changed(event, record.get("changed_text"))
        return event

    if not TYPE_CHECKING:  # it would know any name

        def __getattr__(self, name: str) -> Any:
            """A row or the context, which has no value yet."""
            if name not in _IMAGES or self.texts is None:
                raise AttributeError(f"an event has no {name}")
            text = self.texts[_IMAGES.index(name)]
            value = None if text is None else exact_json.loads(text)
            object.__setattr__(self, name, value)
            return value

    @property
    def key_before(self) -> str | None:
        """The key that its row had before."""
        return self.row_key if self.old_row_key is None else self.old_row_key

    @property
    def size(self) -> int:
        """The characters of its rows and its context, as they were read; 0 where they were not."""
        old, new, context = self.texts or (None, None, None)
        return len(old or "") + len(new or "") + len(context or "")

    @property
    def actor(self) -> str:
        """Who, as the application claimed it; the login role where it claimed nothing; `unknown` without either."""
        claimed = self.context.get("actor") if isinstance(self.context, dict) else None
        if not claimed:
            return self.session_user_name or UNKNOWN
        return claimed if isinstance(claimed, str) else exact_json.dumps(claimed)

    @property
    def changed(self) -> dict[str, tuple[Json, Json]]:
        """The columns that this event changed, each with its old and new value.

        Of an update, the columns whose value is another one (1.0 and 1.00 are two values); all
        columns of a row that was inserted (old None) or deleted (new None); else nothing.
        """
        old, new = self.old_row or {}, self.new_row or {}
        match self.action:
            case Action.INSERT:
                return {column: (None, value) for column, value in new.items()}
            case Action.DELETE:
                return {column: (value, None) for column, value in old.items()}
            case Action.UPDATE:
                # With --store changes, new_row has only the columns that changed.
                return {
                    column: (old.get(column), value)
                    for column, value in new.items()
                    if column not in old or not exact_json.same(old[column], value)
                }
        return {}

    @property
    def holds_changes_only(self) -> bool:
        """Whether its rows are only what it changed, as `--store delta` has stored it.

        Events that were read from the trail are whole; those of an archive are as stored.
        """
        if self.action is not Action.UPDATE or self.row_key is None or self.old_row_key is not None:
            return False
        if self.changed_text is not None:  # some column is the same before and after
            return False
        old, new = self.old_row, self.new_row
        return (
            isinstance(old, dict)
            and isinstance(new, dict)
            and all(c in new and not exact_json.same(value, new[c]) for c, value in old.items())
        )

    @property
    def changed_paths(self) -> list[str]:
        """Where an update changed something inside objects and arrays, as JSON pointers (RFC 6901).

        The first step is the column, which stands alone where more than `MOST_PATHS` values differ
        inside. Of columns that hold no JSON, `changed` tells all.
        """
        return _changed_paths(self.changed) if self.action is Action.UPDATE else []

    @property
    def row_after(self) -> Row | None:
        """The whole row as the event left it, even if only changes are stored; None without."""
        if self.action is Action.UPDATE:
            return (self.old_row or {}) | (self.new_row or {})
        return self.new_row if self.action in (Action.INSERT, Action.SNAPSHOT) else None

    @property
    def is_drop(self) -> bool:
        """Whether the table was dropped, and all its rows with it."""
        return self.action is Action.DDL and (self.new_row or {}).get("change") == "dropped"

    def without(self, columns: Collection[str]) -> Self:
        """The event as if its rows had not these columns; its key stays."""
        old, new = (
            row and {column: value for column, value in row.items() if column not in columns}
            for row in (self.old_row, self.new_row)
        )
        if self.action in (Action.GAP, Action.DDL, Action.EVENT):
            return self
        return replace(self, old_row=old, new_row=new)

    def puts_back(self, former: Event | None) -> bool:
        """Whether it inserts what that event deleted in the same transaction: one life of one row.

        That is how a row gets into another partition, and how some programs change one.
        """
        return (
            self.action is Action.INSERT
            and former is not None
            and former.action is Action.DELETE
            and self.row_key is not None
            and (self.transaction_id, self.schema_name, self.table_name, self.row_key)
            == (former.transaction_id, former.schema_name, former.table_name, former.row_key)
        )

    def as_dict(self) -> dict[str, Json]:
        """The event as JSON values, with `changed`; `exact.dumps` writes them."""
        changed = self.changed
        return {
            "event_id": self.event_id,
            "action_tstamp": self.action_tstamp.isoformat(timespec="microseconds"),
            "transaction_id": self.transaction_id,
            "action": self.action,
            "schema_name": self.schema_name,
            "table_name": self.table_name,
            "row_key": self.row_key,
            "old_row_key": self.old_row_key,
            "changed": changed,
            "old_row": self.old_row,
            "new_row": self.new_row,
            "context": self.context,
            "session_user_name": self.session_user_name,
            "role_name": self.role_name,
            "application_name": self.application_name,
            "client_addr": self.client_addr,
            "query": self.query,
            "changed_paths": _changed_paths(changed) if self.action is Action.UPDATE else [],
        }

    def as_json(self) -> str:
        """The text that `exact_json.dumps` makes of `as_dict`, in a third of the time."""
        printed = self.texts
        if printed is None or any(map(exact_json.is_deep, filter(None, printed))):
            old, new, context = map(exact_json.dumps, (self.old_row, self.new_row, self.context))
            known = None
        else:
            old, new, context = (text or "null" for text in printed)
            known = self.changed_text
        changed, paths = self._changed_texts(old, new) if known is None else (known, "[]")
        return (
            f'{{"event_id": {self.event_id}'
            f', "action_tstamp": "{_iso(self.action_tstamp)}"'
            f', "transaction_id": {self.transaction_id}'
            f', "action": "{self.action!s}"'
            f', "schema_name": {_quoted(self.schema_name)}'
            f', "table_name": {_quoted(self.table_name)}'
            f', "row_key": {_quoted(self.row_key)}'
            f', "old_row_key": {_quoted(self.old_row_key)}'
            f', "changed": {changed}'
            f', "old_row": {old}'
            f', "new_row": {new}'
            f', "context": {context}'
            f', "session_user_name": {_quoted(self.session_user_name)}'
            f', "role_name": {_quoted(self.role_name)}'
            f', "application_name": {_quoted(self.application_name)}'
            f', "client_addr": {_quoted(self.client_addr)}'
            f', "query": {_quoted(self.query)}'
            f', "changed_paths": {paths}}}'
        )

    def _changed_texts(self, old: str, new: str) -> tuple[str, str]:
        """What `changed` and `changed_paths` are as JSON."""
        text = None
        if self.action is Action.INSERT and self.new_row:
            text = exact_json.around_members(new, len(self.new_row), "[null, ", "]")
        elif self.action is Action.DELETE and self.old_row:
            text = exact_json.around_members(old, len(self.old_row), "[", ", null]")
        if text is not None:
            return text, "[]"
        changed = self.changed
        paths = _changed_paths(changed) if self.action is Action.UPDATE else []
        return _pairs_text(changed), exact_json.dumps(paths) if paths else "[]"

    @staticmethod
    def field_names() -> tuple[str, ...]:
        """The names of `as_dict`, in their order."""
        return _JSON_ORDER


def _writer(name: str) -> Callable[[Event, Any], None]:
    """Writes a field of an event that is being made, in a third of the time that `__init__` takes."""
    write: Callable[[Event, Any], None] = Event.__dict__[name].__set__
    return write


_PLAIN_NAMES = (
    "event_id",
    "transaction_id",
    "schema_name",
    "table_name",
    "row_key",
    "old_row_key",
    "session_user_name",
    "role_name",
    "application_name",
    "client_addr",
    "query",
)
_PLAIN_FIELDS, _IMAGE_FIELDS = itemgetter(*_PLAIN_NAMES), itemgetter(*_IMAGES)
_WRITERS = tuple(map(_writer, _PLAIN_NAMES))
_write_action, _write_time = _writer("action"), _writer("action_tstamp")
_write_texts, _write_changed = _writer("texts"), _writer("changed_text")

_JSON_ORDER = (
    "event_id",
    "action_tstamp",
    "transaction_id",
    "action",
    "schema_name",
    "table_name",
    "row_key",
    "old_row_key",
    "changed",
    "old_row",
    "new_row",
    "context",
    "session_user_name",
    "role_name",
    "application_name",
    "client_addr",
    "query",
    "changed_paths",
)


def _changed_paths(changed: Mapping[str, tuple[Json, Json]]) -> list[str]:
    found: list[str] = []
    for column, (old, new) in changed.items():
        if type(new) not in (dict, list):
            continue
        if redaction_of(new) is None and json_diff.differ_inside(old, new):
            some = list(islice(json_diff.differences(old, new), MOST_PATHS + 1))
            paths = [each.path for each in some] if len(some) <= MOST_PATHS else [()]
            found += [json_diff.pointer((column, *path)) for path in paths]
    return found


def _pairs_text(changed: Mapping[str, tuple[Json, Json]]) -> str:
    """What `exact_json.dumps` makes of `changed`, where most values are no objects or arrays in half the time."""
    pairs = [
        f"{encode_basestring(column)}: [{exact_json.dumps_plain(old)}, {exact_json.dumps_plain(new)}]"
        for column, (old, new) in changed.items()
    ]
    return f"{{{', '.join(pairs)}}}"


def _iso(moment: datetime) -> str:
    # The plain call, which leaves out a zero, takes a third of the time.
    return moment.isoformat() if moment.microsecond else moment.isoformat(timespec="microseconds")


def _quoted(text: str | None) -> str:
    return "null" if text is None else encode_basestring(text)


def table_of(event: Event) -> QualifiedName:
    """The table that an event is about."""
    return QualifiedName(event.schema_name, event.table_name)


def require_numbers(*numbers: int | None) -> None:
    """Raise `UsageError` for one that no event and no transaction can have."""
    for number in numbers:
        if number is not None and not 0 <= number <= BIGGEST:
            raise UsageError(f"{number} is not a valid event or transaction number")
