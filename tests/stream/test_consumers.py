"""Consumers: each committed event at least once, in order per row, from a place that the database keeps."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_toolkit import stream
from audit_toolkit.errors import AuditError, BusyError, UsageError
from audit_toolkit.stream import AfterRefusal, Terms, Wanted
from audit_toolkit.stream.run import find_origin
from audit_toolkit.stream.sinks.base import clock, parse_address
from audit_toolkit.stream.sinks.webhook import open_sink
from audit_toolkit.trail import Action, Batch
from audit_toolkit.trail.history.events import events_there
from audit_toolkit.trail.history.follow import follow_subject
from tests.plugins.command import Audit
from tests.plugins.database import MakeDatabase
from tests.plugins.trail import Trail
from tests.stream.conftest import Instance
from tests.stream.delivery import Memory, deliver, insert
from tests.stream.servers import Request, http_server
from tests.trail.tails import all_ids, writer


@pytest.mark.parametrize(
    "change", ["delete from audit.consumers", "update audit.consumers set name = 'd'"]
)
def test_one_that_is_gone_says_so(
    orders: Trail, instance: Callable[..., Instance], change: str
) -> None:
    running = instance(Memory())
    running.until_idle()
    orders.execute(change)
    orders.execute("insert into orders values (1, 0)")
    with pytest.raises(AuditError, match="no longer in the database: it was dropped or renamed"):
        running.until_idle()


class TestPlace:
    def test_it_goes_on_where_it_was(self, orders: Trail) -> None:
        sink = Memory()
        insert(orders, 1, 2)
        deliver(orders, sink)
        assert sink.ids == [1, 2]
        deliver(orders, sink)
        insert(orders, 3)
        deliver(orders, sink)
        assert sink.ids == [1, 2, 3]
        [consumer] = stream.read_consumers(orders.connection)
        assert (consumer.delivered, consumer.event_id, consumer.lag_events) == (3, 3, 0)

    def test_what_commits_late_is_waited_for(
        self, orders: Trail, instance: Callable[..., Instance]
    ) -> None:
        sink = Memory()
        late = writer(orders, "insert into orders values (1, 0)")
        insert(orders, 2)
        consumer = instance(sink)
        thread_safe_steps = iter(consumer.steps)
        late.commit()
        while not next(thread_safe_steps).is_idle:
            pass
        assert sink.rows == [("I", "1"), ("I", "2")]

    def test_nothing_is_missed_between_backfill_and_live(self, orders: Trail) -> None:
        """A consumer from now on has what commits later, with whatever number."""
        late = writer(orders, "insert into orders values (1, 0)")
        insert(orders, 2)
        newest = all_ids(orders)[-1]
        late.commit()
        sink = Memory()
        deliver(orders, sink, begin=None)
        assert sink.ids == []
        insert(orders, 3)
        deliver(orders, sink)
        assert sink.rows == [("I", "3")]
        behind = Memory()
        deliver(orders, behind, "other", begin=newest)
        assert [event_id > newest for event_id in behind.ids] == [True] * len(behind.ids)

    def test_from_a_time(self, orders: Trail) -> None:
        insert(orders, 1)
        orders.execute("select pg_sleep(0.01)")
        moment = datetime.now(UTC)
        insert(orders, 2)
        sink = Memory()
        deliver(orders, sink, terms=Terms(wanted=Wanted(since=moment)), begin=moment)
        assert sink.rows == [("I", "2")]

    def test_reset_and_drop(self, orders: Trail) -> None:
        insert(orders, 1, 2)
        sink = Memory()
        deliver(orders, sink)
        assert stream.reset(orders.connection, "c", 1) == 1
        deliver(orders, sink)
        assert sink.ids == [1, 2, 2]
        stream.drop(orders.connection, "c")
        with pytest.raises(UsageError, match="no consumer 'c'"):
            stream.find_consumer(orders.connection, "c")

    def test_a_place_on_another_server_or_timeline(self, orders: Trail) -> None:
        insert(orders, 1)
        sink = Memory()
        deliver(orders, sink)
        for change in ("system_identifier = '7'", "timeline = 99"):
            orders.execute(f"update audit.consumers set {change}")
            with pytest.raises(UsageError, match=r"the place of c|timeline"):
                deliver(orders, sink)
            stream.reset(orders.connection, "c", 1)
        deliver(orders, sink)

    def test_a_place_that_the_trail_has_not_reached(self, orders: Trail) -> None:
        """An older backup was put back, or the place was moved: what comes would be stepped over."""
        insert(orders, 1, 2)
        deliver(orders, Memory())
        orders.execute("update audit.consumers set event_id = 99")
        with pytest.raises(UsageError, match="the place of c is event 99, and the newest of the "):
            deliver(orders, Memory())
        with pytest.raises(UsageError, match="no event 99 yet: the newest is 2"):
            stream.replay(orders.database.connect(), "orders", into=print, after=99)

    @pytest.mark.parametrize("column", ["database_oid", "trail_oid"])
    def test_a_copy_delivers_nothing_before_it_was_adopted(
        self, orders: Trail, audit: Audit, column: str
    ) -> None:
        insert(orders, 1)
        sink = Memory()
        deliver(orders, sink)
        orders.execute(f"update audit.home set {column} = 1")
        with pytest.raises(UsageError, match="restored or copied into this database"):
            deliver(orders, sink)
        audit("adopt", "--reason", "it goes on here", "--dsn", orders.database.dsn, code=0)
        insert(orders, 2)
        deliver(orders, sink)
        assert sink.rows[-1] == ("I", "2")
        assert sink.ids[0] not in sink.ids[1:]

    def test_ids_are_those_of_one_trail(
        self, orders: Trail, make_database: MakeDatabase, trail_template: str
    ) -> None:
        """Also beside the trail of another database of the server, with the same event ids."""
        insert(orders, 1)
        sink = Memory()
        deliver(orders, sink)
        event, other = sink.taken[0].event, Trail(make_database(template=trail_template))
        ids = {find_origin(trail.connection).id_of(event) for trail in (orders, other)}
        assert len(ids) == 2
        assert all(one.isascii() and "-1-" in one for one in ids)
        again = replace(event, action_tstamp=event.action_tstamp + timedelta(microseconds=1))
        assert find_origin(orders.connection).id_of(again) not in ids  # the number was given twice


class TestOneInstance:
    def test_a_second_one_waits_and_takes_over(
        self, orders: Trail, instance: Callable[..., Instance]
    ) -> None:
        insert(orders, 1)
        first, second = Memory(), Memory()
        one = instance(first)
        one.until_idle()
        two = instance(second)
        assert two.until(lambda _: True).waits_for == one.connection.info.backend_pid
        with pytest.raises(BusyError):
            stream.reset(orders.connection, "c", 0)
        one.connection.close()
        insert(orders, 2)
        two.until_idle()
        assert (first.ids, second.ids) == ([1], [2])

    def test_who_lost_the_lease_changes_nothing(
        self, orders: Trail, instance: Callable[..., Instance]
    ) -> None:
        one = instance(Memory())
        one.until_idle()
        orders.execute("update audit.consumers set lease = gen_random_uuid()")
        insert(orders, 1)
        with pytest.raises(BusyError, match="has taken over"):
            one.until_idle()
        assert stream.find_consumer(orders.connection, "c").event_id == 0

    def test_one_that_was_paused_in_a_batch_posts_nothing_more(
        self,
        orders: Trail,
        instance: Callable[..., Instance],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        insert(orders, 1, 2, 3)
        later, other = 0.0, Memory()

        def replaced(_: Request) -> int:
            nonlocal later
            later = 60.0  # so long it stands still, and its session ends
            orders.execute("select pg_terminate_backend(%s)", [one.connection.info.backend_pid])
            two = instance(other)
            two.until_idle()
            two.close()
            return 204

        for module in ("run", "sinks.webhook"):
            stands = sys.modules[f"audit_toolkit.stream.{module}"]
            monkeypatch.setattr(stands, "clock", lambda: clock() + later)
        with http_server() as receiver, closing(open_sink(parse_address(receiver.url))) as sink:
            receiver.answer = replaced
            one = instance(sink)
            with pytest.raises(psycopg.OperationalError):
                one.until_idle()
        assert (len(receiver.requests), other.ids) == (1, [1, 2, 3])

    def test_a_squatter_of_the_lock_keeps_nobody_out(self, orders: Trail) -> None:
        insert(orders, 1)
        deliver(orders, Memory())
        [(lock_key,)] = orders.execute("select lock_key from audit.consumers")
        squatter = orders.database.connect()
        squatter.execute("select pg_advisory_lock(%s)", [lock_key])
        sink = Memory()
        insert(orders, 2)
        deliver(orders, sink)
        assert sink.ids == [2]
        assert orders.execute("select lock_key from audit.consumers") != [(lock_key,)]

    def test_another_one_takes_over_from_a_killed_one(self, orders: Trail, tmp_path: Path) -> None:
        insert(orders, 1)
        command = [sys.executable, "-m", "audit_toolkit", "stream", "run", "c"]
        files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
        environment = {**os.environ, "AUDIT_DATABASE_URL": orders.database.dsn}
        running = []
        try:
            for file in files:
                running.append(
                    subprocess.Popen(
                        [*command, "--to", f"file:{file}"],
                        env=environment,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
                if file is not files[-1]:
                    _until(partial(_has_lines, file, 1))
            assert running[1].stderr is not None
            assert "another instance of c is delivering" in running[1].stderr.readline()
            running[0].send_signal(signal.SIGKILL)
            running[0].wait()
            insert(orders, 2)
            _until(partial(_has_lines, files[1], 1))
        finally:
            for process in running:
                process.kill()
                process.communicate()


class TestFilters:
    def test_by_table_action_actor_context_and_column(self, orders: Trail) -> None:
        orders.execute("create table stock (id int primary key)")
        orders.audit("stock")
        orders.execute("insert into stock values (9)")
        insert(orders, 1)
        with orders.database.connect(autocommit=False) as connection:
            connection.execute(
                'select set_config(\'audit.context\', \'{"actor": "ann", "tenant": "eu"}\', true)'
            )
            connection.execute("update orders set v = 5")
            connection.execute("delete from stock")
            connection.commit()
        for wanted, expected in (
            (Wanted(), "IIUD"),
            (Wanted(tables=("orders",)), "IU"),
            (Wanted(actions=frozenset({Action.INSERT})), "II"),
            (Wanted(actor="ann"), "UD"),
            (Wanted(context=(("tenant", "eu"),), tables=("stock",)), "D"),
            (Wanted(changed="v"), "IU"),
        ):
            sink = Memory()
            deliver(orders, sink, str(wanted)[:60] + expected, Terms(wanted=wanted))
            assert "".join(action for action, _ in sink.rows) == expected

    def test_a_column_is_followed_to_its_new_name(self, orders: Trail) -> None:
        orders.execute("create table stock (id int primary key, v int)")
        orders.audit("stock")
        insert(orders, 1)
        orders.execute("insert into stock values (1, 1); update orders set v = 5")
        orders.execute("alter table orders rename v to w; update orders set w = 6")
        for column, expected in (("w", "IUU"), ("v", "I")):
            sink = Memory()
            wanted = Wanted(tables=("orders", "stock"), changed=column)
            deliver(orders, sink, column, Terms(wanted=wanted))
            assert "".join(action for action, _ in sink.rows) == expected

    def test_a_table_is_followed_to_its_new_name(
        self, orders: Trail, instance: Callable[..., Instance]
    ) -> None:
        sink = Memory()
        one = instance(sink, wanted=Wanted(tables=("orders",)))
        insert(orders, 1)
        one.until_idle()
        orders.execute("alter table orders rename to sales")
        orders.execute("create table orders (id int primary key)")
        orders.audit("orders")
        orders.execute("insert into orders values (5)")
        orders.execute("insert into sales values (2, 0)")
        one.until_idle()
        assert [m.event.table_name for m in sink.taken if m.event.action is Action.INSERT] == [
            "orders",
            "sales",
        ]

    def test_a_table_that_is_not_there(self, orders: Trail) -> None:
        with pytest.raises(UsageError, match="nowhere"):
            deliver(orders, Memory(), terms=Terms(wanted=Wanted(tables=("nowhere",))))
        assert stream.read_consumers(orders.connection) == []


class TestFailure:
    def test_an_error_is_tried_again_and_nothing_overtakes(self, orders: Trail) -> None:
        insert(orders, 1, 2, 3)
        failed: list[int] = []

        def judge(message: stream.Message) -> str | None:
            if message.event.event_id == 2 and len(failed) < 3:
                failed.append(2)
                return "error out of order"
            return None

        sink = Memory(judge)
        steps = deliver(orders, sink)
        assert sink.ids == [1, 2, 3]
        assert [step.error for step in steps if step.error] == ["out of order"] * 3
        [consumer] = stream.read_consumers(orders.connection)
        assert (consumer.failures, consumer.last_error) == (0, "out of order")

    def test_what_is_refused_for_good_is_put_aside(self, orders: Trail, audit: Audit) -> None:
        insert(orders, 1, 2)
        orders.execute("update orders set v = 1 where id = 1")
        refused: set[int] = {1}
        sink = Memory(lambda m: "refused too large" if m.event.event_id in refused else None)
        deliver(orders, sink, terms=Terms(tries=3))
        assert sink.ids == [2, 3]
        [letter] = stream.read_letters(orders.connection, "c")
        assert (letter.event_id, letter.tries, letter.reason) == (1, 3, "too large")
        refused.clear()
        assert audit("stream", "dead-letters", "retry", "c").exit_code == 0
        deliver(orders, sink)
        assert sink.ids == [2, 3, 1]
        assert stream.read_letters(orders.connection, "c") == []

    def test_later_events_of_its_row_wait(self, orders: Trail) -> None:
        insert(orders, 1, 2)
        orders.execute("update orders set v = 1")
        refused: set[int] = {1}
        sink = Memory(lambda m: "refused no" if m.event.event_id in refused else None)
        terms = Terms(tries=2, after_refusal=AfterRefusal.HOLD)
        deliver(orders, sink, terms=terms)
        orders.execute("update orders set id = 7 where id = 1")
        orders.execute("update orders set v = 9 where id = 7")
        deliver(orders, sink, terms=terms)
        assert sink.rows == [("I", "2"), ("U", "2")]
        letters = stream.read_letters(orders.connection, "c")
        assert [(letter.event_id, letter.tries) for letter in letters] == [
            (1, 2),
            (3, 0),
            (5, 0),
            (6, 0),
        ]
        stream.retry_letters(orders.connection, "c", None)
        deliver(orders, sink, terms=terms)
        assert len(stream.read_letters(orders.connection, "c")) == 4
        refused.clear()
        stream.retry_letters(orders.connection, "c", None)
        insert(orders, 3)
        deliver(orders, sink, terms=terms)
        assert sink.ids == [2, 4, 1, 3, 5, 6, 7]

    @pytest.mark.parametrize("is_given_up", [False, True])
    def test_they_go_when_the_first_is_delivered_or_given_up(
        self, orders: Trail, is_given_up: bool
    ) -> None:
        insert(orders, 1, 2)
        orders.execute("update orders set id = 7 where id = 1")
        orders.execute("update orders set v = 1 where id = 7")
        refused: set[int] = {1}
        sink = Memory(lambda m: "refused no" if m.event.event_id in refused else None)
        terms = Terms(tries=1, batch=1, after_refusal=AfterRefusal.HOLD)
        deliver(orders, sink, terms=terms)
        stream.retry_letters(orders.connection, "c", [4])
        deliver(orders, sink, terms=terms)
        assert sink.ids == [2]  # none overtakes, not even one that somebody asks for
        stream.retry_letters(orders.connection, "c", None)
        deliver(orders, sink, terms=terms)
        assert sink.ids == [2]
        refused.clear()
        act = stream.forget_letters if is_given_up else stream.retry_letters
        act(orders.connection, "c", [1])
        deliver(orders, sink, terms=terms)
        assert sink.ids == ([2, 3, 4] if is_given_up else [2, 1, 3, 4])
        assert stream.read_letters(orders.connection, "c") == []

    def test_the_events_of_those_that_wait_are_not_read_again(
        self, orders: Trail, instance: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There may be very many, and each later event of their rows changes what there is."""
        module = sys.modules["audit_toolkit.stream.run"]
        read: list[int] = []

        def counted(connection: Any, selection: Any, **more: Any) -> Any:
            read.extend(selection.event_ids)
            return events_there(connection, selection, **more)

        monkeypatch.setattr(module, "events_there", counted)
        monkeypatch.setattr(module, "NOTE_EVERY", 0.0)
        monkeypatch.setattr(module, "LOOK_SHARE", 0.0)
        insert(orders, 1, 2)
        sink = Memory(lambda m: "refused no" if m.event.event_id == 1 else None)
        one = instance(sink, tries=1, after_refusal=AfterRefusal.HOLD)
        for value in range(1, 5):
            orders.execute("update orders set v = %s, id = id + 10", [value])
            one.until_idle()
        assert read == []
        stream.forget_letters(orders.connection, "c", [1])
        one.until_idle()
        assert sink.ids == [2, 4, 6, 8, 10, 3, 5, 7, 9]
        assert read == [3, 5, 7, 9]

    def test_the_reason_stays_where_it_comes_again(self, orders: Trail) -> None:
        """As after a crash between the dead letter and the new place."""
        insert(orders, 1)
        terms = Terms(tries=1, after_refusal=AfterRefusal.HOLD)
        for _ in range(2):
            deliver(orders, Memory(lambda _: "refused no"), terms=terms)
            orders.execute("update audit.consumers set event_id = 0")
        [letter] = stream.read_letters(orders.connection, "c")
        assert (letter.tries, letter.reason) == (1, "no")

    @pytest.mark.parametrize("after_refusal", AfterRefusal)
    def test_one_whose_event_has_left_the_trail_stays(
        self, orders: Trail, after_refusal: AfterRefusal
    ) -> None:
        insert(orders, 1)
        terms = Terms(tries=1, after_refusal=after_refusal)
        deliver(orders, Memory(lambda _: "refused no"), terms=terms)
        orders.execute(
            "alter table audit.logged_actions disable trigger user; delete from audit.logged_actions"
        )
        stream.retry_letters(orders.connection, "c", None)
        sink = Memory()
        deliver(orders, sink, terms=terms)
        assert sink.ids == []
        [letter] = stream.read_letters(orders.connection, "c")
        assert (letter.event_id, letter.is_due) == (1, True)

    @pytest.mark.parametrize("after_refusal", AfterRefusal)
    def test_they_go_where_it_never_catches_up(
        self,
        orders: Trail,
        instance: Callable[..., Instance],
        monkeypatch: pytest.MonkeyPatch,
        after_refusal: AfterRefusal,
    ) -> None:
        running = sys.modules["audit_toolkit.stream.run"]
        monkeypatch.setattr(running, "LETTERS_EVERY", 0)

        def never_idle(*what: Any, **more: Any) -> Iterator[Batch]:
            return (batch for batch in follow_subject(*what, **more) if batch.events)

        insert(orders, 0, 1)
        orders.execute("update orders set v = 1 where id = 0")
        deliver(
            orders,
            Memory(lambda message: "refused no" if message.event.row_key == "0" else None),
            terms=Terms(tries=1, after_refusal=after_refusal),
        )
        letters = stream.read_letters(orders.connection, "c")

        def more(message: stream.Message) -> None:
            if message.event.row_key != "0":
                orders.execute("update orders set v = v + 1 where id = 1")

        monkeypatch.setattr(running, "follow_subject", never_idle)
        orders.execute("update orders set v = v + 1 where id = 1")
        sink = Memory(more)
        busy = instance(sink, after_refusal=after_refusal)
        next(busy.steps)
        stream.retry_letters(orders.connection, "c", None)
        assert not any(step.is_idle for step in islice(busy.steps, 8))
        given = [one.event.event_id for one in sink.taken if one.event.row_key == "0"]
        assert given == [letter.event_id for letter in letters]
        assert stream.read_letters(orders.connection, "c") == []

    @pytest.mark.parametrize("after_refusal", AfterRefusal)
    def test_one_asked_for_while_others_go_is_not_lost(
        self, orders: Trail, after_refusal: AfterRefusal
    ) -> None:
        insert(orders, 1, 2)
        terms = Terms(tries=1, after_refusal=after_refusal)
        deliver(orders, Memory(lambda _: "refused no"), terms=terms)
        stream.retry_letters(orders.connection, "c", None)

        def judge(message: stream.Message) -> str | None:
            if message.event.event_id == 1:
                return "refused no"
            stream.retry_letters(orders.connection, "c", None)
            return None

        sink = Memory(judge)
        deliver(orders, sink, terms=terms)
        assert sink.ids == [2]
        [letter] = stream.read_letters(orders.connection, "c")
        assert (letter.event_id, letter.tries) == (1, 3)

    def test_a_batch_is_no_larger_than_asked_for(self, orders: Trail) -> None:
        insert(orders, *range(7))
        sink = Memory()
        deliver(orders, sink, terms=Terms(batch=3))
        assert sink.batches == [3, 3, 1]


