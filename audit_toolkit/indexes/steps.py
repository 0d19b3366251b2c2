"""The steps that repairs and builds are made of: their SQL, lock, wait, and what a failure leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from audit_toolkit.indexes.model import Constraint, Index
from audit_toolkit.names import MAX_NAME_BYTES, QualifiedName
from audit_toolkit.plan import Step, Wait
from audit_toolkit.templates import render_statements

_KINDS = {"p": "primary key", "u": "unique"}


def drop(index: Index, why: str) -> Step:
    """Drop an index that nothing relies on; running it again finishes an interrupted drop."""
    statements = _render("drop", index=index.name)
    return Step(
        why=f"Drop {index.name}: {why}",
        statements=statements,
        cleanup=statements,
        effect="nothing is left of it" + (", and writes are cheaper" if index.ready else ""),
        lock=_concurrent(index.table),
        wait=Wait.LONG,
        transactional=False,
    )


def rebuild(index: Index, taken: Collection[QualifiedName]) -> Step:
    """Build an index anew with its own definition, tablespace, comment and constraint.

    A failure leaves it as it was; `taken` are the names of the indexes that will be there.
    """
    copy = QualifiedName(index.name.schema, _free_name(index.name, "ccnew", taken))
    return Step(
        why=f"Rebuild {index.name} next to its unfinished version, then swap the two",
        statements=_render("reindex", index=index.name),
        effect="it is valid, and queries use it",
        lock=_concurrent(index.table),
        wait=Wait.LONG,
        transactional=False,
        cleanup=_render("drop", index=copy),
    )


def build(name: QualifiedName, table: QualifiedName, using: str, *, unique: bool) -> Step:
    """Build an index while writes go on; a failure leaves none."""
    return Step(
        why=f"Build {name}",
        statements=_render(
            "create", name=name.name, table=table, using=using, unique=unique, only=False
        ),
        effect=f"{table} has the index",
        lock=_concurrent(table),
        wait=Wait.LONG,
        transactional=False,
        cleanup=_render("drop", index=name),
    )


def frame(name: QualifiedName, table: QualifiedName, using: str, *, unique: bool) -> Step:
    """Declare the index on a partitioned table alone: new leaves get it, no leaf is read."""
    return Step(
        why=f"Declare {name} on {table}, without its partitions",
        statements=_render(
            "create", name=name.name, table=table, using=using, unique=unique, only=True
        ),
        effect="new partitions include the index; it becomes valid with the last partition",
        lock=f"SHARE on {table} for milliseconds",
    )


def attach(parent: QualifiedName, child: QualifiedName) -> Step:
    """Make an index part of the partitioned table's; a part already attached is checked again."""
    return Step(
        why=f"Attach {child} to {parent}",
        statements=_render("attach", parent=parent, index=child),
        effect=f"{parent} becomes valid once it has all its partitions",
        lock=f"ACCESS EXCLUSIVE on {child} only, for milliseconds",
    )


def add_constraint(name: QualifiedName, table: QualifiedName, constraint: Constraint) -> Step:
    """Turn a built unique index into the constraint that the partitioned table's index stands for."""
    statements = _render(
        "add_constraint",
        table=table,
        name=name.name,
        kind=_KINDS[constraint.kind],
        deferrable=constraint.deferrable,
        deferred=constraint.deferred,
    )
    return Step(
        why=f"Make {name} a constraint of {table}",
        statements=statements,
        effect="it can be attached to the constraint of the partitioned table",
        lock=f"ACCESS EXCLUSIVE on {table} for milliseconds",
    )


def leaf_name(
    index: QualifiedName,
    table: QualifiedName,
    leaf: QualifiedName,
    taken: Collection[QualifiedName],
) -> QualifiedName:
    """A free name for a leaf's index: `logged_actions_row_idx` becomes `logged_actions_2026_11_row_idx`."""
    rest = (
        index.name.removeprefix(table.name)
        if index.name.startswith(table.name)
        else f"_{index.name}"
    )
    wish = _fitting(leaf.name + rest)
    number = 0
    while QualifiedName(leaf.schema, wish) in taken:
        number += 1
        wish = _fitting(f"{leaf.name}{rest}_{number}")
    return QualifiedName(leaf.schema, wish)


def _fitting(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{_cut(name, MAX_NAME_BYTES - 9)}_{digest}"


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")


def _free_name(name: QualifiedName, suffix: str, taken: Collection[QualifiedName]) -> str:
    """The name that REINDEX CONCURRENTLY gives its copy (ChooseRelationName in PostgreSQL)."""
    number = ""
    while True:
        ending = f"_{suffix}{number}"
        found = _cut(name.name, MAX_NAME_BYTES - len(ending)) + ending
        if QualifiedName(name.schema, found) not in taken:
            return found
        number = str(int(number or 0) + 1)


def _concurrent(table: QualifiedName) -> str:
    return f"SHARE UPDATE EXCLUSIVE on {table}: reads and writes go on"


def _render(template: str, **values: object) -> tuple[str, ...]:
    return tuple(render_statements(f"indexes/{template}", **values))
