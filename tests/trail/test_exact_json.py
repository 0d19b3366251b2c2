from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_toolkit import exact_json
from tests.plugins.database import Database


@pytest.mark.parametrize(
    "text",
    [
        "1.00",
        "12345678901234567890.12",
        "-0.000000000000000000001",
        "123456789012345678901234567890",
        '{"a": [1, 2.50, null, true, "1.0"], "ü": {}}',
        '"\\"\\\\"',
        "9" * 5000,
        "0." + "1" * 5000,
    ],
)
def test_what_is_read_is_written_again_digit_by_digit(text: str) -> None:
    assert exact_json.dumps(exact_json.loads(text)) == text


def test_whole_numbers_are_int_and_others_decimal() -> None:
    assert [(type(value), value) for value in exact_json.loads("[1, 1.0]")] == [
        (int, 1),
        (Decimal, Decimal("1.0")),
    ]


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1.00"), ("1", "1.0"), ("true", "1"), ('"1"', "1"), ("[0]", "[0.0]")]
)
def test_values_that_python_holds_for_equal_are_told_apart(one: str, other: str) -> None:
    assert not exact_json.same(exact_json.loads(one), exact_json.loads(other))
    assert exact_json.same(exact_json.loads(one), exact_json.loads(one))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "[NaN]", "{", "", "'a'"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        exact_json.loads(text)


def test_what_is_no_json_value_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="object is not a JSON value"):
        exact_json.dumps([object()])
    with pytest.raises(ValueError, match="not JSON compliant"):
        exact_json.dumps(float("nan"))


@pytest.mark.parametrize("deep", ["[" * 5000 + "]" * 5000, '{"a":' * 3000 + "1" + "}" * 3000])
def test_a_value_that_is_nested_too_deep_stays_text(deep: str) -> None:
    text = f'{{"a,:": "x]", "deep": {deep}, "b": [1.0, {{"c": "}}"}}], "empty": {{}}}}'
    assert exact_json.loads(text) == {
        "a,:": "x]",
        "deep": deep,
        "b": [Decimal("1.0"), {"c": "}"}],
        "empty": {},
    }


def test_many_brackets_are_no_depth() -> None:
    text = "[" + ", ".join(["[]"] * 5000) + "]"
    assert exact_json.loads(text) == [[]] * 5000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


@given(VALUES)
def test_any_value_comes_back(value: Any) -> None:
    assert exact_json.loads(exact_json.dumps(value)) == value
    assert exact_json.loads(exact_json.dumps(value, ascii_only=True)) == value
    assert exact_json.dumps(value, ascii_only=True).isascii()


def test_the_text_is_that_of_postgresql(database: Database) -> None:
    text = '{"a": [1, 2.50, -0.0001, 100000], "b": "tab\\t quote\\" \\u0001 \u007f ü", "": null}'
    (printed,) = database.execute("select %s::jsonb::text", [text])[0]
    assert exact_json.dumps(exact_json.loads(printed)) == printed