class TestOpenTransactions:
    """With `--once` they are not waited for without end."""

    def test_one_that_stays_open_ends_the_run(self, orders: Trail) -> None:
        with orders.database.connect(autocommit=False) as other:
            other.execute("set application_name = 'night batch'")
            other.execute("insert into orders values (1, 1)")
            insert(orders, 2)
            sink = Memory()
            with pytest.raises(BusyError) as refused:
                deliver(orders, sink, terms=Terms(patience=0.1))
            pid = other.info.backend_pid
            assert f"the transaction of pid {pid} of postgres (night batch)" in str(refused.value)
            assert re.search(r", open since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", str(refused.value))
            assert sink.ids == []
            other.commit()
        deliver(orders, sink, terms=Terms(patience=0.1))
        assert sorted(sink.ids) == [1, 2]

    def test_the_command_says_who_and_ends_as_busy(self, orders: Trail, audit: Audit) -> None:
        run = ("stream", "run", "c", "--to", "file:out.jsonl", "--once")
        with orders.database.connect(autocommit=False) as other:
            other.execute("insert into orders values (1, 1)")
            insert(orders, 2)
            ran = audit(*run, "--give-up-after", "0.1")
            assert ran.exit_code == 5
            assert (
                f"error: not all events are certain after 0.1 seconds: the transaction of pid {other.info.backend_pid}"
                in ran.stderr
            )
            assert "hint: commit it or roll it back" in ran.stderr
        assert audit(*run).stderr == "c: 2 events delivered\n"

    def test_one_that_ends_in_time_is_waited_for(self, orders: Trail) -> None:
        other = orders.database.connect(autocommit=False)
        other.execute("insert into orders values (1, 1)")
        insert(orders, 2)
        sink = Memory()
        running = Instance(orders, sink, once=True, patience=60.0)
        with closing(other), closing(running):
            assert next(running.steps).delivered == 0
            other.commit()
            running.until_idle()
        assert sorted(sink.ids) == [1, 2]


