"""How values are printed, apart from any database."""

from __future__ import annotations

import io
from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_toolkit.cli.output import (
    print_events_as_json,
    show_value,
    show_values,
    visible,
)
from audit_toolkit.trail import Action, Event
from tests.cli.made import make_event, timeline


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "NULL"),
        ("", '""'),
        ("NULL", '"NULL"'),
        ("null", '"null"'),
        ("plain text", "plain text"),
        (" edge", '" edge"'),
        ("true", '"true"'),
        (True, "true"),
        ("1.0", '"1.0"'),
        (Decimal("1.0"), "1.0"),
        (Decimal("1E-10"), "0.0000000001"),
        ("007", "007"),
        ("[1]", '"[1]"'),
        ([1, None, "x"], '[1, null, "x"]'),
        ("a → b", '"a → b"'),
        ('"quoted"', '"\\"quoted\\""'),
        ("C:\\new", "C:\\new"),
        ("a\nb", '"a\\nb"'),
        ("a\\nb\x1b", '"a\\\\nb\\u001b"'),
        ("日本語 ü", "日本語 ü"),
        ("2026-11-01T09:00:00+00:00", "2026-11-01T09:00:00+00:00"),
    ],
)
def test_each_value_looks_like_no_other(value: object, shown: str) -> None:
    assert show_value(value) == shown


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_the_text_a_terminal_prints_it_and_nothing_else(text: str) -> None:
    assert visible(text).isprintable()
    assert show_value(text).isprintable()


@given(*[st.none() | st.text() | st.integers() | st.booleans() | st.lists(st.integers())] * 2)
def test_different_values_look_different(one: object, other: object) -> None:
    if type(one) is not type(other) or one != other:
        assert show_value(one) != show_value(other)


def test_of_two_texts_both_are_quoted_or_none() -> None:
    assert show_values("new", "paid") == ("new", "paid")
    assert show_values("new", "") == ('"new"', '""')
    assert show_values("1", 1) == ('"1"', "1")
    assert show_values(None, "") == ("NULL", '""')


def test_columns_come_in_the_order_of_the_table_and_lost_ones_last() -> None:
    text = timeline(make_event(Action.INSERT, new_row={"a": 1, "gone": 2, "b": 3}))
    assert [line.split()[1] for line in text.splitlines()[4:]] == ["b", "a", "gone"]


def test_two_long_values_are_shown_from_where_they_differ() -> None:
    text = timeline(make_event(old_row={"a": "x" * 500 + "old"}, new_row={"a": "x" * 500 + "new"}))
    assert text.splitlines()[-2:] == ["│   a  - …xxxxxxxxxxxxold", "│      + …xxxxxxxxxxxxnew"]


def test_a_long_value_is_cut_with_a_note_of_its_length() -> None:
    text = timeline(make_event(Action.DELETE, old_row={"a": "y" * 5000}))
    assert text.splitlines()[-1].endswith("yyy… (5000 characters)")
    assert max(map(len, text.splitlines())) == 100


def test_wide_characters_take_two_columns() -> None:
    line = timeline(make_event(Action.INSERT, new_row={"a": "日" * 60})).splitlines()[-1]
    assert line.endswith("日… (60 characters)")
    assert line.count("日") == (100 - len("│   a  … (60 characters)")) // 2


def test_events_are_printed_as_they_come() -> None:
    file = io.StringIO()

    def events() -> Iterator[Event]:
        yield make_event(new_row={})
        assert '"event_id": 1,' in file.getvalue()
        yield make_event(event_id=2, new_row={})

    assert print_events_as_json(events(), file) == 2


def test_a_value_of_many_megabytes_is_no_trouble() -> None:
    row = {"a": "ä\x1b" * 2_000_000}
    assert len(timeline(make_event(Action.INSERT, new_row=row))) < 1000
