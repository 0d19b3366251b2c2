"""In which order rows are put back, so that constraints hold all the way: pure, no connection.

Operations come newest event first. Each state that they pass through backwards was there once, so
what is unique stays so. Foreign keys are another matter: they are checked at the end of a statement,
and a trail does not know statements; so a parent is there before its children refer to it, and
goes after them. A trigger that brought a row beside another one brings it again: rows come to tables
without triggers and foreign keys last, where they are not there by then. Operations between which there is no such
reason are grouped.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from heapq import heapify, heappop, heappush

from audit_toolkit import exact_json
from audit_toolkit.exact_json import Json
from audit_toolkit.names import QualifiedName
from audit_toolkit.trail.event import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A foreign key."""

    child: QualifiedName
    columns: tuple[str, ...]
    parent: QualifiedName
    parent_columns: tuple[str, ...]
    deferrable: bool
    """Whether it is checked at the end of the transaction that puts back."""
    acts_on_delete: bool = False
    """Whether rows change or go with the parent's, at once even if it is deferrable."""
    acts_on_update: bool = False
    temporal: bool = False
    """Whether it is one of periods, which several rows cover together."""
    nullable: tuple[str, ...] = ()
    """Its columns that take NULL, with which it refers to nothing."""


class Kind(StrEnum):
    """What is done to a row."""

    DELETE = "delete"
    UPDATE = "update"
    INSERT = "insert"


@dataclass(slots=True, kw_only=True, eq=False)
class Operation:
    """One change of one row."""

    table: QualifiedName
    kind: Kind
    life: int
    """Which row of the plan it is about."""
    place: int
    """Where it stands in reverse order of time."""
    key: Row
    """By which the row is found; of an insert, the key that it gets."""
    now: Row
    """The row before, as far as it is known; empty for an insert."""
    then: Row
    """The row afterwards; empty for a delete."""
    set: Row = field(default_factory=dict)
    """What a statement writes."""
    ordered: bool = False
    """Whether it has to keep its place among those of its table."""
    together: bool = False
    """Whether it gives the row another key at the same time as others of its table."""


@dataclass(slots=True)
class Batch:
    """Operations that one statement does: of one table, of one kind, with the same columns."""

    operations: list[Operation]
    in_order: bool = False
    """Whether it does them one after the other, not all at once."""

    @property
    def table(self) -> QualifiedName:
        """The table of all of them."""
        return self.operations[0].table

    @property
    def kind(self) -> Kind:
        """The kind of all of them."""
        return self.operations[0].kind


def in_batches(
    operations: Iterable[Operation],
    references: Sequence[Reference],
    keys: dict[QualifiedName, tuple[str, ...]],
    loose: dict[QualifiedName, tuple[str, ...]] | None = None,
    quiet: Collection[QualifiedName] = (),
) -> list[Batch]:
    """The operations in an order in which they can be done, in as few statements as that allows.

    Of `loose` columns different texts can be equal values, as of citext. Rows come to `quiet` tables last:
    a trigger of another one may bring them.
    """
    ordered = sorted(operations, key=lambda o: o.place)
    graph = _Graph(ordered, loose or {})
    _chain_keys(graph, keys)
    _chain_ordered(graph)
    _chain_moves(graph)
    for reference in references:
        if reference.temporal:
            _chain_periods(graph, reference)
        else:
            _chain_reference(graph, reference)
    return graph.emit(keys, quiet)


@dataclass(slots=True)
class _Link:
    """Why one operation waits for another; with `loosen`, what could be NULL meanwhile."""

    loosen: tuple[str, ...] = ()
    hard: bool = True
    of_child: bool = False
    """Whether the columns are those of the operation that is waited for."""


class _Graph:
    def __init__(
        self, operations: list[Operation], loose: dict[QualifiedName, tuple[str, ...]]
    ) -> None:
        self.loose = loose
        self.nodes: list[Operation | None] = list(operations)  # None: a barrier
        self.waits: list[dict[int, _Link]] = [{} for _ in operations]
        self.waited: list[list[int]] = [[] for _ in operations]

    def add(self, node: Operation | None) -> int:
        self.nodes.append(node)
        self.waits.append({})
        self.waited.append([])
        return len(self.nodes) - 1

    def wait(self, later: int, earlier: int, link: _Link | None = None) -> None:
        if later == earlier:
            return
        link = link or _Link()
        there = self.waits[later].get(earlier)
        if there is None:
            self.waited[earlier].append(later)
        if there is None or link.hard:
            self.waits[later][earlier] = link

    def of(self, table: QualifiedName) -> list[tuple[int, Operation]]:
        return [(i, o) for i, o in enumerate(self.nodes) if o is not None and o.table == table]

    def tables(self) -> list[QualifiedName]:
        return list(dict.fromkeys(o.table for o in self.nodes if o is not None))

    def emit(
        self, keys: dict[QualifiedName, tuple[str, ...]], quiet: Collection[QualifiedName]
    ) -> list[Batch]:
        """All batches; where operations wait for each other in a circle, with what opens it."""
        return _Emission(self, keys, quiet).run()


