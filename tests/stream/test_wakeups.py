"""One consumer looks often and wakes the others; none depends on it."""

from __future__ import annotations

from collections.abc import Callable

from audit_toolkit.stream.wakeups import SHORT_WAIT, Pump
from tests.plugins.trail import Trail
from tests.stream.conftest import Instance
from tests.stream.delivery import Memory

LONG = 60.0
"""What nobody waits for in a test: a notification comes before."""


def pump(trail: Trail) -> Pump:
    return Pump(trail.database.connect(), "audit")


def test_one_leads_and_wakes_the_others(trail: Trail) -> None:
    first, second, third = pump(trail), pump(trail), pump(trail)
    for each in (first, second, third):
        each.wait(0)
    assert [each.leads for each in (first, second, third)] == [True, False, False]
    assert second.pause(LONG) == SHORT_WAIT, "nobody has woken it yet"
    first.found(7)
    for each in (second, third):
        each.wait(LONG)
        each.found(7)
        assert each.is_woken
        assert each.pause(LONG) == LONG
    assert first.pause(LONG) == SHORT_WAIT


def test_who_is_not_woken_looks_often_again(trail: Trail) -> None:
    first, second = pump(trail), pump(trail)
    for each in (first, second):
        each.wait(0)
    first.found(7)
    second.wait(LONG)
    second.wait(0)
    second.found(8)  # by itself
    assert second.pause(LONG) == SHORT_WAIT


def test_another_one_leads_when_it_rests_or_is_gone(trail: Trail) -> None:
    first, second, third = pump(trail), pump(trail), pump(trail)
    first.wait(0)
    first.rest()
    second.wait(0)
    assert (first.leads, second.leads) == (False, True)
    trail.execute("select pg_terminate_backend(%s, 60000)", [second._connection.info.backend_pid])
    third.wait(0)
    assert third.leads


def test_trails_do_not_know_each_other(trail: Trail) -> None:
    first, second = pump(trail), Pump(trail.database.connect(), "other")
    for each in (first, second):
        each.wait(0)
    assert first.leads
    assert second.leads


def test_a_consumer_wakes_another(orders: Trail, instance: Callable[..., Instance]) -> None:
    sinks = Memory(), Memory()
    one, two = (instance(sink, name=str(n)) for n, sink in enumerate(sinks))
    for each in (one, two):
        each.until_idle()
        each.until_idle()
    listening = orders.database.connect()
    listening.execute("listen audit_stream")
    orders.execute("insert into orders values (1, 0)")
    one.until_idle()
    [told] = listening.notifies(timeout=LONG, stop_after=1)
    assert told.pid == one.connection.info.backend_pid
    two.until_idle()
    assert [sink.ids for sink in sinks] == [[1], [1]]
