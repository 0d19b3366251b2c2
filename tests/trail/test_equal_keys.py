"""Keys that are equal as their types compare, though their texts are not the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from audit_toolkit.trail import Event, blame, history, row_at
from tests.plugins.trail import Trail


def story(events: list[Event]) -> list[str]:
    return [f"{event.action} {event.row_key}" for event in events]


@pytest.mark.parametrize(
    ("key_type", "stored", "asked"),
    [
        ("numeric", "1.50", "1.5"),
        ("numeric", "1e2", "100.000"),
        ("float8", "0", "-0"),
        ("interval", "24:00:00", "1 day"),
        ("numeric(5,2)", "1.5", "1.500"),
        ("money_like", "7.0", "7"),
        ("jsonb", '{"a": 1.0}', '{"a": 1.00}'),
    ],
)
def test_one_column(trail: Trail, key_type: str, stored: str, asked: str) -> None:
    trail.execute("create domain money_like as numeric check (value >= 0)")
    trail.execute(f"create table t (k {key_type} primary key, v int)")
    trail.audit("t")
    trail.execute("insert into t values (%s, 1)", [stored])
    trail.execute("update t set v = 2")
    (key,) = {event["row_key"] for event in trail.events()}
    assert story(history(trail.connection, "t", asked)) == [f"I {key}", f"U {key}"]
    found = row_at(trail.connection, "t", asked, datetime.now(UTC))
    assert found is not None
    assert found["v"] == 2
    assert [o.value for o in blame(trail.connection, "t", asked) if o.column == "v"] == [2]
    in_sql = "select v from audit.row_at(null::t, %s, now())"
    assert trail.execute(in_sql, [asked]) == [(2,)]
    versions = "select row_image -> 'v' from audit.history('t', %s)"
    assert trail.execute(versions, [asked]) == [(1,), (2,)]


def test_a_key_that_ignores_case(trail: Trail) -> None:
    trail.execute(
        "create schema ext; create extension citext schema ext;"
        "create table people (name ext.citext, n int, primary key (n, name))"
    )
    trail.audit("people")
    trail.execute("insert into people values ('Foo', 1), ('bar', 1), ('foo', 2)")
    assert story(history(trail.connection, "people", (1, "fOO"))) == ['I [1, "Foo"]']
    in_sql = "select name::text from audit.row_at(null::people, %s, now())"
    assert trail.execute(in_sql, ['[1, "fOO"]']) == [("Foo",)]
    assert trail.execute(in_sql, ['[2, "FOO"]']) == [("foo",)]
    assert trail.execute(in_sql, ['[3, "FOO"]']) == []


def test_all_spellings_are_one_key(trail: Trail) -> None:
    trail.execute("create table t (k numeric primary key, v int)")
    trail.audit("t")
    trail.execute("insert into t values (1.50, 1); delete from t; insert into t values (1.5, 2)")
    trail.execute("insert into t values (2, 2); update t set k = 1.500 where k = 1.5")
    expected = ["I 1.50", "D 1.50", "I 1.5", "U 1.500"]
    for asked in ("1.5", "1.50", "1.5000"):
        assert story(history(trail.connection, "t", asked)) == expected
        in_sql = "select row_image ->> 'v' from audit.history('t', %s)"
        assert trail.execute(in_sql, [asked]) == [("2",), ("2",)]


def test_keys_of_a_former_type_do_not_stop_it(trail: Trail) -> None:
    trail.execute("create table t (k text primary key)")
    trail.audit("t")
    trail.execute("insert into t values ('x'); delete from t")
    trail.execute("alter table t alter k type numeric using k::numeric")
    trail.execute("insert into t values (1.5)")
    assert story(history(trail.connection, "t", "1.5")) == ["I 1.5"]
    assert trail.execute("select k::text from audit.row_at(null::t, '1.5', now())") == [("1.5",)]
