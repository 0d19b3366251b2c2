"""What a slot of a real server tells: keys, rows, contexts and redelivery."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import psycopg
import pytest

from audit_toolkit import wal
from tests.wal.conftest import PUBLICATION, SLOT, Source

Open = Callable[..., Source]
FULL = "create table t (id int primary key, v text); alter table t replica identity full"
BIG = "create table t (id int primary key, v text); alter table t alter v set storage external"


def told(source: Source) -> list[tuple[str, wal.Row | None, wal.Row | None]]:
    return [(change.action, change.before, change.after) for change in source.changes()]


def ends(source: Source) -> list[wal.Done]:
    return [found for found in source.read() if isinstance(found, wal.Done)]


def test_rows_in_commit_order_each_with_a_position_of_its_own(open_source: Open) -> None:
    source = open_source(FULL)
    with source.connection.cursor().copy("copy t from stdin") as copy:
        copy.write("1\ta\n2\tb\n3\t\\N\n")
    source.execute("update t set v = 'c', id = 9 where id = 1")
    source.execute("delete from t where id = 2")
    assert told(source) == [
        ("I", None, ("1", "a")),
        ("I", None, ("2", "b")),
        ("I", None, ("3", None)),
        ("U", ("1", "a"), ("9", "c")),
        ("D", ("2", "b"), None),
    ]
    positions = [change.position for change in source.changes()]
    assert all(one < other for one, other in pairwise(positions))
    assert [position.ordinal for position in positions] == [1, 2, 3, 1, 1]


def test_a_transaction_that_began_first_and_committed_last_comes_last(open_source: Open) -> None:
    source = open_source(FULL)
    with psycopg.connect(source.cluster.dsn()) as slow:
        slow.execute("insert into t values (1, 'slow')")
        source.execute("insert into t values (2, 'quick')")
        source.execute("begin; insert into t values (3); rollback")
    found = source.changes()
    assert [change.after for change in found] == [("2", "quick"), ("1", "slow")]
    assert found[0].xid > found[1].xid


def test_a_value_out_of_line_that_did_not_change_comes_from_the_old_row(open_source: Open) -> None:
    source = open_source(BIG + "; alter table t replica identity full")
    source.execute("insert into t values (1, repeat('x', 10000))")
    source.execute("update t set id = 2")
    assert told(source)[1] == ("U", ("1", "x" * 10000), ("2", "x" * 10000))


def test_without_the_whole_old_row_what_is_not_known_is_not_null(open_source: Open) -> None:
    source = open_source(BIG)
    source.execute("insert into t values (1, repeat('x', 10000))")
    source.execute("update t set id = 2")
    source.execute("delete from t")
    absent, unchanged = wal.Missing.ABSENT, wal.Missing.UNCHANGED
    assert told(source)[1:] == [
        ("U", ("1", absent), ("2", unchanged)),
        ("D", ("2", absent), None),
    ]


def test_ddl_between_rows_changes_the_columns_of_the_later_ones_alone(open_source: Open) -> None:
    source = open_source(FULL)
    source.execute("insert into t values (1, 'a')")
    source.execute("alter table t add w int default 7; alter table t rename v to u")
    source.execute("insert into t values (2, 'b')")
    source.execute("alter table t drop u")
    source.execute("update t set w = 8 where id = 1")
    named = [
        dict(zip((column.name for column in c.relation.columns), c.after or (), strict=True))
        for c in source.changes()
    ]
    assert named == [
        {"id": "1", "v": "a"},
        {"id": "2", "u": "b", "w": "7"},
        {"id": "1", "w": "8"},
    ]


def test_truncate_of_several_tables_is_one_change_for_each(open_source: Open) -> None:
    source = open_source(f"{FULL}; create table other (id int primary key)", "t, other")
    source.execute("truncate t, other")
    found = source.changes()
    assert {change.relation.name for change in found} == {"t", "other"}
    assert [(change.action, change.position.ordinal) for change in found] == [("T", 1), ("T", 2)]


def test_a_partitioned_table_may_be_told_under_its_own_name(open_source: Open) -> None:
    ddl = """
        create table t (id int primary key, v text) partition by range (id);
        create table low partition of t for values from (0) to (10);
        create table high partition of t for values from (10) to (20);
        alter table t replica identity full;
        alter table low replica identity full;
        alter table high replica identity full
    """
    source = open_source(ddl, options="publish_via_partition_root = true")
    source.execute("insert into t values (1, 'a')")
    source.execute("update t set id = 11")
    assert told(source) == [
        ("I", None, ("1", "a")),
        ("D", ("1", "a"), None),
        ("I", None, ("11", "a")),
    ]
    assert {change.relation.name for change in source.changes()} == {"t"}


def test_a_context_holds_until_the_next_one_and_ends_with_its_transaction(
    open_source: Open,
) -> None:
    source = open_source(FULL)
    source.execute("""
        begin;
        insert into t values (1);
        select pg_logical_emit_message(true, 'audit.context', 'one');
        insert into t values (2);
        savepoint s;
        select pg_logical_emit_message(true, 'audit.context', 'undone');
        insert into t values (3);
        rollback to s;
        select pg_logical_emit_message(false, 'audit.context', 'not of the transaction');
        select pg_logical_emit_message(true, 'another', 'prefix');
        insert into t values (4);
        select pg_logical_emit_message(true, 'audit.context', 'two');
        insert into t values (5);
        commit
    """)
    source.execute("insert into t values (6)")
    said = {(change.after or ("",))[0]: change.context for change in source.changes()}
    assert said == {"1": None, "2": b"one", "4": b"one", "5": b"two", "6": None}


def test_what_was_not_advanced_past_comes_again_under_the_same_positions(
    open_source: Open,
) -> None:
    source = open_source(FULL)
    source.execute("insert into t select n from generate_series(1, 3) as n")
    source.execute("update t set v = 'x'")
    first = source.read()
    assert source.read() == first
    wal.advance(source.connection, SLOT, ends(source)[0].end_lsn)
    rest = source.changes()
    assert rest == [change for change in first if isinstance(change, wal.Change)][3:]
    wal.advance(source.connection, SLOT, ends(source)[-1].end_lsn)
    assert source.changes() == []


def test_a_killed_server_tells_again_what_it_told_under_the_same_positions(
    open_source: Open,
) -> None:
    source = open_source(FULL)
    for number in range(5):
        source.execute("insert into t values (%s)", [number])
    before = source.changes()
    wal.advance(source.connection, SLOT, ends(source)[2].end_lsn)
    source.cluster.kill()
    source.cluster.start()
    again = source.changes()
    assert [change.position for change in before[3:]] == [c.position for c in again[-2:]]
    assert set(again) <= set(before)


def test_large_rows_are_fetched_a_few_at_a_time(
    open_source: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit_toolkit.wal.slot.BATCH_BYTES", 100_000)
    source = open_source(FULL)
    source.execute("insert into t select n, repeat('x', 1000) from generate_series(1, 400) as n")
    with psycopg.connect(source.cluster.dsn(), autocommit=True) as reader:
        sizes = [sum(map(len, batch)) for batch in wal.peek(reader, SLOT, PUBLICATION)]
    assert len(sizes) > 3
    assert max(sizes[1:]) < 2 * 100_000


def test_no_setting_of_the_reader_changes_a_value(open_source: Open) -> None:
    ddl = """
        create table t (
            id int primary key, f float8, b bytea, z timestamptz, d date, i interval, m money, r regclass
        )
    """
    source = open_source(ddl)
    source.execute("""
        insert into t values (
            1, 0.1::float8 + 0.2::float8, '\\x00ff', '2026-02-03 04:05:06+00', '2026-02-03', '1 day 2 hours',
            12.5, 't'
        )
    """)
    with psycopg.connect(source.cluster.dsn(), autocommit=True) as reader:
        reader.execute("""
            set datestyle = 'SQL, DMY'; set timezone = 'Asia/Tokyo'; set intervalstyle = 'iso_8601';
            set bytea_output = 'escape'; set extra_float_digits = -5; set client_encoding = 'LATIN1'
        """)
        (data,) = wal.peek(reader, SLOT, 'odd "Name", too')
        assert reader.info.encoding == "iso8859-1"
    (change, _) = wal.read_changes(data)
    assert isinstance(change, wal.Change)
    assert change.after == (
        "1",
        "0.30000000000000004",
        "\\x00ff",
        "2026-02-03 04:05:06+00",
        "2026-02-03",
        "1 day 02:00:00",
        "$12.50",
        "public.t",
    )


def test_a_type_of_the_database_and_letters_of_any_script(open_source: Open) -> None:
    ddl = """
        create type mood as enum ('gl\u00fccklich');
        create table "T\u00e4ble" ("\u540d" mood primary key)
    """
    source = open_source(ddl, '"T\u00e4ble"')
    source.execute('insert into "T\u00e4ble" values (%s)', ["gl\u00fccklich"])
    (change,) = source.changes()
    assert change.after == ("gl\u00fccklich",)
    assert (change.relation.name, change.relation.columns[0].name) == ("T\u00e4ble", "\u540d")
