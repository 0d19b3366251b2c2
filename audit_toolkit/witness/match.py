"""One transaction: its row changes and its events, matched as they come. What is left is for a judge. No I/O.

A trigger writes an event behind the change that fired it, so a change waits for its event. Which event of a row comes
first may be another order than that of its changes, where a trigger of the application changes the row again; so they
are matched by what they say, within one row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from audit_toolkit.wal import Cell, Change, Missing, Relation, Row
from audit_toolkit.witness.tables import FROM_WAL, Book, Watched
from audit_toolkit.witness.values import (
    Image,
    Kind,
    Type,
    Value,
    as_image_value,
    converted,
    key_text,
    of_cell,
    of_image,
    read_image,
    says_the_same,
)
from audit_toolkit.witness.waiting import Waiting

REGISTRY = "captured_tables"
REMEMBERED = 50_000
"""Rows of a transaction of which is remembered how they were left."""
_XIDS = 1 << 32


@dataclass(frozen=True, slots=True)
class Written:
    """A row change without an event, so far."""

    key: str | None
    table: Watched
    action: str
    old_key: str | Missing | None
    """`ABSENT` where the WAL does not say."""
    layout: Layout
    before: Row | None
    after: Row | None
    made: Mapping[tuple[str, str], str]
    previous: tuple[Layout, Row] | None = None
    """How an earlier change of the transaction left the row."""

    @property
    def was(self) -> str | None:
        """The key of the row before the change."""
        return self.old_key if isinstance(self.old_key, str) else self.key

    def values(self) -> Iterator[tuple[str, Kind, Value]]:
        """The columns of the new row that an image has as they are."""
        return self.layout.values(self.after, self.layout.compared, self.made)

    def old_values(self) -> Iterator[tuple[str, Kind, Value]]:
        """What is known of the old row."""
        return self.layout.values(self.before, self.layout.compared, self.made)

    def image(self, row: Row | None, layout: Layout | None = None) -> dict[str, Any]:
        """All that is known of a row, as an image has it."""
        columns = (layout or self.layout).columns
        return {
            name: as_image_value(cell, type_, self.made.get((type_.name, cell or "")))
            for (name, type_), cell in zip(columns, row or (), strict=False)
            if not isinstance(cell, Missing)
        }

    @property
    def old_image(self) -> dict[str, Any] | None:
        """The row before the change, where the WAL has all of it."""
        if self.before is not None and not any(isinstance(c, Missing) for c in self.before):
            return self.image(self.before)
        if self.previous is not None:
            layout, row = self.previous
            return self.image(row, layout)
        return None


@dataclass(frozen=True, slots=True)
class Told:
    """An event without a row change, so far."""

    table: Watched
    action: str
    key: str | None
    old_key: str | None
    event_id: int
    before: Image | None
    after: Image | None


@dataclass(frozen=True, slots=True)
class OfTrail:
    """A change of an event that is there."""

    action: str
    event_id: int
    table: str = ""
    key: str | None = None
    says: str = ""
    """The transaction that it says it is of."""


@dataclass(slots=True)
class Leftovers:
    """What did not match in a transaction."""

    xid: int
    commit_lsn: int
    committed_at: datetime
    changes: int = 0
    events: int = 0
    written: list[Written] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    differing: list[tuple[Written, Told]] = field(default_factory=list)
    truncated: list[Watched] = field(default_factory=list)
    """Tables whose TRUNCATE has no event."""
    not_truncated: list[Watched] = field(default_factory=list)
    """Tables with the event of a TRUNCATE that there was not."""
    of_trail: list[OfTrail] = field(default_factory=list)
    silenced: list[Watched] = field(default_factory=list)
    """Tables that left the registry, and no event says that their capture ended."""
    unjudged: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many changes and events could not be judged: by table and reason."""
    forgot: bool = False
    """Whether it changed more rows than are remembered within a transaction."""
    must_read_rules: bool = False
    """Whether capture of a table was installed, changed or taken off."""


