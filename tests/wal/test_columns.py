"""What columns were called when rows were written: told by their order, by names where that does not tell."""

from __future__ import annotations

import pytest

from audit_toolkit.wal.columns import called_by_name, called_then, places_of

INSTALLED = {1: "id", 2: "gone", 3: "secret", 4: "note"}


def called(written: str, *present: tuple[int | None, str | None]) -> dict[str, list[str]]:
    return called_then(written.split(), places_of(INSTALLED, INSTALLED, present))


@pytest.mark.parametrize(
    ("written", "present", "expected"),
    [
        ("id gone secret note", "id gone secret note", "id gone secret note"),
        ("id gone note secret", "id gone secret note", "id gone note secret"),  # and swapped back
        ("id gone secret note", "id - secret note", "id gone secret note"),
        ("id secret note", "id - secret note", "id . secret note"),
        ("id x y", "id - note secret", "id . x y"),
        ("key gone note secret", "id - secret note", "key gone note secret"),
        ("id gone secret note new", "id - secret note new", "id gone secret note"),
        ("id gone secret note", "id - secret note new newer", "id gone secret note"),
        ("id secret note new", "id - secret note new newer", "id . secret note"),
    ],
)
def test_the_order_tells(written: str, present: str, expected: str) -> None:
    names = [None if name == "-" else name for name in present.split()]
    found = called(written, *enumerate(names, 1))
    assert [found[name] for name in INSTALLED.values()] == [
        ["" if name == "." else name] for name in expected.split()
    ]


def test_what_is_not_certain_is_all_that_it_may_have_been() -> None:
    found = called("a b c d", (1, "id"), (2, None), (3, "secret"), (4, "note"), (5, "new"))
    assert found == {
        "id": ["a"], "gone": ["b"], "secret": ["", "b", "c"], "note": ["", "c", "d"],
    }  # fmt: skip
    found = called(
        "id gone note secret", (1, "id"), (2, None), (3, "secret"), (4, "note"), (5, "new")
    )
    assert found["secret"] == ["", "gone", "note"]


def test_columns_of_a_partition_stand_in_its_own_order() -> None:
    found = called("note secret id", (4, "secret"), (None, None), (3, "note"), (1, "id"))
    assert found == {"note": ["note"], "secret": ["secret"], "id": ["id"]}


def test_a_column_that_came_instead_of_a_dropped_one_has_its_name() -> None:
    places = places_of({1: "id", 2: "secret", 4: "secret"}, {}, [(1, "id"), (2, None), (4, "x")])
    assert called_then(["id", "x"], places)["secret"][0] in ("x", "")
    assert called_then(["id", "secret"], places)["secret"] == ["secret"]


def test_names_are_what_remains_where_the_order_does_not_fit() -> None:
    found = called("note id", *enumerate(INSTALLED.values(), 1))
    assert found == {"id": ["id"], "gone": [""], "secret": [""], "note": ["note"]}
    places = places_of(INSTALLED, INSTALLED, [(1, "id"), (3, "note"), (4, "secret")])
    assert called_by_name(["note", "secret"], places)["secret"] == ["", "note", "secret"]


def test_a_name_that_is_not_known_may_be_of_any_column() -> None:
    places = places_of(INSTALLED, INSTALLED, [(1, "id"), (3, "x"), (4, "secret")])
    found = called_by_name(["id", "y", "secret"], places)
    assert found["id"] == ["id", "y"]  # never renamed
    assert found["secret"] == ["", "secret", "y"]
