"""The six operations, in SQL: each row by a statement of its own, or all rows by one."""

from __future__ import annotations

from enum import StrEnum

from benchmarks.arms import Arm, ByHand
from benchmarks.backend import Backend, Cost, read_sql
from benchmarks.shapes import Shape

WARM_UP = 20
"""Rows that are written and removed first, so that caches and plans are those of a working connection."""


class Operation(StrEnum):
    """What is done, in the order in which it is done."""

    INSERT1 = "insert1"
    UPDATE1 = "update1"
    DELETE1 = "delete1"
    INSERT_N = "insertN"
    UPDATE_N = "updateN"
    DELETE_N = "deleteN"

    @property
    def verb(self) -> str:
        """insert, update or delete."""
        return self.value.rstrip("1N")

    @property
    def each_row(self) -> bool:
        """Whether each row has a statement of its own."""
        return self.value.endswith("1")


def work(arm: Arm, operation: Operation, *, first: int, last: int) -> str:
    """The statement that does it for the rows of these numbers; the bulk ones take all there are."""
    statement = _each_row(arm, operation) if operation.each_row else _all_rows(arm, operation)
    return _fill(
        "each_row" if operation.each_row else "all_rows",
        context=arm.context,
        statement=statement.replace("count_of_rows", str(last)),
        first=str(first),
        last=str(last),
    )


def beforehand(arm: Arm, operation: Operation) -> str:
    """What has to be there before that statement and is no part of its cost; often nothing."""
    pairs = arm.by_hand is ByHand.STATEMENT and operation is Operation.UPDATE_N
    return read_sql("by_hand/keep_rows") if pairs else ""


def measure(arm: Arm, backend: Backend, rows: int) -> dict[Operation, Cost]:
    """All six, on an empty table, after a warm-up."""
    return [_all_operations(arm, backend, count) for count in (WARM_UP, rows)][1]


def _all_operations(arm: Arm, backend: Backend, rows: int) -> dict[Operation, Cost]:
    costs = {}
    for operation in Operation:
        if operation.verb == "insert":
            restart_numbers(backend, arm.shape)
        backend.run(beforehand(arm, operation))
        costs[operation] = backend.measure(work(arm, operation, first=1, last=rows), rows)
    return costs


def restart_numbers(backend: Backend, shape: Shape) -> None:
    """Let identity columns count from 1 again, so that a row's number is its id."""
    if any("identity" in type_ for _, type_ in shape.columns):
        backend.run("alter table orders alter id restart with 1")


def _each_row(arm: Arm, operation: Operation) -> str:
    shape = arm.shape
    statement = {
        "insert": f"insert into orders ({_columns(shape)}) values ({_values(shape)})",
        "update": f"update orders set {shape.update} where {shape.where}",
        "delete": f"delete from orders where {shape.where}",
    }[operation.verb]
    if arm.by_hand is None:
        return statement
    event = read_sql(f"by_hand/row_{operation.verb}").rstrip()
    return f"{statement} returning * into changed; {event}"


def _all_rows(arm: Arm, operation: Operation) -> str:
    shape = arm.shape
    statement = {
        "insert": f"insert into orders ({_columns(shape)}) select {_values(shape)}"
        " from generate_series(1, count_of_rows) as number",
        "update": f"update orders set {shape.update}",
        "delete": "delete from orders",
    }[operation.verb]
    if arm.by_hand is None:
        return statement
    events = _events_by_hand(arm.by_hand, operation.verb)
    first, second = (events, statement) if operation.verb == "delete" else (statement, events)
    return f"{first}; {second}"


def _events_by_hand(by_hand: ByHand, verb: str) -> str:
    event = read_sql(f"by_hand/{by_hand}_{verb}").rstrip()
    if by_hand is ByHand.ROW:
        return _fill("by_hand/each_changed", event=event)
    return _fill("by_hand/statement", events=event)


def _columns(shape: Shape) -> str:
    return ", ".join(column for column, _ in shape.insert)


def _values(shape: Shape) -> str:
    return ", ".join(value for _, value in shape.insert)


def _fill(name: str, **parts: str) -> str:
    text = read_sql(name).rstrip()
    for part, words in parts.items():
        text = text.replace("{" + part + "}", words)
    return text
