"""Capture from the WAL: the same events as by triggers, each once, whatever happens in between."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import psycopg
import pytest

from audit_toolkit.config import Capture, Mask, MaskMethod, Store, Truncate
from audit_toolkit.errors import BusyError, RuleError
from audit_toolkit.findings import FindingKind
from audit_toolkit.wal.health import capture_findings
from audit_toolkit.wal.slot import advance, peek
from tests.rendering.cases import ODD, ODD_NAME
from tests.wal.conftest import WalTrail

ORDERS = "create table orders (id int primary key, note text, total numeric)"

TYPES = """
    create type mood as enum ('sad', 'happy');
    create domain euro as numeric(10, 2) check (value >= 0);
    create type pair as (a int, b text);
    create table {} (
        id bigint primary key, flag boolean, small smallint, real_ real, double_ double precision,
        amount numeric, price euro, c char(5), v varchar(10), b bit(3), vb bit varying, raw bytea,
        j json, jb jsonb, d date, t time, tz timestamptz, ts timestamp, span interval, u uuid,
        net inet, mac macaddr, range_ int4range, times tstzrange, tags text[], grid int[], days date[],
        feeling mood, feelings mood[], both_ pair, place point, cash money, class regclass, single "char",
        search tsvector, "Wei""rd \\ name" text, prices euro[], empty_ text
    )"""
VALUES = r"""
    insert into {} values (
        9007199254740993, true, -3, 1.1, 'NaN', 1.00, 2.5, 'ab', 'x"y\z', '101', '0011', '\x00ff',
        '{{"b": 1.0, "a": "\u00e9 \"q\""}}', '{{"n": 1.10}}', '2026-01-02', '03:04:05.678',
        '2026-01-02 03:04:05.678+02', 'infinity', '1 mon -2 days 03:00', '00000000-0000-0000-0000-00000000000a',
        '10.0.0.1/8', '08:00:2b:01:02:03', '[1,5)', '["2026-01-01 00:00+02",)', '{{"a,b",null,"c\"d"}}',
        '{{{{1,2}},{{3,4}}}}', '{{2026-01-02}}', 'happy', '{{sad,happy}}', '(1,"x,""y")', '(1.5,2)', 12.5,
        'pg_class', 'z', 'fat cat', E'tab\tnew\nline', '{{1.5,2}}', '')"""


def both(trail: WalTrail, ddl: str, **rule: Any) -> None:
    """The same table twice: `by_row` with triggers, `by_wal` read from the WAL."""
    *before, table = ddl.split(";\n") if ";\n" in ddl else [ddl]
    for statement in before:
        trail.execute(statement)
    for name, capture in (("by_row", Capture.ROW), ("by_wal", Capture.WAL)):
        trail.execute(table.format(name))
        trail.audit(name, capture=capture, **rule)
    trail.read()


def run_both(trail: WalTrail, *statements: str) -> None:
    """Each statement on both tables."""
    for statement in statements:
        for name in ("by_row", "by_wal"):
            trail.execute(statement.format(name))


def same_events(trail: WalTrail) -> list[tuple[Any, ...]]:
    """The events of both tables, which are equal."""
    trail.read()
    found = trail.rows("by_wal")
    assert found == trail.rows("by_row")
    return found


def test_triggers_record_changes_until_the_worker_reads_them(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.execute("insert into orders values (1)")
    assert wal_trail.story() == [("I", "1")]

    wal_trail.read()
    wal_trail.execute("insert into orders values (2)")
    assert wal_trail.story() == [("I", "1"), ("M", None)]

    assert wal_trail.read() == 1
    assert wal_trail.read() == 0
    assert wal_trail.story() == [("I", "1"), ("M", None), ("I", "2")]
    coverage = wal_trail.events()[1]["new_row"]
    assert (coverage["capture"], coverage["assurance"]) == ("on", "wal")


def test_values_of_all_types_are_as_by_triggers(wal_trail: WalTrail) -> None:
    both(wal_trail, TYPES)
    run_both(
        wal_trail,
        VALUES,
        "update {} set small = null, j = null, tags = null, feeling = 'sad', amount = 1.000",
        "update {} set id = 7, empty_ = null",
        "insert into {} (id) values (8)",
        "delete from {} where id = 7",
        "truncate {}",
    )
    assert [event[:3] for event in same_events(wal_trail)] == [
        ("I", "9007199254740993", None),
        ("U", "9007199254740993", None),
        ("U", "7", "9007199254740993"),
        ("I", "8", None),
        ("D", "7", None),
        ("T", None, None),
    ]


@pytest.mark.parametrize(
    "rule",
    [
        {"exclude": ("secret",)},
        {"only": ("note",)},
        {
            "mask": (
                Mask(column="secret"),
                Mask(column="note", method=MaskMethod.SHA256),
                Mask(column="extra", method=MaskMethod.LENGTH),
            )
        },
        {"when": "note <> 'draft' and lower(secret) is not null"},
        {"store": Store.CHANGES},
        {"log_unchanged": True},
        {"store": Store.CHANGES, "exclude": ("secret",), "log_unchanged": True},
    ],
    ids="+".join,
)
def test_options_do_what_they_do_with_triggers(wal_trail: WalTrail, rule: dict[str, Any]) -> None:
    both(
        wal_trail,
        "create table {} (a int, b text, note text, secret text, extra text, primary key (a, b))",
        **rule,
    )
    run_both(
        wal_trail,
        "insert into {} values (1, 'x', 'draft', 's', 'e'), (2, 'y', 'z', null, null), (3, 'z', 'n', 's', 'e')",
        "update {} set secret = 'other'",
        "update {} set note = note",
        "update {} set note = 'draft', a = a + 10 where b = 'z'",
        "delete from {} where b <> 'y'",
    )
    assert same_events(wal_trail)


@pytest.mark.thorough
def test_a_table_of_very_many_columns_is_read(wal_trail: WalTrail) -> None:
    columns = ", ".join(f"c{number} int" for number in range(850))
    both(wal_trail, f"create table {{}} (id int primary key, tags text[], {columns})")
    run_both(
        wal_trail,
        "insert into {} (id, tags, c849) values (1, '{{a,null}}', 7)",
        "update {} set c0 = 2, c849 = null",
        "delete from {}",
    )
    assert [event[0] for event in same_events(wal_trail)] == [*"IUD"]


def test_odd_names_and_a_key_of_two_columns(wal_trail: WalTrail) -> None:
    wal_trail.execute(ODD)
    name = f'"Wei""rd.Schema".{ODD_NAME}'
    wal_trail.audit(name, capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute(f"insert into {name} values (E'a\\\\b', '\"'), ('', 'x')")
    wal_trail.execute(f"delete from {name} where \"select\" = 'x'")
    wal_trail.read()
    assert wal_trail.story()[1:] == [
        ("I", '["a\\\\b", "\\""]'),
        ("I", '["", "x"]'),
        ("D", '["", "x"]'),
    ]


def test_ddl_in_between_is_followed_in_its_place(wal_trail: WalTrail) -> None:
    both(wal_trail, "create table {} (id int primary key, note text, gone text, secret text)",
         mask=(Mask(column="secret"),))  # fmt: skip
    run_both(
        wal_trail,
        "insert into {} values (1, 'a', 'b', 's')",
        "alter table {} add column added date default '2026-01-01'",
        "insert into {} values (2, 'a', 'b', 's')",
        "alter table {} drop column gone",
        "update {} set note = 'c'",
        "alter table {} alter column note type jsonb using to_jsonb(note)",
        "update {} set added = null where id = 1",
    )
    events = same_events(wal_trail)
    assert len(events) == 5
    changes = wal_trail.execute(
        "select event_id, new_row ->> 'change' from audit.logged_actions where table_name = 'by_wal' order by 1"
    )
    assert [change for _, change in changes] == [
        "capture", None, "columns", None, None, None, None,
    ]  # fmt: skip


def test_a_hidden_column_stays_hidden_under_another_name(wal_trail: WalTrail) -> None:
    both(wal_trail, "create table {} (id int primary key, secret text)", exclude=("secret",))
    run_both(
        wal_trail, "alter table {} rename column secret to open", "insert into {} values (1, 's')"
    )
    assert [event[4] for event in same_events(wal_trail)] == ['{"id": 1}']


SWAP = (
    "alter table {} rename column secret to other",
    "alter table {} rename column note to secret",
    "alter table {} rename column other to note",
)


@pytest.mark.parametrize(
    "rule",
    [{"exclude": ("secret",)}, {"mask": (Mask(column="secret"),)}, {"only": ("note",)}],
    ids="+".join,
)
def test_rows_mean_what_columns_were_called_when_they_were_written(
    wal_trail: WalTrail, rule: dict[str, Any]
) -> None:
    both(
        wal_trail, "create table {} (gone int, id int primary key, secret text, note text)", **rule
    )
    run_both(
        wal_trail,
        "insert into {} values (0, 1, 'S', 'plain')",
        "update {} set note = 'plainer'",
        *SWAP,
        "insert into {} values (0, 2, 'S', 'plain')",
        *SWAP,
        "alter table {} drop column gone",
        "alter table {} add column later text default 'later'",
        "update {} set note = 'plain again'",
        "delete from {}",
    )
    assert "S" not in " ".join(str(event[3:]) for event in same_events(wal_trail))


def test_a_condition_is_judged_by_what_columns_were_called_then(wal_trail: WalTrail) -> None:
    both(
        wal_trail,
        "create table {} (id int primary key, secret text, note text)",
        exclude=("secret",),
        when="note <> 'draft' and secret is not null",
    )
    run_both(
        wal_trail,
        "insert into {} values (1, 's', 'draft'), (2, 's', 'note')",
        "alter table {} rename column secret to hidden",
    )
    assert [event[1] for event in same_events(wal_trail)] == ["2"]


@pytest.mark.parametrize("hides", [False, True], ids=["by the worker", "by the server"])
def test_a_key_is_followed_through_renames(wal_trail: WalTrail, hides: bool) -> None:
    rule, later = ({"exclude": (name,) if hides else ()} for name in ("v", "b"))
    both(wal_trail, "create table {} (a int, b int, v text, primary key (a, b))", **rule)
    run_both(
        wal_trail,
        "insert into {} values (1, 2, 'x')",
        "alter table {} rename a to c",
        "insert into {} values (3, 4, 'x')",
        "alter table {} rename b to a",
        "alter table {} rename v to b",
        "update {} set c = 5 where c = 3",
        "delete from {} where c = 1",
    )
    assert [event[1] for event in same_events(wal_trail)] == [
        "[1, 2]",
        "[3, 4]",
        "[5, 4]",
        "[1, 2]",
    ]
    wal_trail.audit("by_wal", capture=Capture.WAL, **later)
    assert "G" not in {event["action"] for event in wal_trail.events()}


def test_a_table_goes_on_under_a_new_name(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    for statement in (
        "insert into orders values (1)",
        "alter table orders rename to purchases",
        "insert into purchases values (2)",
    ):
        wal_trail.execute(statement)
    wal_trail.read()
    assert [(e["table_name"], e["action"], e["row_key"]) for e in wal_trail.events()] == [
        ("orders", "M", None),
        ("orders", "I", "1"),
        ("purchases", "M", None),
        ("purchases", "I", "2"),
    ]


def test_only_means_the_columns_that_it_named(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table orders (id int primary key, v text, secret text)")
    wal_trail.audit("orders", capture=Capture.WAL, only=("v",))
    wal_trail.read()
    wal_trail.execute("alter table orders rename v to w; alter table orders rename secret to v")
    wal_trail.execute("insert into orders values (1, 'a', 'hunter2')")
    wal_trail.read()
    assert [e["new_row"] for e in wal_trail.events() if e["action"] == "I"] == [{"id": 1, "w": "a"}]


def test_a_table_that_was_dropped_loses_nothing(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("insert into orders values (1)")
    wal_trail.execute("drop table orders")
    wal_trail.read()
    assert wal_trail.story() == [("M", None), ("I", "1"), ("M", None)]
    assert wal_trail.events()[-1]["new_row"]["change"] == "dropped"


def test_ids_go_by_commits_and_their_order_over_all_tables(wal_trail: WalTrail) -> None:
    for name in ("parents", "children"):
        wal_trail.execute(f"create table {name} (id int primary key)")
        wal_trail.audit(name, capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute(
        "begin; insert into parents values (1); insert into children values (1); insert into parents values (2);"
        "savepoint s; insert into parents values (3); rollback to s; insert into children values (2); commit"
    )
    wal_trail.read()
    (xid,) = {event["transaction_id"] for event in wal_trail.events() if event["action"] == "I"}
    assert xid
    assert [(e["table_name"], e["row_key"]) for e in wal_trail.events() if e["action"] == "I"] == [
        ("parents", "1"),
        ("children", "1"),
        ("parents", "2"),
        ("children", "2"),
    ]


def test_what_json_cannot_hold_is_recorded_by_its_size(wal_trail: WalTrail) -> None:
    wal_trail.execute("create table docs (id int primary key, doc json)")
    wal_trail.audit("docs", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute(r"""insert into docs values (1, '{"a": "\u0000"}'), (2, '{"a": 1}')""")
    wal_trail.read()
    first, second = (event["new_row"] for event in wal_trail.events()[1:])
    assert "bytes" in json.dumps(first["doc"], default=str)
    assert second == {"id": 2, "doc": {"a": 1}}


def test_a_condition_that_fails_lets_the_change_be_recorded(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL, when="1 / id > 0")
    wal_trail.read()
    wal_trail.execute("insert into orders values (0)")
    wal_trail.read()
    assert wal_trail.story() == [("M", None), ("I", "0")]


class Dying(psycopg.Cursor[Any]):
    """Cuts the connection before a statement, as kill -9 would."""

    left: ClassVar[int] = 0

    def execute(self, *args: Any, **options: Any) -> Any:
        self._die_perhaps()
        return super().execute(*args, **options)

    def copy(self, *args: Any, **options: Any) -> Any:
        self._die_perhaps()
        return super().copy(*args, **options)

    def _die_perhaps(self) -> None:
        Dying.left -= 1
        if Dying.left < 0:
            self.connection.pgconn.finish()
            raise psycopg.OperationalError("killed")


def test_each_change_is_recorded_once_wherever_the_worker_is_killed(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    key, is_killed = 0, True
    for budget in range(200):
        key += 1
        wal_trail.execute(f"insert into orders values ({key}, 'a'), ({-key}, 'b')")
        Dying.left = budget
        worker = wal_trail.worker(cursor_factory=Dying)
        try:
            worker.start(wait=True)
            worker.turn()
            is_killed = False
        except psycopg.OperationalError:
            pass
        worker.reader.close()
        worker.writer.close()
        if not is_killed:
            break
    wal_trail.read()
    assert not is_killed
    keys = [int(event["row_key"]) for event in wal_trail.events() if event["action"] == "I"]
    assert keys == [each for number in range(1, key + 1) for each in (number, -number)]


def test_what_commits_when_the_reading_has_begun_keeps_its_transaction(
    wal_trail: WalTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()

    def written_first(*arguments: Any, **options: Any) -> Any:
        if not written:
            for key in (1, 2):
                (row,) = wal_trail.execute(
                    f"insert into orders values ({key}, 'a') returning pg_current_xact_id()::text"
                )
                written.append(row)
        return peek(*arguments, **options)

    written: list[tuple[Any, ...]] = []
    monkeypatch.setattr("audit_toolkit.wal.worker.peek", written_first)
    wal_trail.read()
    query = "select transaction_id::text from audit.logged_actions where action = 'I' order by 1"
    assert wal_trail.execute(query) == written


def test_one_worker_runs_at_a_time(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    worker = wal_trail.worker()
    worker.start()
    with pytest.raises(BusyError, match="another worker is running"):
        wal_trail.worker().start(wait=False)


def test_a_worker_that_stands_still_is_replaced_and_writes_nothing_more(
    wal_trail: WalTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit_toolkit.wal.one_worker.LEASE_SECONDS", 0)
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    paused, other = wal_trail.worker(), wal_trail.worker()
    paused.start()
    paused.turn()
    wal_trail.execute("insert into orders values (1)")
    paused.reader.execute("begin")  # as if it went back to triggers
    paused._hold(paused.reader, paused._tables())
    paused.writer.execute("begin")
    other.start(wait=True)
    wal_trail.execute("insert into orders values (2)")  # for which the table is free again
    with pytest.raises(psycopg.OperationalError):
        paused.reader.execute("select")
    assert "stands still" in wal_trail.said[-1]
    with pytest.raises(psycopg.OperationalError):
        paused.writer.execute("commit")
    other.turn()
    assert [key for action, key in wal_trail.story() if action == "I"] == ["1", "2"]


def test_a_worker_that_gives_signs_is_waited_for(
    wal_trail: WalTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    busy, other, slept = wal_trail.worker(), wal_trail.worker(), []
    busy.start()

    def pause(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) < 5:
            busy.turn()
        else:
            pid = busy.writer.info.backend_pid
            busy.writer.close()
            while wal_trail.execute("select from pg_stat_activity where pid = %s", [pid]):
                pass  # its lock goes with its session

    monkeypatch.setattr("audit_toolkit.wal.one_worker.LEASE_SECONDS", 0)
    monkeypatch.setattr("audit_toolkit.wal.worker.time.sleep", pause)
    other.start(wait=True)
    assert len(slept) >= 5
    assert "stands still" not in " ".join(wal_trail.said)


@pytest.mark.parametrize("how", ["dropped", "moved"])
def test_a_lost_slot_is_a_gap_and_never_silence(wal_trail: WalTrail, how: str) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("insert into orders values (1)")
    (slot,) = wal_trail.execute("select slot_name from audit.capture_progress")[0]
    if how == "dropped":
        wal_trail.execute("select pg_drop_replication_slot(%s)", [slot])
    else:
        wal_trail.execute("select pg_replication_slot_advance(%s, pg_current_wal_lsn())", [slot])
    wal_trail.execute("insert into orders values (2)")
    wal_trail.read()
    wal_trail.execute("insert into orders values (3)")
    wal_trail.read()
    assert wal_trail.story()[-2:] == [("G", None), ("I", "3")]
    gap = wal_trail.events()[-2]["new_row"]
    assert "slot was lost" in gap["reason"]
    assert gap["from_lsn"] < gap["to_lsn"]
    assert "audit baseline" in wal_trail.said[-1]


def test_a_trail_that_was_copied_with_its_database_has_a_gap(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("select pg_drop_replication_slot(slot_name) from audit.capture_progress")
    wal_trail.execute("update audit.capture_progress set slot_name = 'of_the_other_database'")
    wal_trail.read()
    assert wal_trail.story() == [("M", None), ("G", None)]
    assert "audit baseline" in wal_trail.said[-1]
    assert "from_lsn" not in wal_trail.events()[-1]["new_row"]


def test_triggers_take_over_without_a_hole_or_a_double(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("insert into orders values (1)")
    wal_trail.read()
    wal_trail.audit("orders", capture=Capture.ROW)
    wal_trail.execute("insert into orders values (2)")
    wal_trail.read()
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.execute("insert into orders values (3)")
    wal_trail.read()
    wal_trail.execute("insert into orders values (4)")
    wal_trail.read()
    assert [key for action, key in wal_trail.story() if action == "I"] == ["1", "2", "3", "4"]
    assert not [event for event in wal_trail.events() if event["action"] == "G"]


def test_capture_does_not_change_while_the_wal_has_more_than_the_trail(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("insert into orders values (1)")
    wal_trail.execute("set audit.wait_for_wal = '50ms'")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="still in the WAL"):
        wal_trail.execute("select audit.await_wal('capture_public__orders')")


ALTERED = {
    "fewer operations": "alter publication audit_capture set (publish = 'insert')",
    "of the root": "alter publication audit_capture set (publish_via_partition_root = true)",
    "table taken out": "alter publication audit_capture drop table orders",
    "table out and back": (
        "alter publication audit_capture drop table orders; alter publication audit_capture add table orders"
    ),
    "rows filtered": "alter publication audit_capture set table orders where (id > 5), audit.truncated_rows",
}


@pytest.mark.parametrize("act", ALTERED.values(), ids=ALTERED.keys())
def test_a_publication_that_somebody_altered_is_a_gap_and_made_whole(
    wal_trail: WalTrail, act: str
) -> None:
    if "where" in act and wal_trail.connection.info.server_version < 150000:
        pytest.skip("row filters came with 15")
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    for statement in act.split("; "):
        wal_trail.execute(statement)
    kinds = {finding.kind for finding in capture_findings(wal_trail.connection)}
    assert FindingKind.PUBLICATION_CHANGED in kinds
    wal_trail.read()
    kinds = {finding.kind for finding in capture_findings(wal_trail.connection)}
    assert FindingKind.PUBLICATION_CHANGED not in kinds
    wal_trail.execute("insert into orders values (1)")
    wal_trail.execute("delete from orders")
    wal_trail.read()
    assert wal_trail.story() == [("M", None), ("G", None), ("I", "1"), ("D", "1")]
    gap = wal_trail.events()[1]["new_row"]
    assert "altered the publication" in gap["reason"]
    assert gap["from_lsn"] < gap["to_lsn"]


def test_the_rows_that_truncate_takes_are_published_again(wal_trail: WalTrail) -> None:
    for name in ("one", "two"):
        wal_trail.execute(f"create table {name} (id int primary key)")
        wal_trail.audit(name, capture=Capture.WAL, truncate=Truncate.ROWS)
    wal_trail.read()
    wal_trail.execute("alter publication audit_capture drop table audit.truncated_rows")
    found = capture_findings(wal_trail.connection)
    changed = [one.subject for one in found if one.kind is FindingKind.PUBLICATION_CHANGED]
    assert changed == ["public.one", "public.two"]
    wal_trail.read()
    wal_trail.execute("insert into one values (1)")
    wal_trail.execute("truncate one")
    wal_trail.read()
    story = [(event["table_name"], event["action"]) for event in wal_trail.events()]
    assert story[2:] == [("one", "G"), ("two", "G"), ("one", "I"), ("one", "D"), ("one", "T")]


def test_triggers_that_somebody_enables_record_nothing_twice(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("alter table orders enable trigger all")
    wal_trail.execute("insert into orders values (1)")
    wal_trail.read()
    assert wal_trail.story() == [("M", None), ("I", "1")]
    assert wal_trail.execute(
        "select bool_and(tgenabled = 'D') from pg_trigger where tgrelid = 'orders'::regclass"
    ) == [(True,)]


def test_the_end_of_capture_takes_back_what_the_worker_needed(wal_trail: WalTrail) -> None:
    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.release("orders")
    assert wal_trail.execute("select relreplident from pg_class where relname = 'orders'") == [
        ("d",)
    ]
    in_publication = "select from pg_publication_rel where prrelid = 'orders'::regclass"
    assert wal_trail.execute(in_publication) == []
    assert wal_trail.execute("select from pg_proc where proname like 'replay%'") == []
    (left,) = capture_findings(wal_trail.connection)
    assert left.kind is FindingKind.SLOT_UNUSED
    wal_trail.read()
    assert "no table is captured from the WAL any more" in wal_trail.said[-2]
    assert capture_findings(wal_trail.connection) == []


def test_the_worker_waits_while_others_use_its_slot(
    wal_trail: WalTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy_once(function: Any) -> Any:
        refusals = [psycopg.errors.ObjectInUse("the slot is active for PID 1")]

        def run(*arguments: Any, **options: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return function(*arguments, **options)

        return run

    wal_trail.execute(ORDERS)
    wal_trail.audit("orders", capture=Capture.WAL)
    wal_trail.read()
    wal_trail.execute("insert into orders values (1)")
    monkeypatch.setattr("audit_toolkit.wal.worker.peek", busy_once(peek))
    monkeypatch.setattr("audit_toolkit.wal.worker.advance", busy_once(advance))
    wal_trail.read()
    wal_trail.execute("insert into orders values (2)")
    wal_trail.read()
    assert wal_trail.story() == [("M", None), ("I", "1"), ("I", "2")]


@pytest.mark.parametrize(
    ("ddl", "rule", "said"),
    [
        (ORDERS, {"capture_query": True}, "text of statements"),
        (ORDERS, {"store": Store.DELTA}, "--store delta needs --capture row"),
        (ORDERS, {"require_context": "actor"}, "--require-context needs triggers"),
    ],
)
def test_what_the_wal_cannot_do_is_refused(
    wal_trail: WalTrail, ddl: str, rule: dict[str, Any], said: str
) -> None:
    wal_trail.execute(ddl)
    with pytest.raises(RuleError, match=said):
        wal_trail.audit("orders", capture=Capture.WAL, **rule)
