"""Who looks at the page, and what of the trail they may see."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from re import escape, search

from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName
from audit_toolkit.trail import Action, Event, KnownTable, scope_of, table_of
from audit_toolkit.trail.event import Row
from audit_toolkit.trail.rows.lookup import Scope, Tables
from audit_toolkit.web.settings import short_names

MASK = "•••"
"""What stands for a value that a viewer may not read."""

_TAKEN_BACK = ("reverts", "restores")
_WITHOUT_IMAGES = frozenset(
    {Action.DDL, Action.GAP, Action.MARK, Action.BOUNDARY, Action.REDACTION, Action.EVENT}
)
"""What has no row, but something else in its place."""
_SAID_BY_PEOPLE = ("reason", "ticket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """What somebody may see and do; the defaults: everything, and nothing.

    Tables are named as people name them (`orders`, `sales.orders`, `sales.*`).
    """

    actor: str | None = None
    """Who it is; an undo is in the trail under this name, and needs one."""
    tables: Collection[str] | None = None
    """The tables that they see, None for all. Of others they learn nothing, not even that they are there."""
    hidden: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By table, the columns that are not there for them."""
    masked: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By table, the columns whose values they do not see, though they see that they changed."""
    context: Collection[str] | None = None
    """The keys of the context that they see, None for all."""
    may_undo: bool = False
    """Whether they may take changes back, where the page does that at all."""

    def sees(self, table: QualifiedName) -> bool:
        """Whether this table is there for them."""
        return self.tables is None or _is_among(table, self.tables)

    @property
    def sees_everything(self) -> bool:
        """Whether no table and no column is withheld from them."""
        return self.tables is None and not any((*self.hidden.values(), *self.masked.values()))

    def sees_context(self, key: str) -> bool:
        """Whether they see what the application said under this key."""
        return self.context is None or key in self.context or key == "actor"

    def hidden_of(self, table: QualifiedName) -> frozenset[str]:
        """The columns of a table that are not there for them."""
        return _columns(table, self.hidden)

    def masked_of(self, table: QualifiedName) -> frozenset[str]:
        """The columns of a table whose values they do not see."""
        return _columns(table, self.masked) - self.hidden_of(table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An event as a viewer sees it."""

    event: Event
    changed: Mapping[str, tuple[Json, Json]]
    """As `Event.changed`; a masked column that changed is there with the mask on both sides."""
    whole: bool
    """Whether nothing of it was left out or masked."""
    has_key: bool
    """Whether its row may be named."""