class _Emission:
    def __init__(
        self,
        graph: _Graph,
        keys: dict[QualifiedName, tuple[str, ...]],
        quiet: Collection[QualifiedName],
    ) -> None:
        self.graph = graph
        self.keys = keys
        self.quiet = quiet
        self.done: set[int] = set()
        self.left = {i: len(waits) for i, waits in enumerate(graph.waits)}
        self.ready = [self._ranked(i) for i, count in self.left.items() if not count]
        heapify(self.ready)
        self.batches: list[Batch] = []

    def run(self) -> list[Batch]:
        while len(self.done) < len(self.graph.nodes):
            if self.ready:
                self._next()
            else:
                self._open_circle()
        return self.batches

    def _ranked(self, index: int) -> tuple[bool, int]:
        """Whether it comes after all else that is ready, and its place."""
        operation = self.graph.nodes[index]
        is_last = (
            operation is not None
            and operation.kind is Kind.INSERT
            and operation.table in self.quiet
        )
        return is_last, index

    def _next(self) -> None:
        _, first = heappop(self.ready)
        if first in self.done:
            return
        operation = self.graph.nodes[first]
        if operation is None:
            self._finish([first])
        elif _is_in_order(operation):
            self._write_in_order(first)
        else:
            signature = _signature(operation)
            group, rest = [first], list[tuple[bool, int]]()
            for ranked in self.ready:
                other = self.graph.nodes[ranked[1]]
                if other is not None and _signature(other) == signature:
                    group.append(ranked[1])
                else:
                    rest.append(ranked)
            heapify(rest)
            self.ready = rest
            self._write(sorted(set(group) - self.done))

    def _write_in_order(self, first: int) -> None:
        """One statement for this update and those of its kind that can follow it at once."""
        run, following = [first], first
        signature = self._signature_of(first)
        while True:
            ready = self._finish([following])
            alike = [i for i in ready if self._signature_of(i) == signature]
            if not alike:
                break
            following = min(alike)
            run.append(following)
        self.batches.append(Batch(self._operations(run), in_order=len(run) > 1))

    def _write(self, group: list[int]) -> None:
        self.batches.append(Batch(self._operations(group)))
        self._finish(group)

    def _operations(self, group: Iterable[int]) -> list[Operation]:
        return [o for o in (self.graph.nodes[i] for i in group) if o is not None]

    def _signature_of(self, index: int) -> object:
        operation = self.graph.nodes[index]
        return None if operation is None else _signature(operation)

    def _finish(self, group: Iterable[int]) -> list[int]:
        """Note what is done; what became ready by that, barriers stepped over."""
        found: list[int] = []
        finished = deque(group)
        self.done.update(finished)
        while finished:
            for later in self.graph.waited[finished.popleft()]:
                self.left[later] -= 1
                if self.left[later] or later in self.done:
                    continue
                if self.graph.nodes[later] is None:
                    self.done.add(later)
                    finished.append(later)
                else:
                    heappush(self.ready, self._ranked(later))
                    found.append(later)
        return found

    # -- circles ----------------------------------------------------------------------------------

    def _open_circle(self) -> None:
        stuck = [i for i in range(len(self.graph.nodes)) if i not in self.done]
        if not (self._as_one_statement(stuck) or self._without_reference(stuck)):
            free = self._loosened(stuck)
            if not free:
                self._write([i for i in stuck if self.graph.nodes[i] is not None][:1])

    def _unmet(self, index: int) -> dict[int, _Link]:
        return {i: k for i, k in self.graph.waits[index].items() if i not in self.done}

    def _as_one_statement(self, stuck: Sequence[int]) -> bool:
        """Rows of one table that refer to each other only come, or go, together."""
        groups: dict[object, set[int]] = defaultdict(set)
        for index in stuck:
            operation = self.graph.nodes[index]
            if operation is not None and operation.kind is not Kind.UPDATE:
                groups[_signature(operation)].add(index)
        for candidates in groups.values():
            group = set(candidates)
            while outside := {
                i for i in group if any(j not in group or k.hard for j, k in self._unmet(i).items())
            }:
                group -= outside
            if group:
                self._write(sorted(group))
                return True
        return False

    def _without_reference(self, stuck: Sequence[int]) -> bool:
        """A row comes without what it refers to, which is set once that is there."""
        for index in stuck:
            operation = self.graph.nodes[index]
            unmet = self._unmet(index)
            if operation is None or operation.kind is Kind.DELETE or not unmet:
                continue
            if any(link.hard or link.of_child or not link.loosen for link in unmet.values()):
                continue
            columns = {c for link in unmet.values() for c in link.loosen}
            later = {c: operation.set[c] for c in operation.set if c in columns}
            operation.set = operation.set | dict.fromkeys(later)
            key = {c: operation.then[c] for c in self.keys[operation.table]}
            completion = Operation(
                table=operation.table,
                kind=Kind.UPDATE,
                life=operation.life,
                place=operation.place,
                key=key,
                now=operation.then,
                then=operation.then,
                set=later,
            )
            added = self.graph.add(completion)
            for earlier in (*unmet, index):
                self.graph.wait(added, earlier)
            self.left[added] = len(self.graph.waits[added])
            self._write([index])
            return True
        return False

    def _loosened(self, stuck: Sequence[int]) -> bool:
        """A row that is to go refers to nothing before what it refers to goes."""
        for index in stuck:
            unmet = self._unmet(index)
            if not unmet or not all(k.of_child and k.loosen and not k.hard for k in unmet.values()):
                continue
            for child, link in unmet.items():
                operation = self.graph.nodes[child]
                if operation is None:
                    continue
                unset = Operation(
                    table=operation.table,
                    kind=Kind.UPDATE,
                    life=operation.life,
                    place=operation.place,
                    key=operation.key,
                    now=operation.now,
                    then=operation.now,
                    set=dict.fromkeys(link.loosen),
                )
                self.batches.append(Batch([unset]))
            self._write([index])
            return True
        return False


