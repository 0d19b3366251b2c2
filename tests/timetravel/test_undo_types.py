"""Undo of events from before a column had its present type, and of rows whose key is written otherwise."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest

from audit_toolkit import trail as verbs
from audit_toolkit.trail import ConflictError, Selection
from tests.plugins.trail import Trail
from tests.timetravel.words import now

RETYPED = [
    ("int", "1", "2", "numeric(10, 2)"),
    ("int", "1", "2", "bigint"),
    ("int", "1", "2", "text"),
    ("int", "1", "2", "positive"),
    ("smallint", "1", "2", "float8"),
    ("numeric(10, 1)", "1.5", "2.0", "numeric(12, 3)"),
    ("numeric(10, 3)", "1.500", "2.000", "numeric(10, 1)"),
    ("text", "'7'", "'08'", "int using v::int"),
    ("text", "null", "'6ECD8C99-4036-403D-BF84-CF8400F67836'", "uuid using v::uuid"),
    ("varchar(5)", "'a'", "'b '", "text"),
    ("text", "'a'", "'b'", "char(5)"),
    ("text", "'a'", "'b'", "mood using v::mood"),
    ("mood", "'a'", "'b'", "text"),
    ("date", "'2020-01-01'", "'2020-01-02'", "timestamp"),
    ("timestamp", "'2020-01-01 10:00'", "'2020-01-02 11:00:00.5'", "timestamptz"),
    ("timestamptz", "'2020-01-01 10:00+02'", "'2020-01-02 10:00:00.7Z'", "timestamptz(0)"),
    ("json", '\'{"b": 1, "a": [1.0]}\'', "'2'", "jsonb"),
    ("jsonb", "'[1, {\"a\": null}]'", "'\"x\"'", "json"),
    ("int[]", "'{1,2}'", "'{}'", "numeric(6, 1)[]"),
    ("interval", "'1 day'", "'90.5 sec'", "interval(0)"),
]


@pytest.fixture
def typed(trail: Trail) -> Trail:
    trail.execute("""
        set timezone = 'UTC';
        create domain positive as numeric(8, 3) not null check (value > 0);
        create type mood as enum ('a', 'b', 'c');
    """)
    return trail


def test_a_column_of_another_type_since(typed: Trail) -> None:
    for number, (before, one, other, after) in enumerate(RETYPED):
        table = f"retyped_{number}"
        typed.execute(f"create table {table} (id int primary key, v {before}, more int default 0)")
        typed.audit(table)
        typed.execute(f"insert into {table} values (1, {one}), (2, {one})")
        was = shown(typed, table, after)
        typed.execute(f"update {table} set v = {other}")
        changes = tuple(event["event_id"] for event in typed.events()[-2:])
        typed.execute(f"alter table {table} alter v type {after}")
        undo = verbs.apply_revert(typed.connection, Selection(event_ids=changes))
        assert (undo.rows, shown(typed, table)) == (2, was), (before, after)
        typed.execute(f"update {table} set more = 1; delete from {table} where id = 2")
        since = Selection(after_event=changes[0] - 1, tables=(table,))
        verbs.apply_revert(typed.connection, since)
        assert shown(typed, table) == was, (before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [("int", "numeric(10, 2)"), ("int", "text"), ("date", "timestamptz"), ("text", "char(12)")],
)
def test_a_key_of_another_type_since(typed: Trail, before: str, after: str) -> None:
    one = "'2020-01-01'" if before == "date" else "7"
    typed.execute(f"create table items (id {before} primary key, v text)")
    typed.audit("items")
    typed.execute(f"insert into items values ({one}, 'a'); update items set v = 'b'")
    [_, update] = (event["event_id"] for event in typed.events())
    typed.execute(f"alter table items alter id type {after}")
    typed.execute("update items set v = 'c'; delete from items")
    typed.execute(f"insert into items values ({one}, 'd')")
    verbs.apply_revert(typed.connection, Selection(after_event=update - 1))
    assert typed.execute(f"select v from items where id = {one}::{after}") == [("a",)]


def shown(trail: Trail, table: str, of_type: str = "") -> list[tuple[Any, ...]]:
    cast = of_type.partition(" using")[0] or "text"
    return trail.execute(f"select id, v::{cast}::text from {table} order by id")


# -- keys that are equal ------------------------------------------------------------------------

EQUAL = [
    ("citext", "'Foo'", "'foo'"),
    ("numeric", "1.50", "1.5"),
    ("nick", "'Foo'", "'FOO'"),
    ("int4range", "'[1,3)'", "'[1,2]'"),
    ("char(5)", "'a'", "'a  '"),
    ("timestamptz", "'2020-01-01 10:00+02'", "'2020-01-01 08:00Z'"),
    ("interval", "'24:00'", "'1 day'"),
    ("numeric[]", "'{1.5}'", "'{1.50}'"),
]


NO_CASE = (
    "create collation no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
)


@pytest.fixture
def equal(trail: Trail) -> Trail:
    trail.execute("""
        create extension citext;
        create domain nick as citext check (value <> '');
    """)
    return trail


@pytest.mark.parametrize("more", [False, True])
def test_a_row_that_came_back_under_an_equal_key(equal: Trail, more: bool) -> None:
    equal_in = [*EQUAL]
    with suppress(psycopg.errors.FeatureNotSupported):  # a server without ICU
        equal.execute(NO_CASE)
        equal_in.append(("text collate no_case", "'Foo'", "'foo'"))
    for number, (type_name, one, other) in enumerate(equal_in):
        table, key = f"equal_{number}", "part, k" if more else "k"
        equal.execute(
            f"create table {table} (k {type_name}, part int default 1, v text, primary key ({key}))"
        )
        equal.audit(table)
        equal.execute(f"insert into {table} (k, v) values ({one}, 'a')")
        start = equal.events()[-1]["event_id"]
        equal.execute(f"delete from {table}")
        equal.execute(f"insert into {table} (k, v) values ({other}, 'b')")
        plain = type_name.partition(" ")[0]
        back = f"""select k::text collate "C" = ({one}::{plain})::text, v from {table}"""
        verbs.apply_revert(equal.connection, Selection(after_event=start))
        assert equal.execute(back) == [(True, "a")], type_name
        verbs.apply_revert(equal.connection, Selection(after_event=start))
        assert equal.execute(back) == [(True, "a")], type_name


def test_an_equal_key_of_another_is_still_a_conflict(equal: Trail) -> None:
    equal.execute("create table items (k citext primary key, v text)")
    equal.audit("items")
    equal.execute("insert into items values ('Foo', 'a'); delete from items")
    deleted = equal.events()[-1]["event_id"]
    equal.execute("insert into items values ('foo', 'b')")
    with pytest.raises(ConflictError):
        verbs.apply_revert(equal.connection, Selection(event_ids=(deleted,)))
    verbs.apply_restore(equal.connection, "items", "foo", event=deleted)
    assert equal.execute("select * from items") == [("Foo", "a")]


def test_an_equal_key_that_another_row_took(equal: Trail) -> None:
    equal.execute("create table items (k citext primary key, v text)")
    equal.audit("items")
    equal.execute("insert into items values ('Foo', 'a'), ('bar', 'b')")
    start = equal.events()[-1]["event_id"]
    equal.execute("delete from items where k = 'foo'; update items set k = 'foo'")
    verbs.apply_revert(equal.connection, Selection(after_event=start))
    assert equal.execute("select * from items order by k") == [("bar", "b"), ("Foo", "a")]
    verbs.apply_revert(equal.connection, Selection(after_event=equal.events()[-1]["event_id"] - 2))
    assert equal.execute("select * from items") == [("foo", "b")]


def test_a_moment_is_of_all_ways_to_write_a_key(equal: Trail) -> None:
    equal.execute("create table items (k citext primary key, v text)")
    equal.audit("items")
    equal.execute("insert into items values ('Foo', 'a')")
    moment = now(equal)
    equal.execute("delete from items")
    equal.execute("insert into items values ('foo', 'b')")
    verbs.apply_restore(equal.connection, "items", "foo", at=moment)
    assert equal.execute("select * from items") == [("Foo", "a")]
