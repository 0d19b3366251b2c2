"""Keys as people write them, found in the trail as capture wrote them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from uuid import UUID

import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.trail import find_subject, history
from tests.plugins.trail import Trail

UUID_TEXT = "0190f5fe-7c00-7a00-8000-0123456789ab"


def make(trail: Trail, definition: str, *literals: str) -> None:
    """An audited table `t` with rows of these values."""
    trail.execute(f"create table t ({definition})")
    trail.audit("t")
    for literal in literals:
        trail.execute(f"insert into t values ({literal})")


@pytest.mark.parametrize(
    ("type_name", "literal", "key"),
    [
        ("bigint", "42", "42"),
        ("bigint", "42", " 042 "),
        ("bigint", "42", 42),
        ("bigint", "-5", -5),
        ("numeric", "1.00", "1.00"),
        ("numeric(10, 2)", "1", "1"),
        ("numeric(10, 2)", "1", Decimal("1.0")),
        ("float8", "0.1", "0.1"),
        ("float8", "'NaN'", "nan"),
        ("boolean", "true", "t"),
        ("boolean", "true", True),
        ("text", "'42'", "42"),
        ("text", "' a '", " a "),
        ("text", "''", ""),
        ("text", "'[\"eu\", 42]'", '["eu", 42]'),
        ("text", "'[\"eu\",42]'", '["eu",42]'),
        ("text", "'{\"a\": 1.0}'", '{"a": 1.0}'),
        ("text", "'null'", "null"),
        ("text", "E'a\\nb\\u001b'", "a\nb\x1b"),
        ("text", "'100% %s %(key)s'", "100% %s %(key)s"),
        ("varchar(5)", "'abc'", "abc"),
        ("char(5)", "'abc'", "abc"),
        ("char(5)", "'abc'", "abc  "),
        ("uuid", f"'{UUID_TEXT}'", UUID_TEXT.upper()),
        ("uuid", f"'{UUID_TEXT}'", "{" + UUID_TEXT.replace("-", "") + "}"),
        ("uuid", f"'{UUID_TEXT}'", UUID(UUID_TEXT)),
        ("date", "'2026-11-01'", "2026-11-01"),
        ("date", "'2026-11-01'", "1 November 2026"),
        ("date", "'2026-11-01'", dt.date(2026, 11, 1)),
        ("timestamptz", "'2026-11-01 09:00Z'", "2026-11-01 10:00+01"),
        ("timestamptz", "'2026-11-01 09:00Z'", "2026-11-01T09:00:00"),
        ("timestamptz", "'2026-11-01 09:00Z'", dt.datetime(2026, 11, 1, 9, tzinfo=dt.UTC)),
        ("timestamp", "'2026-11-01 09:00'", "2026-11-01 09:00"),
        ("interval", "'36 hours'", "36:00"),
        ("bytea", "'\\x00ff'", "\\x00FF"),
        ("bytea", "'\\x00ff'", b"\x00\xff"),
        ("inet", "'10.0.0.1'", "10.0.0.1/32"),
        ("int[]", "'{1,2}'", "{1, 2}"),
        ("int4range", "'[1,5)'", "[1,4]"),
        ("jsonb", "'{\"a\": 1.0}'", '{"a":1.0}'),
        ("bit(3)", "'101'", "101"),
    ],
)
def test_a_key_in_any_spelling_of_its_type(
    trail: Trail, type_name: str, literal: str, key: object
) -> None:
    make(trail, f"k {type_name} primary key", literal)
    with trail.database.connect() as connection:
        connection.execute("set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'")
        connection.execute("set bytea_output = 'escape'; set extra_float_digits = -15")
        assert len(history(connection, "t", key)) == 1


@pytest.mark.parametrize(
    ("definition", "literal"),
    [
        ("k mood primary key", "'sad one'"),
        ("k amount primary key", "1.5"),
        ('k "a%b" primary key', "'x'"),
    ],
)
def test_types_of_the_application(trail: Trail, definition: str, literal: str) -> None:
    trail.execute("create type mood as enum ('sad one', 'ok'); create type \"a%b\" as enum ('x')")
    trail.execute("create domain amount as numeric(6, 2) check (value > 0)")
    make(trail, definition, literal)
    assert len(history(trail.connection, "t", literal.strip("'"))) == 1


@pytest.mark.parametrize(
    ("type_name", "literal", "other"),
    [
        ("varchar(3)", "'abc'", "abcdef"),
        ("char(3)", "'abc'", "abcdef"),
        ("bit(3)", "'101'", "10111"),
        ("numeric(10, 2)", "1.00", "1.004"),
        ("timestamptz(0)", "'2026-11-01 09:00Z'", "2026-11-01 09:00:00.4Z"),
    ],
)
def test_a_key_that_is_cut_or_rounded_is_another_key(
    trail: Trail, type_name: str, literal: str, other: str
) -> None:
    make(trail, f"k {type_name} primary key", literal)
    with pytest.raises(UsageError, match="cannot be a key of public"):
        history(trail.connection, "t", other)


class TestSeveralColumns:
    @pytest.fixture(autouse=True)
    def _lines(self, trail: Trail) -> None:
        make(
            trail,
            "region text, n int, at timestamptz, v int, primary key (region, n, at)",
            "'eu', 42, '2026-11-01Z', 1",
            "'eu, \"x\"', 1, '2026-11-01Z', 1",
        )

    @pytest.mark.parametrize(
        "key",
        [
            ("eu", "42", "2026-11-01"),
            ("eu", 42, dt.date(2026, 11, 1)),
            ["eu", "042", "2026-11-01T01:00+01:00"],
            '["eu", 42, "2026-11-01T00:00:00+00:00"]',
            '["eu",42,"2026-11-01"]',
            ' [ "eu" ,  "42", "2026-11-01" ]',
            ('eu, "x"', 1, "2026-11-01"),
            '["eu, \\"x\\"", 1, "2026-11-01"]',
        ],
    )
    def test_as_values_or_as_a_json_array(self, trail: Trail, key: object) -> None:
        assert len(history(trail.connection, "t", key)) == 1

    @pytest.mark.parametrize(
        "key",
        ["eu", ("eu", "42"), '["eu", 42]', ("eu", "x", "2026-11-01"), '["eu", null, "x"]', "[]"],
    )
    def test_the_wrong_shape(self, trail: Trail, key: object) -> None:
        with pytest.raises(UsageError, match="cannot be a key of public") as caught:
            history(trail.connection, "t", key)
        assert caught.value.hint == (
            "a key is 3 values (region text, n integer, at timestamp with time zone): "
            "write them as REGION N AT, or as one JSON array"
        )


def test_the_wrong_shape_of_one_column(trail: Trail) -> None:
    make(trail, "k int primary key", "1")
    for key in ("x", ("1", "2"), "1.5", "99999999999999", '["1"]'):
        with pytest.raises(UsageError, match="cannot be a key of public") as caught:
            history(trail.connection, "t", key)
        assert caught.value.hint == "a key is one value of type integer (k)"


@pytest.mark.parametrize("key", ["a\x00b", "a\udcffb", ("1", "\ud800")])
def test_what_postgresql_cannot_store(trail: Trail, key: object) -> None:
    make(trail, "k text primary key")
    with pytest.raises(UsageError, match="cannot be a key"):
        history(trail.connection, "t", key)


def test_a_table_without_a_key(trail: Trail) -> None:
    make(trail, "v int", "1")
    assert len(history(trail.connection, "t")) == 1
    with pytest.raises(UsageError, match="has no primary key"):
        history(trail.connection, "t", 1)


def test_columns_that_the_key_only_includes(trail: Trail) -> None:
    make(trail, "k int, v int, primary key (k) include (v)", "1, 2")
    (event,) = history(trail.connection, "t", 1)
    assert event.row_key == "1"


class TestFormerKeys:
    def test_of_a_table_that_was_dropped(self, trail: Trail) -> None:
        make(trail, "a text, b int, primary key (a, b)", "'eu', 42", "'42', 42")
        trail.execute("drop table t")
        for key in (("eu", "42"), '["eu",42]', '["eu", 42]', ("42", 42)):
            assert len(history(trail.connection, "t", key)) == 1
        assert history(trail.connection, "t", ("us", 1)) == []

    def test_of_another_type(self, trail: Trail) -> None:
        make(trail, "k text primary key", "'A-1'", "'7'")
        trail.execute("delete from t where k = 'A-1'")
        trail.execute("alter table t alter k type int using k::int")
        assert len(history(trail.connection, "t", "A-1")) == 2
        assert len(history(trail.connection, "t", 7)) == 1

    def test_of_other_columns(self, trail: Trail) -> None:
        make(trail, "a text, b int, primary key (a, b)", "'eu', 1")
        trail.execute("alter table t drop constraint t_pkey; alter table t add primary key (b)")
        trail.audit("t")
        trail.execute("update t set a = 'us'")
        # From the new key on, the trail has no history of a row under the old one: a gap.
        before = history(trail.connection, "t", ("eu", 1))
        after = history(trail.connection, "t", 1)
        assert [event.action for event in before] == ["I", "G"]
        assert [event.action for event in after] == ["U"]

    def test_two_texts_of_one_array_are_two_keys(self, trail: Trail) -> None:
        make(trail, "k text primary key", "'[1, 2]'")
        assert history(trail.connection, "t", "[1,2]") == []


def test_a_key_that_the_trail_does_not_know(trail: Trail) -> None:
    make(trail, "k uuid primary key")
    subject = find_subject(trail.connection, "t", UUID_TEXT.upper())
    assert (subject.key, subject.known) == (UUID_TEXT, False)