class Sight:
    """The trail as one viewer sees it."""

    def __init__(self, viewer: Viewer, known: Iterable[KnownTable], schema: str) -> None:
        self.viewer = viewer
        self.schema = schema
        self.tables = {one.table: one for one in known if viewer.sees(one.table)}

    def find(self, name: str) -> KnownTable | None:
        """The table that somebody named, if it is there for the viewer."""
        return next((t for t in self.tables.values() if name in short_names(t.table)), None)

    @property
    def scope(self) -> Scope | None:
        """All that they see; None where that is nothing."""
        if self.viewer.tables is None:
            return Tables(schema=self.schema, known=True)
        return scope_of(self.tables.values(), schema=self.schema) if self.tables else None

    @property
    def is_whole(self) -> bool:
        """Whether they see all tables."""
        return self.viewer.tables is None

    def columns(self, table: KnownTable) -> tuple[str, ...]:
        """The columns of a table that are there for them."""
        hidden = self.viewer.hidden_of(table.table)
        return tuple(column for column in table.columns if column not in hidden)

    def in_order(self, table: QualifiedName, columns: Iterable[str]) -> list[str]:
        """Columns in the order of the table; those that it has no longer come last."""
        known = self.tables.get(table)
        places = {column: place for place, column in enumerate(known.columns if known else ())}
        return sorted(columns, key=lambda column: places.get(column, len(places)))

    def may_name_rows(self, table: QualifiedName) -> bool:
        """Whether keys of a table may be shown: none of its columns is hidden or masked."""
        withheld = self.viewer.hidden_of(table) | self.viewer.masked_of(table)
        known = self.tables.get(table)
        if not withheld or known is None:
            return not withheld
        # The key of a dropped table is no longer known.
        return bool(known.columns) and withheld.isdisjoint(known.key)

    def row(self, table: QualifiedName, row: Row | None) -> Row | None:
        """A row without what is hidden, and with masks."""
        if row is None:
            return None
        hidden, masked = self.viewer.hidden_of(table), self.viewer.masked_of(table)
        return {
            column: MASK if column in masked and value is not None else value
            for column, value in row.items()
            if column not in hidden
        }

    def see(self, event: Event) -> Seen | None:
        """An event as they see it; None for one of a table that is not there for them."""
        table = table_of(event)
        if table not in self.tables and not self.is_whole:
            return None
        hidden, masked = self.viewer.hidden_of(table), self.viewer.masked_of(table)
        # A statement may name any table, and have any value in its text.
        query = event.query if self.viewer.sees_everything else None
        shown = replace(event, context=self._context(event.context), query=query)
        if not hidden and not masked:
            return Seen(event=shown, changed=event.changed, whole=True, has_key=True)
        has_key = self.may_name_rows(table)
        shown = replace(
            shown,
            old_row=self._image(event, event.old_row),
            new_row=self._image(event, event.new_row),
            row_key=event.row_key if has_key else event.row_key and MASK,
            old_row_key=event.old_row_key if has_key else event.old_row_key and MASK,
        )
        changed = {
            column: _masked(values) if column in masked else values
            for column, values in event.changed.items()
            if column not in hidden
        }
        whole = hidden.isdisjoint(event.changed) and masked.isdisjoint(event.changed)
        return Seen(event=shown, changed=changed, whole=whole, has_key=has_key)

    def _image(self, event: Event, image: Row | None) -> Row | None:
        table = table_of(event)
        if image is None or event.action not in _WITHOUT_IMAGES:
            return self.row(table, image)
        if event.action is Action.EVENT:  # the application's own, with any value in it
            return {name: MASK if name == "payload" else value for name, value in image.items()}
        hidden = self.viewer.hidden_of(table)
        return {
            name: value if name in _SAID_BY_PEOPLE else _without(value, hidden)
            for name, value in image.items()
        }

    def _context(self, context: Json) -> Json:
        keys = self.viewer.context
        if not isinstance(context, dict):
            return context if keys is None else None
        return {
            key: value
            for key, value in context.items()
            if self.viewer.sees_context(key)
            # An undo may have changed tables that the viewer may not see.
            and (self.is_whole or key not in _TAKEN_BACK)
        }


def _masked(values: tuple[Json, Json]) -> tuple[Json, Json]:
    old, new = (None if value is None else MASK for value in values)
    return old, new


def _without(said: Json, hidden: frozenset[str]) -> Json:
    """What an event says of a table, without the columns that are hidden, however deep it names them."""
    if isinstance(said, dict):
        return {
            name: _without(value, hidden)
            for name, value in said.items()
            if name not in hidden and value not in tuple(hidden)
        }
    if isinstance(said, list):
        return [_without(value, hidden) for value in said if value not in tuple(hidden)]
    if isinstance(said, str) and any(search(rf"(?<!\w){escape(c)}(?!\w)", said) for c in hidden):
        return MASK
    return said


def _columns(table: QualifiedName, by_table: Mapping[str, Collection[str]]) -> frozenset[str]:
    return frozenset(
        column
        for name, columns in by_table.items()
        if _is_among(table, (name,))
        for column in columns
    )


def _is_among(table: QualifiedName, names: Iterable[str]) -> bool:
    own = short_names(table)
    return any(name in own or any(fnmatchcase(one, name) for one in own[1:]) for name in names)
