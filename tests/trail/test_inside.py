"""Differences inside JSON values: applied to the one they give the other, and no more than needed."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_toolkit import exact_json
from audit_toolkit.trail.json_diff import (
    ABSENT,
    Inside,
    differ_inside,
    differences,
    pointer,
    show_path,
)

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([Decimal("1.0"), Decimal("1.00"), "", "a", "1"])
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "~/", ""]), inner, max_size=4)
    ),
    max_leaves=12,
)


def shown(old: object, new: object) -> list[tuple[str, object, object]]:
    return [(show_path(each.path), each.old, each.new) for each in differences(old, new)]


def apply(value: Any, found: list[Inside]) -> Any:
    """The value with these differences, from the back so that places stay what they are."""
    root = [copy.deepcopy(value)]
    for each in reversed(found):
        holder: Any = root
        path = (0, *each.path)
        for step in path[:-1]:
            holder = holder[step]
        last = path[-1]
        if each.new is ABSENT:
            assert exact_json.same(holder[last], each.old)
            del holder[last]
        elif each.old is ABSENT and isinstance(holder, list):
            holder.insert(int(last), each.new)
        else:
            assert each.old is ABSENT or exact_json.same(holder[last], each.old)
            holder[last] = each.new
    return root[0]


@given(values, values)
def test_applied_they_give_the_other_value(old: object, new: object) -> None:
    found = list(differences(old, new))
    assert bool(found) == (
        exact_json.dumps(sorted_members(old)) != exact_json.dumps(sorted_members(new))
    )
    changed = [each for each in found if ABSENT not in (each.old, each.new)]
    removed = [each for each in found if each.new is ABSENT]
    added = [each for each in found if each.old is ABSENT]
    result = apply(old, [*changed])
    result = apply(result, removed)
    for each in added:
        result = apply(result, [each])
    assert exact_json.dumps(sorted_members(result)) == exact_json.dumps(sorted_members(new))


def sorted_members(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: sorted_members(value[name]) for name in sorted(value)}
    return [sorted_members(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, [(".a.b", 1, 2)]),
        ({"a": 1}, {"a": 1, "b": [2]}, [(".b", ABSENT, [2])]),
        ({"a": 1, "b": None}, {"a": 1}, [(".b", None, ABSENT)]),
        ([{"n": 1}], [{"n": 2}], [("[0].n", 1, 2)]),
        ([1, 2, 3], [1, 9, 2, 3], [("[1]", ABSENT, 9)]),
        ([1, 2, 3], [2, 3], [("[0]", 1, ABSENT)]),
        ([1, 1], [1], [("[1]", 1, ABSENT)]),
        ([1, 2], [3], [("[0]", 1, 3), ("[1]", 2, ABSENT)]),
        ({"n": Decimal("1.0")}, {"n": Decimal("1.00")}, [(".n", Decimal("1.0"), Decimal("1.00"))]),
        ({"a": 1}, {"a": True}, [(".a", 1, True)]),
        ({"a": {}}, {"a": []}, [(".a", {}, [])]),
        ({"odd key": 1, "0": 1}, {"odd key": 2, "0": 2}, [('["odd key"]', 1, 2), ('["0"]', 1, 2)]),
    ],
)
def test_only_what_differs(old: object, new: object, expected: object) -> None:
    assert shown(old, new) == expected


def test_values_of_another_kind_are_compared_whole() -> None:
    assert differ_inside({}, {})
    assert differ_inside([], [1])
    assert not differ_inside({}, [])
    assert not differ_inside(None, {})
    assert not differ_inside("a", "b")


def test_pointers_are_those_of_rfc_6901() -> None:
    assert pointer(("a/b", "m~n", 0, "")) == "/a~1b/m~0n/0/"
    assert pointer(()) == ""


def test_depth_and_size_are_no_trouble() -> None:
    old: object = 1
    new: object = 2
    for _ in range(exact_json.DEEPEST):
        old, new = {"a": old}, {"a": new}
    (found,) = differences(old, new)
    assert len(found.path) == exact_json.DEEPEST
    wide = list(range(200_000))
    (found,) = differences(wide, [*wide, 1])
    assert found.path == (200_000,)