class Layout:
    """A table as the WAL describes it, and what of it an image has."""

    __slots__ = ("columns", "compared", "key", "table")

    def __init__(self, relation: Relation, types: Mapping[int, Type], table: Watched) -> None:
        self.columns = [(column.name, types[column.type_oid]) for column in relation.columns]
        self.compared = [
            (place, name, type_)
            for place, (name, type_) in enumerate(self.columns)
            if table.takes(name)
        ]
        places = {name: (place, type_) for place, (name, type_) in enumerate(self.columns)}
        self.key: list[tuple[int, Type]] | None = None
        if table.key and all(name in places for name in table.key):
            self.key = [places[name] for name in table.key]
        self.table = table

    def values(
        self,
        row: Row | None,
        columns: list[tuple[int, str, Type]],
        made: Mapping[tuple[str, str], str],
    ) -> Iterator[tuple[str, Kind, Value]]:
        """The values of a row in the common form."""
        if row is None:
            return
        for place, name, type_ in columns:
            cell = row[place]
            if type_.kind is Kind.SERVER and isinstance(cell, str):
                text = made.get((type_.name, cell))
                value: Value = Missing.ABSENT if text is None else converted(cell, text)
            else:
                value = of_cell(cell, type_.kind)
            yield name, type_.kind, value

    def made_of(
        self, rows: Sequence[Row | None], made: Mapping[tuple[str, str], str]
    ) -> dict[tuple[str, str], str]:
        """What the server made of the cells of these rows."""
        kept: dict[tuple[str, str], str] = {}
        for place, (_, type_) in enumerate(self.columns):
            if type_.kind is not Kind.SERVER:
                continue
            for row in rows:
                cell = None if row is None else row[place]
                if isinstance(cell, str) and (text := made.get((type_.name, cell))) is not None:
                    kept[type_.name, cell] = text
        return kept

    def key_of(self, row: Row | None, made: Mapping[tuple[str, str], str]) -> str | Missing | None:
        """The key of a row as the trail writes it; `ABSENT` where the WAL does not have all of it."""
        if row is None or self.key is None:
            return Missing.ABSENT
        cells: list[Any] = []
        for place, type_ in self.key:
            cell: Cell = row[place]
            if isinstance(cell, Missing):
                return Missing.ABSENT
            cells.append(as_image_value(cell, type_, made.get((type_.name, cell or ""))))
        return key_text(cells)


@dataclass(slots=True)
class _Packed:
    """Changes and events as plain values: what many of them share is kept here, and a number stands for it."""

    shared: list[Watched | Layout] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)

    def pack(self, one: Written | Told) -> tuple[object, ...]:
        table = self._number(one.table)
        if isinstance(one, Told):
            return (table, one.action, one.key, one.old_key, one.event_id, one.before, one.after)
        previous, made = None, one.layout.made_of((one.before, one.after), one.made)
        if one.previous is not None:
            layout, row = one.previous
            previous = self._number(layout), row
            made |= layout.made_of((row,), one.made)
        layout_number = self._number(one.layout)
        return (
            *(one.key, table, one.action, one.old_key, layout_number, one.before, one.after),
            *(made, previous),
        )

    def unpack(self, values: tuple[Any, ...]) -> Written | Told:
        shared: list[Any] = self.shared
        if len(values) == 7:
            return Told(shared[values[0]], *values[1:])
        key, table, action, old_key, layout, before, after, made, previous = values
        if previous is not None:
            previous = shared[previous[0]], previous[1]
        known = shared[table], action, old_key, shared[layout]
        return Written(key, *known, before, after, made, previous)

    def _number(self, one: Watched | Layout) -> int:
        number = self.numbers.get(id(one))
        if number is None:
            number = self.numbers[id(one)] = len(self.shared)
            self.shared.append(one)
        return number


@dataclass(slots=True)
class _Open:
    """The transaction that is being read."""

    left: Leftovers
    waiting: Waiting[Written | Told]
    truncated: Counter[int] = field(default_factory=Counter)
    """How often the WAL has a TRUNCATE of a table."""
    truncates_told: dict[int, list[Told]] = field(default_factory=dict)
    switched: set[int] = field(default_factory=set)
    """Tables whose capture it installed, changed, paused, resumed or ended."""
    ended: dict[int, Watched] = field(default_factory=dict)
    """Tables that it took out of the registry."""
    announced: set[int] = field(default_factory=set)
    """Tables of which an event says so."""
    off: dict[int, bool] = field(default_factory=dict)
    rows: dict[tuple[int, str], tuple[Layout, Row]] = field(default_factory=dict)
    """How changes left rows, by table and key."""
    is_redaction: bool = False
    has_unknown: bool = False
    """Whether it wrote to a partition that is gone."""
    removed: dict[int, OfTrail] = field(default_factory=dict)
    changed: list[OfTrail] = field(default_factory=list)
    strange: dict[int, OfTrail] = field(default_factory=dict)
    """Events that say they are of another transaction."""


