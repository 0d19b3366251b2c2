"""A shop whose orders are audited, and sinks that remember or fail as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest

from audit_toolkit import stream
from audit_toolkit.stream import FormatName, Message, Outcome, Progress, Terms
from audit_toolkit.stream.run import find_origin
from tests.plugins.trail import Trail

ORDERS = "create table orders (id int primary key, v int)"


@pytest.fixture
def orders(trail: Trail) -> Trail:
    trail.execute(ORDERS)
    trail.audit("orders")
    return trail


@dataclass
class Memory:
    """A sink that remembers, and says of each message what `judge` says: None, "refused …" or "error …"."""

    judge: Callable[[Message], str | None] = lambda _: None
    taken: list[Message] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def send(self, messages: Sequence[Message]) -> Outcome:
        self.batches.append(len(messages))
        for place, message in enumerate(messages):
            verdict = self.judge(message)
            if verdict is not None:
                kind, _, reason = verdict.partition(" ")
                if kind == "error":
                    return Outcome(done=place, error=reason)
                return Outcome(done=place, refused=reason)
            self.taken.append(message)
        return Outcome(done=len(messages))

    def close(self) -> None:
        pass

    @property
    def ids(self) -> list[int]:
        return [message.event.event_id for message in self.taken]

    @property
    def rows(self) -> list[tuple[str, str | None]]:
        return [(message.event.action.value, message.event.row_key) for message in self.taken]


def deliver(
    trail: Trail, sink: Any, name: str = "c", terms: Terms | None = None, **more: Any
) -> list[Progress]:
    """Run a consumer until it has delivered everything."""
    from dataclasses import replace

    with trail.database.connect() as connection:
        form = stream.find_format(
            more.pop("body", FormatName.EVENT), find_origin(connection, "audit")
        )
        once = replace(terms or Terms(), once=True)
        return list(stream.run(connection, name, sink, form, once, sleep=lambda _: None, **more))


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
