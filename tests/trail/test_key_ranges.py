"""Ranges of keys: compared as their types compare, asked of the trail and not of the table."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_toolkit.errors import UsageError
from audit_toolkit.long_keys import LONGEST, fitting
from audit_toolkit.trail import Action, follow, history
from audit_toolkit.trail.rows.key_range import integer_spans
from tests.plugins.command import Audit
from tests.plugins.trail import Trail


def make(trail: Trail, definition: str, *literals: str) -> None:
    trail.execute(f"create table t ({definition})")
    trail.audit("t")
    for literal in literals:
        trail.execute(f"insert into t values ({literal})")


_OF_THE_TABLE = {Action.DDL, Action.GAP}


def keys(trail: Trail, **bounds: Any) -> list[str | None]:
    found = history(trail.connection, "t", **bounds)
    return [event.row_key for event in found if event.action not in _OF_THE_TABLE]


@pytest.mark.parametrize(
    ("type_name", "literals", "low", "high", "found"),
    [
        ("int", ["9", "10", "99", "100", "1000"], 10, 100, ["10", "99", "100"]),
        ("int", ["-100", "-20", "-3", "0", "7"], -20, 0, ["-20", "-3", "0"]),
        (
            "bigint",
            ["-5000", "-12", "3", "40000", "9000000000"],
            -4000,
            50000,
            ["-12", "3", "40000"],
        ),
        ("smallint", ["1", "2"], 2, None, ["2"]),
        ("int", ["1", "2", "-1"], None, 1, ["1", "-1"]),
        ("numeric", ["9.5", "10.00", "100"], "9.6", "99", ["10.00"]),
        ("numeric(6, 2)", ["1.00", "2.00"], "0.001", "1.999", ["1.00"]),
        ("float8", ["1e10", "0.5"], "1", "2e10", ["10000000000"]),
        ("text", ["'a'", "'b'", "'é'"], "a", "b", ["a", "b"]),
        ('text collate "C"', ["'B'", "'a'", "'b'"], "a", "b", ["a", "b"]),
        ("varchar(3)", ["'abc'", "'abd'"], "abcd", "zzzzzz", ["abd"]),
        ("char(3)", ["'b'", "'c'"], "b", "b", ["b  "]),
        ("date", ["'2026-09-30'", "'2026-10-01'"], "1 Oct 2026", None, ["2026-10-01"]),
        (
            "timestamptz",
            ["'2026-11-01 09:00Z'", "'2026-11-01 11:00Z'"],
            "2026-11-01 11:30+01",
            "2026-11-01 13:00+02",
            ["2026-11-01T11:00:00+00:00"],
        ),
        ("bytea", ["'\\x00'", "'\\xff'"], "\\x01", "\\xff", ["\\xff"]),
        ("inet", ["'10.0.0.9'", "'10.0.0.10'"], "10.0.0.8", "10.0.0.9", ["10.0.0.9"]),
        ("boolean", ["true", "false"], "true", None, ["true"]),
    ],
)
def test_as_the_type_compares(
    trail: Trail, type_name: str, literals: list[str], low: object, high: object, found: list[str]
) -> None:
    make(trail, f"k {type_name} primary key", *literals)
    assert keys(trail, from_key=low, to_key=high) == found
    with trail.database.connect() as connection:
        connection.execute("set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'")
        connection.execute("set bytea_output = 'escape'; set extra_float_digits = -15")
        assert len(history(connection, "t", from_key=low, to_key=high)) == len(found)


def test_several_columns_compare_as_a_row(trail: Trail) -> None:
    make(
        *(trail, "region text, n int, v int, primary key (region, n)"),
        *("'eu', 9", "'eu', 10", "'eu', 100", "'fr', 1", "'us', 5"),
    )
    found = ['["eu", 10]', '["eu", 100]', '["fr", 1]']
    assert keys(trail, from_key=("eu", 10), to_key=("fr", 2)) == found
    assert keys(trail, from_key='["eu", 10]', to_key=["fr", "2"]) == found


def test_types_of_the_application(trail: Trail) -> None:
    trail.execute("create type \"a%b\" as enum ('small', 'large')")
    make(trail, 'k "a%b" primary key', "'small'", "'large'")
    assert keys(trail, from_key="large") == ["large"]


def test_rows_that_are_gone_or_left_and_what_befell_the_table(trail: Trail) -> None:
    make(trail, "k int primary key, v int", *map(str, range(1, 6)))
    trail.execute("delete from t where k = 3; update t set k = 50 where k = 4")
    trail.execute("update t set k = 4 where k = 5; select audit.record_gap('t', 'paused', 'x')")
    trail.execute("truncate t")
    events = history(trail.connection, "t", from_key=3, to_key=4)
    assert [(event.action, event.row_key) for event in events] == [
        *(("I", "3"), ("I", "4"), ("D", "3"), ("U", "50"), ("U", "4"), ("G", None), ("T", None)),
    ]


def test_with_pages_and_filters(trail: Trail) -> None:
    make(trail, "k int primary key, v int")
    trail.execute("insert into t select generate_series(1, 3000)")
    page = history(trail.connection, "t", from_key=5, to_key=2500, limit=3)
    assert [event.row_key for event in page] == ["2498", "2499", "2500"]
    page = history(trail.connection, "t", from_key=5, to_key=2500, limit=2, after=0)
    assert [event.row_key for event in page] == ["5", "6"]
    before = page[1].event_id
    assert keys(trail, from_key=5, to_key=2500, before=before) == ["5"]


INCOMPRESSIBLE = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(41))


class TestKeysThatTheTrailHasAsDigests:
    """No image need have them: a row in the middle of the alphabet may be in the range or not."""

    @pytest.mark.parametrize("rule", [{}, {"store": "delta"}], ids=["full", "delta"])
    def test_compare_by_their_values(self, trail: Trail, rule: dict[str, Any]) -> None:
        trail.execute("create table t (k text primary key, v int, w int)")
        trail.audit("t", **rule)
        long = [letter + INCOMPRESSIBLE for letter in "bhx"]
        assert len(long[0]) > LONGEST
        for key in (*long, "c", "y"):
            trail.execute("insert into t values (%s, 0, 0)", [key])
        trail.execute("update t set v = 1")
        trail.execute("alter table t rename k to l; alter table t add k int default 5")
        trail.execute("update t set w = 2 where l < 'i'; delete from t where l like 'b%'")
        trail.execute("update t set l = 'z' where l like 'h%'")
        b, h, x = map(fitting, long)
        assert keys(trail, from_key="a", to_key="m") == [b, h, "c", b, h, "c", b, h, "c", b, "z"]
        assert keys(trail, from_key="w", to_key="xz") == [x, x]
        assert keys(trail, from_key="i", to_key="m") == []

    def test_of_several_columns_and_in_a_tail(self, trail: Trail) -> None:
        make(trail, "a text, n int, primary key (a, n)", f"'b{INCOMPRESSIBLE}', 1", "'b', 1")
        with trail.database.connect() as connection:
            batches = follow(connection, "t", from_key=("a", 0), to_key=("c", 0))
            found = [
                event for event in next(b for b in batches if b.events).events if event.row_key
            ]
            assert [event.row_key for event in found[1:]] == ['["b", 1]']
            for letter in "azb":
                trail.execute("insert into t values (%s, 2)", [letter + INCOMPRESSIBLE])
            trail.execute("insert into t values ('b', 2)")
            later = next(b for b in batches if b.events).events
            assert [(event.new_row or {})["a"][:2] for event in later] == ["a6", "b6", "b"]

    def test_that_no_image_has_belong_to_every_range(self, trail: Trail) -> None:
        make(trail, "k text primary key", f"'b{INCOMPRESSIBLE}'")
        unknown = fitting("x" * 3000)
        record = (
            "insert into audit.logged_actions (schema_name, table_name, action, row_key, new_row)"
        )
        trail.execute(f"{record} values ('public', 't', 'I', %s, '{{}}')", [unknown])
        assert keys(trail, from_key="y") == [unknown]

    def test_of_a_former_type_are_ruled_out_by_the_time(self, trail: Trail) -> None:
        make(trail, "k text primary key", f"'b{INCOMPRESSIBLE}'")
        (since,) = trail.execute("select clock_timestamp()")[0]
        trail.execute("drop table t; create table t (k date primary key)")
        trail.audit("t")
        trail.execute("insert into t values ('2026-11-01')")
        with pytest.raises(UsageError, match="keys that are not valid date"):
            keys(trail, from_key="2026-10-01")
        assert keys(trail, from_key="2026-10-01", since=since) == ["2026-11-01"]


def test_redacted_keys_are_in_no_range(trail: Trail, audit: Audit) -> None:
    make(trail, "k date primary key", "'2026-11-01'", "'2026-11-02'")
    trail.execute("delete from t where k = '2026-11-01'")
    redact = ("redact", "t", "2026-11-01", "--column", "k", "--keys", "--reason", "art. 17")
    audit(*redact, "--apply", code=0)
    assert keys(trail, from_key="2026-10-01") == ["2026-11-02"]


class TestBadInput:
    @pytest.mark.parametrize(
        ("bounds", "message", "hint"),
        [
            ({"from_key": "x"}, "'x' cannot be a key of public.t", "one value of type integer"),
            ({"to_key": (1, 2)}, "'1' '2' cannot be a key", "one value of type integer"),
            ({"to_key": 2**40}, f"'{2**40}' cannot be a key", "one value of type integer"),
            (
                {"from_key": 5, "to_key": 4},
                "from_key must not be greater than to_key: '5' comes after '4'",
                "give the lower key first",
            ),
            (
                {"key": 1, "to_key": 4},
                "a key ('1') cannot be combined with a range",
                "leave out one",
            ),
        ],
    )
    def test_bounds(self, trail: Trail, bounds: dict[str, Any], message: str, hint: str) -> None:
        make(trail, "k int primary key")
        with pytest.raises(UsageError) as raised:
            history(trail.connection, "t", **bounds)
        assert message in raised.value.message
        assert hint in str(raised.value.hint)

    def test_a_table_without_a_key(self, trail: Trail) -> None:
        make(trail, "k int")
        with pytest.raises(UsageError, match=r"public.t has no primary key"):
            history(trail.connection, "t", from_key=1)

    def test_a_table_that_is_gone(self, trail: Trail) -> None:
        make(trail, "k int primary key", "1")
        trail.execute("drop table t")
        with pytest.raises(UsageError, match=r"public.t no longer exists"):
            history(trail.connection, "t", from_key=1)

    def test_keys_that_json_shows_as_another_thing(self, trail: Trail) -> None:
        make(trail, "k int[] primary key", "'{1}'")
        with pytest.raises(UsageError, match="have no order that the trail can use"):
            history(trail.connection, "t", from_key="{1}")

    def test_keys_of_a_former_type(self, trail: Trail) -> None:
        make(trail, "k text primary key", "'old'")
        (since,) = trail.execute("select clock_timestamp()")[0]
        trail.execute("drop table t; create table t (k int primary key)")
        trail.audit("t")
        trail.execute("insert into t values (5), (50)")
        with pytest.raises(UsageError, match=r"keys that are not valid integer.*old") as raised:
            history(trail.connection, "t", to_key=9)
        assert "--since" in str(raised.value.hint)
        assert keys(trail, to_key=9, since=since) == ["5"]

    def test_keys_of_another_number_of_columns_are_left_out(self, trail: Trail) -> None:
        make(trail, "k int primary key", "1")
        trail.execute("drop table t; create table t (k int, l int, primary key (k, l))")
        trail.audit("t")
        trail.execute("insert into t values (1, 1)")
        assert keys(trail, from_key=(0, 0)) == ["[1, 1]"]


@given(st.integers(-(10**7), 10**7), st.integers(0, 10**5), st.integers(-(10**7), 10**7))
def test_spans_hold_exactly_the_numbers_of_the_range(low: int, width: int, number: int) -> None:
    high = low + width
    spans = integer_spans(low, high)
    assert len(spans) < 20

    def holding(number: int) -> int:
        text = str(number)
        return sum(first <= text <= last and len(text) == len(first) for first, last in spans)

    for some in (number, low, high, low - 1, high + 1, 0):
        assert holding(some) == (low <= some <= high)