class Matcher:
    """Matches one transaction after the other."""

    def __init__(self, book: Book, schema: str, full_xid: Callable[[int], int]) -> None:
        self.types: dict[int, Type] = {}
        self.made: dict[tuple[str, str], str] = {}
        """What the server made of cells: by the name of the type and the text."""
        self._book = book
        self._schema = schema
        self._full_xid = full_xid
        self._layouts: dict[int, tuple[Relation, Layout]] = {}
        self._now: _Open | None = None

    def forget_layouts(self) -> None:
        """The rules of tables have changed."""
        self._layouts.clear()

    def take(self, change: Change[Row]) -> None:
        """The next change of the transaction."""
        now = self._now
        if now is None:
            at = change.position.commit_lsn
            left = Leftovers(self._full_xid(change.xid), at, change.committed_at)
            packed = _Packed()
            waiting = Waiting(_are_one, packed.pack, packed.unpack)
            now = self._now = _Open(left, waiting)
        if change.relation.schema == self._schema:
            if change.relation.name == REGISTRY:
                self._take_registry(now, change)
            else:
                self._take_event(now, change)
            return
        table = self._book.of_relation(change.relation.oid)
        if table is None:
            now.has_unknown = True
            return
        now.left.changes += 1
        if change.action == "T":
            now.truncated[table.oid] += 1
            return
        written = self._written(now, change, table)
        now.waiting.meet((table.oid, change.action, written.key), written)

    def close(self) -> Leftovers | None:
        """The transaction has ended: what did not match; None where it had nothing for the witness."""
        now, self._now = self._now, None
        if now is None:
            return None
        self._sort_out(now)
        return now.left

    # changes of rows

    def _written(self, now: _Open, change: Change[Row], table: Watched) -> Written:
        layout = self._layout(change.relation, table)
        key = layout.key_of(change.before if change.action == "D" else change.after, self.made)
        old_key = self._old_key(change, table, layout, key)
        previous, after = self._remember(now, change, layout, key, old_key)
        values = (table, change.action, old_key, layout, change.before, after, self.made, previous)
        if not isinstance(key, Missing):
            return Written(key, *values)
        written = Written(None, *values)
        if change.action == "I" and not table.key:
            return replace(written, key=_digest(written.values()))
        return written

    def _old_key(
        self, change: Change[Row], table: Watched, layout: Layout, key: str | Missing | None
    ) -> str | Missing | None:
        """The key before an update that changed it, as an event has it."""
        if change.action != "U" or layout.key is None:
            return Missing.ABSENT
        if change.before is None:
            return None if _names_key(change.relation, table) else Missing.ABSENT
        found = layout.key_of(change.before, self.made)
        return None if found == key else found

    def _remember(
        self,
        now: _Open,
        change: Change[Row],
        layout: Layout,
        key: str | Missing | None,
        old_key: str | Missing | None,
    ) -> tuple[tuple[Layout, Row] | None, Row | None]:
        """How the row was left before, if this transaction did it, and how it is left now."""
        oid, after = layout.table.oid, change.after
        if not isinstance(key, str):
            return None, after
        previous = now.rows.pop((oid, old_key if isinstance(old_key, str) else key), None)
        if after is None:
            return previous, None
        if previous is not None and previous[0] is layout and Missing.UNCHANGED in after:
            after = tuple(
                old if new is Missing.UNCHANGED else new
                for new, old in zip(after, previous[1], strict=True)
            )
        if len(now.rows) < REMEMBERED:
            now.rows[oid, key] = (layout, after)
        else:
            now.left.forgot = True
        return previous, after

    def _layout(self, relation: Relation, table: Watched) -> Layout:
        known = self._layouts.get(relation.oid)
        if known is not None and known[0] is relation and known[1].table is table:
            return known[1]
        if relation.oid == table.oid:
            self._book.call(table.oid, relation.schema, relation.name)
        layout = Layout(relation, self.types, table)
        self._layouts[relation.oid] = (relation, layout)
        return layout

    # what is written into the trail

    def _take_event(self, now: _Open, change: Change[Row]) -> None:
        left = now.left
        if change.action == "T":
            left.of_trail.append(OfTrail("T", 0, change.relation.name))
            return
        columns = (column.name for column in change.relation.columns)
        row: dict[str, Cell] = dict(zip(columns, change.after or change.before or (), strict=False))
        if change.action == "D":
            event_id = int(str(row["event_id"]))
            now.removed[event_id] = OfTrail("D", event_id)
            return
        event_id = int(str(row["event_id"]))
        schema, name, action = str(row["schema_name"]), str(row["table_name"]), str(row["action"])
        says = str(row["transaction_id"])
        key = row["row_key"] if isinstance(row["row_key"], str) else None
        if change.action == "U":
            now.changed.append(OfTrail("U", event_id, f"{schema}.{name}", key))
            return
        table = self._book.of_name(schema, name)
        if table is not None and table.from_wal:
            left.unjudged[str(table.name), FROM_WAL] += 1
            return
        if int(says) != left.xid:
            now.strange[event_id] = OfTrail("I", event_id, f"{schema}.{name}", key, says)
            return
        left.events += 1
        if action not in ("I", "U", "D", "T"):
            self._take_note(now, action, schema, name, row)
            return
        if table is None:
            left.unjudged[f"{schema}.{name}", "not watched"] += 1
            return
        self._tell(now, table, action, key, event_id, row)

    def _tell(
        self,
        now: _Open,
        table: Watched,
        action: str,
        key: str | None,
        event_id: int,
        row: Mapping[str, Cell],
    ) -> None:
        old, new = row["old_row"], row["new_row"]
        before = read_image(old if isinstance(old, str) else None)
        after = read_image(new if isinstance(new, str) else None)
        if action == "U" and before is not None and after is not None:
            after = {**before, **after}
        old_key = row["old_row_key"] if isinstance(row["old_row_key"], str) else None
        told = Told(table, action, key, old_key, event_id, before, after)
        if action == "T":
            now.truncates_told.setdefault(table.oid, []).append(told)
            return
        if action == "I" and not table.key and after is not None:
            key = self._digest_of_image(table, after)
        now.waiting.meet((table.oid, action, key), told)

    def _digest_of_image(self, table: Watched, image: Image) -> str | None:
        # By the columns and types that the WAL told of the table; its change comes before its event.
        for _, layout in self._layouts.values():
            if layout.table is table:
                return _digest(
                    (name, type_.kind, of_image(image, name, type_.kind))
                    for _, name, type_ in layout.compared
                )
        return None

    def _take_note(
        self, now: _Open, action: str, schema: str, name: str, row: Mapping[str, Cell]
    ) -> None:
        if action == "R":
            now.is_redaction = True
        if action not in ("G", "M"):
            return
        new = row["new_row"]
        said = read_image(new if isinstance(new, str) else None) or {}
        table = self._book.of_name(schema, name)
        if action == "M":
            match said.get("change"), said.get("to"), said.get("relation"):
                case "renamed", [str(to_schema), str(to_table)], str(relation):
                    self._book.call(int(relation), to_schema, to_table)
                case (("dropped" | "created"), _, _) if table is not None:
                    now.announced.add(table.oid)
                    now.switched.add(table.oid)
            return
        if table is not None and (state := said.get("capture")) in ("paused", "resumed", "ended"):
            now.off[table.oid] = state != "resumed"
            now.announced.add(table.oid)
            now.switched.add(table.oid)

    def _take_registry(self, now: _Open, change: Change[Row]) -> None:
        left = now.left
        columns = [column.name for column in change.relation.columns]
        row = dict(zip(columns, change.after or change.before or (), strict=False))
        if change.action == "D":
            if table := self._book.of_function(str(row["function_name"])):
                now.ended[table.oid] = table
                now.switched.add(table.oid)
            left.must_read_rules = True
            return
        if change.action == "T":
            left.must_read_rules = True
            return
        oid = int(str(row["relation_id"]))
        self._book.call(oid, str(row["schema_name"]), str(row["table_name"]))
        if change.action == "I" or row.get("installing") is not None:
            now.ended.pop(oid, None)
            now.switched.add(oid)
            left.must_read_rules = True
            if change.action == "I":
                now.off[oid] = False
        elif oid not in self._book.tables or not self._book.tables[oid].is_noted:
            left.must_read_rules = True

    # matching

    def _sort_out(self, now: _Open) -> None:
        left = now.left
        for bucket in now.waiting.left():
            written = [one for one in bucket if isinstance(one, Written)]
            told = [one for one in bucket if isinstance(one, Told)]
            both = min(len(written), len(told))
            pairs = list(zip(written, told, strict=False))
            for pair in pairs:
                if self._is_judged(now, pair[0].table):
                    left.differing.append(pair)
            for change in written[both:]:
                if change.table.is_on and self._is_judged(now, change.table):
                    left.written.append(change)
            for event in told[both:]:
                self._sort_out_event(now, event)
        self._sort_out_truncates(now)
        self._sort_out_trail(now)
        left.silenced = [one for oid, one in now.ended.items() if oid not in now.announced]
        for oid, is_off in now.off.items():
            if table := self._book.tables.get(oid):
                table.is_on = not is_off
        for table in now.ended.values():
            table.is_on = False

    def _is_judged(self, now: _Open, table: Watched) -> bool:
        left = now.left
        if table.from_wal:
            left.unjudged[str(table.name), FROM_WAL] += 1
            return False
        if table.entry is None or left.xid < table.since:
            left.unjudged[str(table.name), "not watched yet"] += 1
            return False
        if table.oid in now.switched:
            left.unjudged[str(table.name), "capture was switched in the same transaction"] += 1
            return False
        return True

    def _sort_out_event(self, now: _Open, event: Told) -> None:
        table, left = event.table, now.left
        if not self._is_judged(now, table):
            return
        if event.action in ("U", "D") and not table.has_identity:
            left.unjudged[str(table.name), "no replica identity"] += 1
        elif now.has_unknown and table.is_partitioned:
            left.unjudged[str(table.name), "a partition that is gone"] += 1
        elif event.action == "D" and table.rows_of_truncate and now.truncated[table.oid]:
            now.truncates_told.setdefault(table.oid, [])  # its rows are the event
        else:
            left.told.append(event)

    def _sort_out_truncates(self, now: _Open) -> None:
        left = now.left
        for oid in now.truncated.keys() | now.truncates_told.keys():
            table = self._book.tables.get(oid)
            if table is None or not self._is_judged(now, table):
                continue
            if oid not in now.truncates_told and table.is_on:
                if table.is_partitioned:
                    left.unjudged[str(table.name), "TRUNCATE of a partition without an event"] += 1
                else:
                    left.truncated.append(table)
            elif now.truncates_told.get(oid) and not now.truncated[oid]:
                if table.is_partitioned:
                    left.unjudged[str(table.name), "TRUNCATE without partitions"] += 1
                else:
                    left.not_truncated.append(table)

    def _sort_out_trail(self, now: _Open) -> None:
        left = now.left
        for event_id in now.removed.keys() & now.strange.keys():
            # Moved to another partition: what it says is for seals to say.
            del now.removed[event_id], now.strange[event_id]
        left.of_trail += [*now.removed.values(), *now.strange.values()]
        if not now.is_redaction:
            left.of_trail += now.changed


