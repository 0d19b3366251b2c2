"""The arms that are compared: nothing, the limit written by hand, other tools, and ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from audit_toolkit.capture import check_rule, plan_capture
from audit_toolkit.catalog import read_relations, read_table, resolve
from audit_toolkit.config import Capture, Mask, MaskMethod, Store, TableRule, TrailSettings
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from benchmarks.backend import Backend, read_sql
from benchmarks.peers import auditrum, pghistory, postgresql_audit
from benchmarks.peers.folder import found_in
from benchmarks.shapes import COMPOSITE, NARROW, ORDERS, VARIED, WIDE, Shape

CONTEXT = (
    """perform set_config('audit.context', '{"actor": "user:42", "request_id": "abc-123"}', true)"""
)
NO_CONTEXT = "perform 0"


class Kind(StrEnum):
    """What an arm is in the comparison."""

    FLOOR = "floor"
    LIMIT = "limit"
    PEER = "peer"
    OURS = "ours"


class ByHand(StrEnum):
    """How the events are written that no trigger writes: one INSERT a row, or one for all."""

    ROW = "row"
    STATEMENT = "statement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of auditing a table."""

    name: str
    words: str
    kind: Kind
    install: Callable[[str], None]
    """Gets the address of a database that has the table `orders`."""
    context: str = CONTEXT
    """What a transaction says first of itself, in PL/pgSQL."""
    by_hand: ByHand | None = None
    shape: Shape = ORDERS
    by_statement: bool = False
    whole_rows: bool = True
    """Whether the old row and the new one can be had from one event."""


def _nothing(_: str) -> None:
    """No audit at all."""


def _script(name: str) -> Callable[[str], None]:
    def install(dsn: str) -> None:
        with Backend(dsn) as backend:
            backend.run(read_sql(name))

    return install


def _trail(dsn: str) -> None:
    with Backend(dsn) as backend:
        apply(plan_trail(TrailSettings()), backend.connection)


def _ours(rule: TableRule) -> Callable[[str], None]:
    def install(dsn: str) -> None:
        _trail(dsn)
        with Backend(dsn) as backend:
            relations = read_relations(backend.connection)
            table = read_table(backend.connection, resolve("orders", relations))
            apply(plan_capture(check_rule(table, rule), "audit"), backend.connection)

    return install


_MASKS = (Mask(column="email", method=MaskMethod.SHA256), Mask(column="note"))
_STATEMENT = TableRule(capture=Capture.STATEMENT)