class TestCommands:
    def test_run_list_lag(self, orders: Trail, audit: Audit, tmp_path: Path) -> None:
        insert(orders, 1, 2)
        ran = audit("stream", "run", "c", "--to", "file:out.jsonl", "--once", "--table", "orders")
        assert (ran.exit_code, ran.stderr) == (0, "c: 2 events delivered\n")
        assert (tmp_path / "out.jsonl").read_text().count("\n") == 2
        insert(orders, 3)
        listed = audit("stream", "list").stdout
        assert "c  not running  file:out.jsonl" in listed
        assert "2 events delivered, at event 2, 1 event and" in listed
        assert "1 event and" in audit("stream", "lag", "c").stdout
        metrics = audit("stream", "lag", "--format", "prometheus").stdout
        assert 'audit_stream_lag_events{consumer="c"} 1\n' in metrics
        assert audit("stream", "reset", "c", "--to", "beginning").exit_code == 0
        again = audit("stream", "run", "c", "--to", "file:out.jsonl", "--once")
        assert again.stderr == "c: 3 events delivered\n"
        assert audit("stream", "drop", "c").exit_code == 0
        assert "there are no consumers" in audit("stream", "list").stderr

    def test_dead_letters(self, orders: Trail, audit: Audit) -> None:
        insert(orders, 1, 2)
        deliver(orders, Memory(lambda _: "refused no such place"), terms=Terms(tries=1))
        listed = audit("stream", "dead-letters", "list", "c").stdout
        assert "event 1  public.orders 1" in listed
        assert "refused 1 time: no such place" in listed
        assert audit("stream", "dead-letters", "drop", "c", "--event", "9").exit_code == 2
        assert audit("stream", "dead-letters", "drop", "c", "--event", "1").exit_code == 0
        assert [letter.event_id for letter in stream.read_letters(orders.connection, "c")] == [2]
        found = audit("check")
        assert (found.exit_code, "dead_letters" in found.stdout) == (3, True)

    def test_check_finds_a_stuck_consumer(self, orders: Trail, audit: Audit) -> None:
        insert(orders, 1)
        deliver(orders, Memory())
        assert "consumer" not in audit("check").stdout
        orders.execute(
            "insert into audit.logged_actions (schema_name, table_name, action, row_key, action_tstamp)"
            " values ('public', 'orders', 'D', '1', now() - interval '1 hour')"
        )
        found = audit("check")
        assert found.exit_code == 3
        assert "consumer_stuck" in found.stdout
        assert "is not running, and is 1 events" in found.stdout

    @pytest.mark.parametrize(
        ("to", "message"),
        [
            ("nothing", "not a valid sink address"),
            ("ftp://x/y", "no sink handles ftp"),
            ("file:", "names no file"),
            ("file:/no/such/place/x", "cannot be written"),
            ("http://example.org/", "unencrypted"),
            ("python:nowhere:name", "cannot be imported"),
        ],
    )
    def test_addresses_that_are_none(self, audit: Audit, to: str, message: str) -> None:
        ran = audit("stream", "run", "c", "--to", to, "--once")
        assert ran.exit_code == 2
        assert message in ran.stderr