def _signature(operation: Operation) -> object:
    if operation.together:
        return operation.table, "together"
    columns = () if operation.kind is Kind.DELETE else tuple(operation.set)
    return operation.table, operation.kind, columns, _is_in_order(operation)


def _is_in_order(operation: Operation) -> bool:
    return operation.ordered and operation.kind is Kind.UPDATE


def _chain_keys(graph: _Graph, keys: dict[QualifiedName, tuple[str, ...]]) -> None:
    """What is done under one key is done in order, whichever row has it."""
    last: dict[tuple[QualifiedName, str], int] = {}
    for index, operation in enumerate(graph.nodes):
        if operation is None or operation.together or not keys[operation.table]:
            continue
        for row in (operation.now, operation.then):
            if not row:
                continue
            loose = graph.loose.get(operation.table, ())
            at = (operation.table, value_of(row, keys[operation.table], loose) or "")
            if at in last:
                graph.wait(index, last[at])
            last[at] = index


def _chain_ordered(graph: _Graph) -> None:
    """Where something is unique, updates keep their order, after deletes and before inserts of their time.

    A row that goes earlier, or comes later, than it did leaves fewer rows meanwhile, among which no
    value is there twice: so deletes wait for nothing, and nothing waits for inserts.
    """
    for table in graph.tables():
        gate: int | None = None
        deletes: list[int] = []
        for index, operation in graph.of(table):
            if not operation.ordered:
                continue
            if operation.kind is Kind.DELETE:
                deletes.append(index)
                continue
            if deletes:
                gate = _barrier(graph, deletes if gate is None else [*deletes, gate])
                deletes = []
            if gate is not None:
                graph.wait(index, gate)
            if operation.kind is Kind.UPDATE:
                gate = index


def _chain_moves(graph: _Graph) -> None:
    """Keys that rows exchange: first go the rows that leave, then all change, then rows come."""
    for table in graph.tables():
        own = graph.of(table)
        moves = [i for i, o in own if o.together]
        if not moves:
            continue
        before = _barrier(graph, [i for i, o in own if o.kind is Kind.DELETE])
        after = _barrier(graph, moves)
        for index in moves:
            graph.wait(index, before)
        for index, operation in own:
            if operation.kind is Kind.INSERT:
                graph.wait(index, after)


