"""Rows that came and went: nothing to put back of them, unless others referred to them meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from audit_toolkit.names import QualifiedName
from audit_toolkit.trail.revert.operations import Choice
from audit_toolkit.trail.revert.ordering import Operation, Reference, loose_columns, value_of
from audit_toolkit.trail.revert.reversal import Reversal
from audit_toolkit.trail.revert.targets import RevertTarget, read_present

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def find_missed(
    passing: Sequence[Reversal],
    operations: Sequence[Operation],
    homes: dict[QualifiedName, RevertTarget],
    references: Sequence[Reference],
) -> list[Reversal]:
    """The rows that came and went and that operations refer to on their way back: they come and go again."""
    of_table: dict[QualifiedName, list[Reversal]] = defaultdict(list)
    for reversal in passing:
        of_table[reversal.table].append(reversal)
    found: dict[int, Reversal] = {}
    for reference in references:
        own = of_table.get(reference.parent, [])
        if not own or reference.deferrable or reference.child not in homes:
            continue
        loose = loose_columns(reference, {table: home.loose for table, home in homes.items()})
        values = {
            value_of(operation.then, reference.columns, loose)
            for operation in operations
            if operation.table == reference.child
        } - {None}
        for reversal in own:
            images = (row for event in reversal.life for row in (event.old_row, event.row_after))
            if any(value_of(r, reference.parent_columns, loose) in values for r in images if r):
                found[id(reversal)] = reversal
    return list(found.values())


def with_free_keys(
    connection: Connection,
    reversals: Sequence[Reversal],
    operations: Sequence[Operation],
    homes: dict[QualifiedName, RevertTarget],
) -> Iterable[Choice]:
    """Those of the rows that came and went whose key no other row has now, or that gives it back on its way."""
    for table in dict.fromkeys(reversal.table for reversal in reversals):
        home = homes.get(table)
        if home is None or not home.table.key:
            continue
        own = [reversal for reversal in reversals if reversal.table == table]
        moves = (
            [home.key_of(row) for row in (o.now, o.then)] for o in operations if o.table == table
        )
        given_back = {now for now, then in moves if now != then}
        rows = read_present(connection, home, [reversal.key_values for reversal in own])
        for reversal, there in zip(own, rows, strict=True):
            if there is None or home.key_of(there) in given_back:
                yield Choice(reversal=reversal, present=None, as_left=True)