NONE = Arm(name="none", words="no audit", kind=Kind.FLOOR, install=_nothing, context=NO_CONTEXT)
EMPTY = Arm(
    name="empty",
    words="a row trigger that does nothing",
    kind=Kind.FLOOR,
    install=_script("empty"),
    context=NO_CONTEXT,
)
HAND_ROW = Arm(
    name="by hand, row",
    words="our INSERT a row, by hand: what an event costs without a trigger",
    kind=Kind.LIMIT,
    install=_trail,
    by_hand=ByHand.ROW,
)
HAND_STATEMENT = Arm(
    name="by hand, statement",
    words="our INSERT ... SELECT by hand, old rows kept beforehand",
    kind=Kind.LIMIT,
    install=_trail,
    by_hand=ByHand.STATEMENT,
    by_statement=True,
)
CLASSIC = Arm(
    name="classic",
    words="generic trigger in the style of the PostgreSQL wiki, rows as text",
    kind=Kind.PEER,
    install=_script("classic"),
    context=NO_CONTEXT,
)
AUDITRUM = Arm(
    name="auditrum",
    words="auditrum, its defaults",
    kind=Kind.PEER,
    install=auditrum.install,
    context=auditrum.CONTEXT,
)
POSTGRESQL_AUDIT = Arm(
    name="postgresql-audit, row",
    words="postgresql-audit, row triggers",
    kind=Kind.PEER,
    install=postgresql_audit.install_row,
    context=postgresql_audit.CONTEXT,
)
POSTGRESQL_AUDIT_STATEMENT = Arm(
    name="postgresql-audit, statement",
    words="postgresql-audit, statement triggers (its default)",
    kind=Kind.PEER,
    install=postgresql_audit.install_statement,
    context=postgresql_audit.CONTEXT,
    by_statement=True,
)
PGHISTORY = Arm(
    name="pghistory, row",
    words="django-pghistory, row triggers (its default): typed columns, no old row",
    kind=Kind.PEER,
    install=pghistory.install_row,
    context=pghistory.CONTEXT,
    whole_rows=False,
)
PGHISTORY_STATEMENT = Arm(
    name="pghistory, statement",
    words="django-pghistory, statement triggers: typed columns, no old row",
    kind=Kind.PEER,
    install=pghistory.install_statement,
    context=pghistory.CONTEXT,
    whole_rows=False,
    by_statement=True,
)
ROW = Arm(name="ours, row", words="--capture row", kind=Kind.OURS, install=_ours(TableRule()))
STATEMENT = Arm(
    name="ours, statement",
    words="--capture statement",
    kind=Kind.OURS,
    install=_ours(_STATEMENT),
    by_statement=True,
)
CHANGES = Arm(
    name="ours, row, changes",
    words="--store changes",
    kind=Kind.OURS,
    install=_ours(TableRule(store=Store.CHANGES)),
)
CHANGES_STATEMENT = Arm(
    name="ours, statement, changes",
    words="--capture statement --store changes",
    kind=Kind.OURS,
    install=_ours(TableRule(capture=Capture.STATEMENT, store=Store.CHANGES)),
    by_statement=True,
)
DELTA = Arm(
    name="ours, row, delta",
    words="--store delta",
    kind=Kind.OURS,
    install=_ours(TableRule(store=Store.DELTA)),
)
MASKED = Arm(
    name="ours, row, masked",
    words="--mask email=sha256 --mask note",
    kind=Kind.OURS,
    install=_ours(TableRule(mask=_MASKS)),
)
MASKED_STATEMENT = Arm(
    name="ours, statement, masked",
    words="--capture statement --mask email=sha256 --mask note",
    kind=Kind.OURS,
    install=_ours(TableRule(capture=Capture.STATEMENT, mask=_MASKS)),
    by_statement=True,
)
EXCLUDED = Arm(
    name="ours, row, excluded",
    words="--exclude note",
    kind=Kind.OURS,
    install=_ours(TableRule(exclude=("note",))),
)

WAL = Arm(
    name="ours, wal",
    words="--capture wal: what the worker takes is not in the write",
    kind=Kind.OURS,
    install=_ours(TableRule(capture=Capture.WAL)),
)
"""Needs a server with wal_level = logical, so that it is measured alone."""

MAIN = (
    NONE,
    EMPTY,
    HAND_ROW,
    HAND_STATEMENT,
    CLASSIC,
    AUDITRUM,
    POSTGRESQL_AUDIT,
    POSTGRESQL_AUDIT_STATEMENT,
    PGHISTORY,
    PGHISTORY_STATEMENT,
    ROW,
    STATEMENT,
    CHANGES,
    CHANGES_STATEMENT,
    DELTA,
    MASKED,
    MASKED_STATEMENT,
    EXCLUDED,
)
"""All on the table of ten columns."""


def from_folder(folder: Path) -> tuple[Arm, ...]:
    """The tools of plain SQL that are in a folder, on the table of ten columns."""
    return tuple(
        Arm(
            name=name,
            words=f"{name}, its defaults",
            kind=Kind.PEER,
            install=install,
            context=NO_CONTEXT,
            whole_rows=name != "pgMemento",  # of an update it keeps the old values of what changed
        )
        for name, install in found_in(folder)
    )


def on_shape(arm: Arm, shape: Shape) -> Arm:
    """The same arm on another table."""
    return replace(
        arm, name=f"{arm.name} ({shape.name})", words=f"{arm.words}; {shape.words}", shape=shape
    )


SHAPES = tuple(
    on_shape(arm, shape)
    for shape in (NARROW, WIDE, VARIED, COMPOSITE)
    for arm in (NONE, CLASSIC, ROW, STATEMENT, *((DELTA,) if shape in (WIDE, VARIED) else ()))
)
"""The arms that take any table, on the other ones."""
