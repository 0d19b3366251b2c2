"""The next batch is read while the sink has the one before, and nothing counts before it is confirmed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import psycopg
import pytest

from audit_toolkit.stream import Message, Outcome, Terms
from audit_toolkit.stream.read_ahead import Ahead
from audit_toolkit.trail import Batch, Position
from audit_toolkit.trail.history.ordering import WINDOW
from tests.plugins.trail import Trail
from tests.stream.conftest import Instance
from tests.stream.delivery import Memory, deliver

EVENTS = 3 * WINDOW + 10


@dataclass
class Busy:
    """A sink that does something before it takes its first batch."""

    meanwhile: Callable[[], None]
    taken: list[int] = field(default_factory=list)

    def send(self, messages: Sequence[Message]) -> Outcome:
        if not self.taken:
            self.meanwhile()
        self.taken += [message.event.event_id for message in messages]
        return Outcome(done=len(messages))

    def close(self) -> None:
        pass


@pytest.fixture
def many(orders: Trail) -> Trail:
    orders.execute(f"insert into orders select n, 0 from generate_series(1, {EVENTS}) as n")
    return orders


def until(trail: Trail, condition: str, *values: object) -> None:
    """Wait until the server says so."""
    for _ in range(2000):
        if trail.execute(f"select {condition}", list(values))[0][0]:
            return
        time.sleep(0.02)
    raise AssertionError(f"never: {condition}")


def test_the_next_batch_is_read_while_the_sink_has_one(many: Trail) -> None:
    read = (
        "exists (select from pg_stat_activity where pid = %s and query_start > %s"
        " and state = 'idle' and query like '%%as old_row%%')"
    )
    rested: list[object] = []

    def meanwhile(message: Message) -> None:
        if message.event.event_id == WINDOW + 1:
            until(many, read, instance.connection.info.backend_pid, rested[0])

    sink = Memory(judge=meanwhile)
    instance = Instance(many, sink)
    instance.until(lambda step: step.event_id == WINDOW)  # its place is kept, nothing is under way
    rested += many.execute("select clock_timestamp()")[0]
    instance.until_idle()
    instance.close()
    assert sink.ids == list(range(1, EVENTS + 1))


def test_what_was_read_ahead_moves_no_place(many: Trail) -> None:
    sink = Memory(judge=lambda m: "error later" if m.event.event_id > WINDOW else None)
    instance = Instance(many, sink)
    instance.until(lambda step: step.error is not None)
    instance.close()
    assert many.execute("select event_id from audit.consumers") == [(WINDOW,)]
    again = Memory()
    deliver(many, again)
    assert again.ids == list(range(WINDOW + 1, EVENTS + 1))


def test_ending_does_not_wait_for_what_is_read(trail: Trail) -> None:
    """As where somebody presses Ctrl-C while a query waits for a lock."""
    trail.execute("select pg_advisory_lock(7)")
    connection = trail.database.connect()

    def batches() -> Generator[Batch, None, None]:
        yield Batch(position=Position(event_id=1, trail="audit", table=""))
        connection.execute("select pg_advisory_lock(7)")

    ahead = Ahead(connection, batches())
    assert ahead.take().position.event_id == 1
    ahead.begin()
    waits = "exists (select from pg_locks where pid = %s and not granted)"
    until(trail, waits, connection.info.backend_pid)
    ahead.close()
    assert connection.execute("select 1").fetchone() == (1,)


def test_a_lost_connection_is_an_error_and_loses_nothing(many: Trail) -> None:
    def meanwhile() -> None:
        many.execute("select pg_terminate_backend(%s)", [instance.connection.info.backend_pid])

    instance = Instance(many, Busy(meanwhile))
    with pytest.raises(psycopg.OperationalError):
        instance.until_idle()
    instance.close()
    again = Memory()
    deliver(many, again, terms=Terms(batch=300))
    assert again.ids == list(range(1, EVENTS + 1))
