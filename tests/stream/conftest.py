"""A shop whose orders are audited, and sinks that remember or fail as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from audit_toolkit import stream
from audit_toolkit.stream import FormatName, Progress, Terms
from audit_toolkit.stream.run import find_origin
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, v int)"


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders")
    return trail


class Instance:
    """A consumer that goes on, asked for steps by the test."""

    def __init__(self, trail: Trail, sink: Any, name: str = "c", **terms: Any) -> None:
        self.connection = trail.database.connect()
        form = stream.find_format(FormatName.EVENT, find_origin(self.connection, "audit"))
        self.steps = stream.run(self.connection, name, sink, form, Terms(**terms))

    def until_idle(self) -> None:
        for step in self.steps:
            if step.is_idle:
                return

    def until(self, wanted: Callable[[Progress], bool]) -> Progress:
        return next(step for step in self.steps if wanted(step))

    def close(self) -> None:
        self.steps.close()
        self.connection.close()


@pytest.fixture
def instance(orders: Trail) -> Iterator[Callable[..., Instance]]:
    made: list[Instance] = []

    def make(sink: Any, **more: Any) -> Instance:
        made.append(Instance(orders, sink, **more))
        return made[-1]

    yield make
    for each in made:
        with closing(each):
            pass
