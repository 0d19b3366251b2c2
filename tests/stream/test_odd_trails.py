"""What befalls the trail under a running consumer: partitions that leave, clocks that jump, keys without end."""

from __future__ import annotations

import hashlib
import json

import pytest

from audit_toolkit.stream import Message
from audit_toolkit.trail.history import follow
from audit_toolkit.trail.history.ordering import WINDOW
from tests.plugins.trail import Trail
from tests.stream.conftest import Instance
from tests.stream.delivery import Memory, deliver


def test_a_partition_that_leaves_meanwhile(orders: Trail) -> None:
    """What was not read yet has left the trail; the rest is delivered, and nothing is an error."""
    orders.execute(f"insert into orders select n, 0 from generate_series(1, {3 * WINDOW}) n")
    (leaf,) = orders.execute("select distinct tableoid::regclass::text from audit.logged_actions")[
        0
    ]

    def meanwhile(message: Message) -> None:
        if message.event.event_id == WINDOW:
            orders.execute(f"alter table audit.logged_actions detach partition {leaf}")
            orders.execute(f"drop table {leaf} cascade")
            orders.execute(
                "insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row, action_tstamp)"
                " values ('public', 'orders', 'I', '0', '{}', now() + '10 years')"
            )

    sink = Memory(judge=meanwhile)
    steps = deliver(orders, sink)
    last = 3 * WINDOW + 1
    assert sink.ids[:WINDOW] == list(range(1, WINDOW + 1))
    assert sink.ids == sorted(set(sink.ids))
    assert sink.ids[-1] == last
    assert not [step for step in steps if step.error]
    assert orders.execute("select event_id from audit.consumers") == [(last,)]


def test_clocks_that_jump(orders: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events go by their numbers, whatever the time: also those of a partition of long ago, a little later."""
    monkeypatch.setattr(follow, "ALL_LEAVES_AFTER", 0.2)
    sink = Memory()
    instance = Instance(orders, sink)
    orders.execute("insert into orders values (1, 0)")
    instance.until_idle()
    for shift in ("10 years", "-10 years", "1 hour", "-3 days"):
        orders.execute(
            "insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row, action_tstamp)"
            " values ('public', 'orders', 'I', '2', '{}', now() + %s::interval)",
            [shift],
        )
        instance.until(lambda step: step.delivered > 0)
    instance.close()
    assert sink.ids == [1, 2, 3, 4, 5]


def test_the_longest_key(trail: Trail) -> None:
    """An index of the trail takes no key of megabytes: its digest is delivered, and a shorter one as it is."""
    trail.execute("create table notes (id text primary key)")
    trail.audit("notes")
    record = "select audit.record_event('long', '{}', 'notes', %s)"
    too_long, key = "é" * 1_500_000, "é" * 1_000
    trail.execute(record, [too_long])
    trail.execute(record, [key])
    keys = [f"audit:sha256:{hashlib.sha256(too_long.encode()).hexdigest()}", key]
    sink = Memory()
    deliver(trail, sink)
    assert [message.key for message in sink.taken] == [f"public.notes:{each}" for each in keys]
    assert [json.loads(message.body)["row_key"] for message in sink.taken] == keys