def _barrier(graph: _Graph, earlier: Iterable[int]) -> int:
    barrier = graph.add(None)
    for index in earlier:
        graph.wait(barrier, index)
    return barrier


# -- foreign keys ---------------------------------------------------------------------------------


def _chain_periods(graph: _Graph, reference: Reference) -> None:
    """Which rows cover a period, only their order tells: one after the other, as it was."""
    if reference.deferrable:
        return
    before: int | None = None
    for index, operation in enumerate(graph.nodes):
        if operation is None or operation.table not in (reference.parent, reference.child):
            continue
        if before is not None:
            graph.wait(index, before)
        before = index


def loose_columns(reference: Reference, loose: Mapping[QualifiedName, Collection[str]]) -> set[str]:
    """The columns of a foreign key, on both sides, of which different texts can be equal values."""
    of_parent, of_child = (loose.get(t, ()) for t in (reference.parent, reference.child))
    return {
        name
        for pair in zip(reference.parent_columns, reference.columns, strict=True)
        for name in pair
        if pair[0] in of_parent or pair[1] in of_child
    }


def _chain_reference(graph: _Graph, reference: Reference) -> None:
    loose = loose_columns(reference, graph.loose)
    parents = _moments(graph, reference.parent, reference.parent_columns, loose)
    if not parents:
        return
    children = _moments(graph, reference.child, reference.columns, loose)
    for value, refers in children.items():
        if value in parents:
            _chain_value(graph, reference, parents[value], refers)


_Moment = tuple[int, bool]
"""An operation, and whether it brings the value (or takes it away)."""


def _moments(
    graph: _Graph, table: QualifiedName, columns: Sequence[str], loose: Collection[str]
) -> dict[str, list[_Moment]]:
    found: dict[str, list[_Moment]] = defaultdict(list)
    for index, operation in graph.of(table):
        before, after = (value_of(row, columns, loose) for row in (operation.now, operation.then))
        if before == after:
            continue
        if before is not None:
            found[before].append((index, False))
        if after is not None:
            found[after].append((index, True))
    return found


def _chain_value(
    graph: _Graph, reference: Reference, parents: list[_Moment], children: list[_Moment]
) -> None:
    places = [index for index, _ in parents]
    needs = _Link(loosen=reference.nullable, hard=False)
    for index, comes in children:
        at = bisect_left(places, index)
        if not comes or reference.deferrable:
            continue
        if at and parents[at - 1][1]:
            graph.wait(index, parents[at - 1][0], needs)
        elif at < len(parents) and parents[at][1]:
            graph.wait(index, parents[at][0], needs)
    for number, (index, comes) in enumerate(parents):
        if not comes and _must_be_left(graph, index, reference):
            since = places[number - 1] if number else -1
            until = places[number + 1] if number + 1 < len(places) else len(graph.nodes)
            _wait_for_children(
                graph, reference, index, [c for c in children if since < c[0] < until]
            )


def _must_be_left(graph: _Graph, index: int, reference: Reference) -> bool:
    """Whether no row may refer to a parent when it goes, or gets another key."""
    operation = graph.nodes[index]
    if operation is not None and operation.kind is Kind.UPDATE:
        return not (reference.acts_on_update or reference.deferrable)
    return reference.acts_on_delete or not reference.deferrable


def _wait_for_children(
    graph: _Graph, reference: Reference, index: int, children: list[_Moment]
) -> None:
    came: set[int] = set()
    for child, arrives in children:
        operation = graph.nodes[child]
        if operation is None or child == index:
            continue
        if arrives and child > index:
            came.add(operation.life)
        elif not arrives and operation.life not in came:
            graph.wait(index, child, _Link(loosen=reference.nullable, hard=False, of_child=True))


def value_of(row: Row, columns: Sequence[str], loose: Collection[str] = ()) -> str | None:
    """Columns of a row as text that is the same for the same values; None where one is NULL.

    Of `loose` columns it is the same also for values that differ in case and accents only.
    """
    values = [row.get(column) for column in columns]
    if not row or any(value is None for value in values):
        return None
    pairs = zip(columns, values, strict=True)
    return exact_json.dumps([_folded(value) if c in loose else _plain(value) for c, value in pairs])


def _folded(value: Json) -> Json:
    text = value if isinstance(value, str) else exact_json.dumps(value)
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in parts if not unicodedata.combining(c)).casefold()


def _plain(value: Json) -> Json:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
