"""In which order rows of several tables are written, so that foreign keys hold: pure, no connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from audit_toolkit.names import QualifiedName


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A foreign key."""

    child: QualifiedName
    parent: QualifiedName
    deferrable: bool
    """Whether it is checked at the end of the transaction that puts back."""
    nullable: tuple[str, ...]
    """Its columns that take NULL, with which it refers to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Tables, parents first; and where they refer to each other in a circle, what can wait."""

    tables: tuple[QualifiedName, ...]
    open: dict[QualifiedName, tuple[str, ...]]
    """Columns that refer to a table further behind: NULL until the rows there are written."""


def parents_first(tables: Iterable[QualifiedName], references: Sequence[Reference]) -> Order:
    """The tables so that each comes behind those that it refers to.

    In a circle, the foreign keys that are deferrable do not count; if that is not enough, those neither
    that can be NULL at first. What is still a circle then could not have been filled either.
    """
    order = tuple(_ordered(list(tables), references, _DEGREES))
    places = {table: place for place, table in enumerate(order)}
    forward: dict[QualifiedName, tuple[str, ...]] = {}
    for r in references:
        inside = r.child in places and r.parent in places
        if inside and not r.deferrable and places[r.child] < places[r.parent]:
            forward[r.child] = tuple(dict.fromkeys((*forward.get(r.child, ()), *r.nullable)))
    return Order(tables=order, open=forward)


_Degree = Callable[[Reference], bool]
_DEGREES: tuple[_Degree, ...] = (
    lambda _: True,
    lambda r: not r.deferrable,
    lambda r: not r.deferrable and not r.nullable,
)


def _ordered(
    tables: list[QualifiedName], references: Sequence[Reference], degrees: Sequence[_Degree]
) -> Iterator[QualifiedName]:
    counted = [r for r in references if degrees[0](r)]
    for circle in _circles(tables, counted):
        if len(circle) == 1 or len(degrees) == 1:
            yield from circle
        else:
            yield from _ordered(circle, references, degrees[1:])


def _circles(
    tables: list[QualifiedName], references: Sequence[Reference]
) -> Iterator[list[QualifiedName]]:
    """The tables that refer to each other, each alone if there are none; parents first."""
    parents = {t: {r.parent for r in references if r.child == t} & set(tables) for t in tables}
    above = {table: _reached(table, parents) for table in tables}
    waiting = list(tables)
    while waiting:
        ready = next(
            t for t in waiting if all(t in above[p] for p in above[t] - {t} if p in waiting)
        )
        circle = [t for t in waiting if t == ready or t in above[ready]]
        yield circle
        waiting = [table for table in waiting if table not in circle]


def _reached(
    table: QualifiedName, parents: dict[QualifiedName, set[QualifiedName]]
) -> set[QualifiedName]:
    reached: set[QualifiedName] = set()
    asked = set(parents[table])
    while asked:
        reached |= asked
        asked = {p for t in asked for p in parents[t]} - reached
    return reached