def _names_key(relation: Relation, table: Watched) -> bool:
    """Whether the replica identity has the key, so that an update without an old row did not change it."""
    identity = {column.name for column in relation.columns if column.is_identity}
    return identity.issuperset(table.key)


def _are_one(one: Written | Told, other: Written | Told) -> bool:
    """Whether these are a change and its event."""
    if isinstance(one, Written):
        return isinstance(other, Told) and _fits(one, other)
    return isinstance(other, Written) and _fits(other, one)


def _fits(change: Written, event: Told) -> bool:
    """Whether an event says what was written, as far as the WAL has it."""
    if not isinstance(change.old_key, Missing) and change.old_key != event.old_key:
        return False
    if change.after is not None and not _agree(change.values(), event.after, change.table):
        return False
    if change.before is not None:
        return _agree(change.old_values(), event.before, change.table)
    return True


def _agree(values: Iterator[tuple[str, Kind, Value]], image: Image | None, table: Watched) -> bool:
    return image is not None and next(_differing(values, image, table), None) is None


def _differing(
    values: Iterator[tuple[str, Kind, Value]], image: Image, table: Watched
) -> Iterator[str]:
    """The columns of which an image says something else."""
    for name, kind, value in values:
        said = of_image(image, name, kind)
        if said is Missing.ABSENT:
            if not table.is_pruned and not isinstance(value, Missing):
                yield name
        elif not says_the_same(value, said):
            yield name


def differing_columns(change: Written, event: Told) -> list[str]:
    """The columns in which an event is not what was written, as far as the WAL has them."""
    return [
        *_differing(change.values(), event.after or {}, change.table),
        *_differing(change.old_values(), event.before or {}, change.table),
    ]


def agree(change: Written, image: Image) -> bool | None:
    """Whether a row was already what a change made of it; None where an image does not have all of it."""
    is_whole = True
    for name, kind, value in change.values():
        said = of_image(image, name, kind)
        if isinstance(said, Missing):
            is_whole = is_whole and isinstance(value, Missing)
        elif not says_the_same(value, said):
            return False
    return True if is_whole else None


def _digest(values: Iterator[tuple[str, Kind, Value]]) -> str | None:
    parts = []
    for name, kind, value in values:
        if kind is Kind.SERVER or isinstance(value, Missing):
            continue  # not the same on both sides
        parts.append((name, value))
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