def test_replay_goes_on_behind_an_event_of_another_table(orders: Trail) -> None:
    insert(orders, 1)
    orders.execute("create table other (id int primary key)")
    orders.audit("other")
    orders.execute("insert into other values (1)")
    seen: list[int] = []
    with orders.database.connect() as connection:
        done = stream.replay(connection, "orders", into=lambda event: seen.append(event.event_id))
        insert(orders, 2)
        again = stream.replay(
            connection, "orders", into=lambda event: seen.append(event.event_id), after=done
        )
        for place in (-1, 1 << 70, again + 1):
            with pytest.raises(UsageError):
                stream.replay(connection, "orders", into=lambda _: None, after=place)
    assert (done, again, seen) == (2, 3, [1, 3])


def test_replay(orders: Trail) -> None:
    insert(orders, 1, 2)
    seen: list[int] = []
    reached = stream.replay(orders.connection, "orders", into=lambda e: seen.append(e.event_id))
    insert(orders, 3)
    stream.replay(
        orders.connection, "orders", into=lambda e: seen.append(e.event_id), after=reached
    )
    assert seen == [1, 2, 3]


def _has_lines(file: Path, number: int) -> bool:
    return file.exists() and file.read_text().count("\n") == number


def _until(what: Callable[[], bool]) -> None:
    for _ in range(1200):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")
