"""The order of events by their images, on events made by hand."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from audit_toolkit.trail import Action, Event
from audit_toolkit.trail.history.ordering import WINDOW, in_order, in_order_streamed, lives


def event(
    event_id: int,
    action: str,
    key: str | None,
    old: object = None,
    new: object = None,
    *,
    old_key: str | None = None,
    transaction: int = 1,
) -> Event:
    """An event of a table with one column beside its key; `old` and `new` are values of that column."""
    return Event(
        event_id=event_id,
        action_tstamp=datetime(2026, 11, 1, tzinfo=UTC),
        transaction_id=transaction,
        schema_name="public",
        table_name="t",
        action=Action(action),
        row_key=key,
        old_row_key=old_key,
        old_row=None if old is None else {"k": old_key or key, "v": old},
        new_row=None if new is None else {"k": key, "v": new},
        context=None,
        session_user_name="app",
        role_name=None,
        application_name=None,
        client_addr=None,
        query=None,
    )


def ids(events: Iterable[Event]) -> list[int]:
    return [event.event_id for event in events]


def test_an_inverted_pair_is_turned_round() -> None:
    assert ids(in_order([event(25, "U", "1", 50, 9), event(26, "U", "1", 1, 50)])) == [26, 25]


def test_only_events_of_the_same_row_change_places() -> None:
    events = [
        event(1, "U", "2", "a", "b"),
        event(2, "U", "1", 50, 9),
        event(3, "U", "3", "c", "d"),
        event(4, "U", "1", 1, 50),
        event(5, "U", "2", "b", "c"),
    ]
    assert ids(in_order(events)) == [1, 4, 3, 2, 5]


def test_events_of_two_transactions_never_change_places() -> None:
    events = [event(1, "U", "1", 50, 9, transaction=7), event(2, "U", "1", 1, 50, transaction=8)]
    assert ids(in_order(events)) == [1, 2]


def test_transactions_may_be_interleaved() -> None:
    events = [
        event(1, "U", "1", 50, 9, transaction=7),
        event(2, "U", "2", 50, 9, transaction=8),
        event(3, "U", "1", 1, 50, transaction=7),
        event(4, "U", "2", 1, 50, transaction=8),
    ]
    assert ids(in_order(events)) == [3, 4, 1, 2]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (event(1, "I", "1", None, 1, transaction=7), [1, 3, 2]),
        (event(1, "I", "1", None, 50, transaction=7), [1, 2, 3]),
        (event(1, "U", "1", 5, 1, old_key="0", transaction=7), [1, 3, 2]),
    ],
)
def test_a_circle_begins_where_the_row_was(before: Event, expected: list[int]) -> None:
    events = [before, event(2, "U", "1", 50, 1), event(3, "U", "1", 1, 50)]
    assert ids(in_order(events)) == expected


def test_a_circle_of_which_nothing_is_known_stays() -> None:
    assert ids(in_order([event(2, "U", "1", 50, 1), event(3, "U", "1", 1, 50)])) == [2, 3]


def test_a_row_that_was_truncated_is_known_to_be_gone() -> None:
    events = [
        event(1, "I", "1", None, 5, transaction=6),
        event(2, "T", None, transaction=7),
        event(3, "I", "1", None, 5, transaction=8),
        event(4, "D", "1", 5, transaction=8),
    ]
    assert ids(in_order(events)) == [1, 2, 3, 4]


def test_delete_and_insert_are_chained_too() -> None:
    assert ids(in_order([event(1, "I", "1", None, 2), event(2, "D", "1", 1)])) == [2, 1]
    assert ids(in_order([event(1, "I", "1", None, 2), event(2, "D", "1", 2)])) == [1, 2]


def test_images_that_do_not_chain_leave_the_order_alone() -> None:
    events = [event(1, "U", "1", 1, 2), event(2, "U", "1", 7, 8), event(3, "U", "1", 3, 4)]
    assert ids(in_order(events)) == [1, 2, 3]


def test_an_empty_text_is_a_key() -> None:
    events = [
        event(1, "U", "", 50, 9),
        event(2, "U", "", 1, 50),
        event(3, "U", "a", 9, 9, old_key=""),
    ]
    assert ids(in_order(events)) == [2, 1, 3]
    assert [ids(life) for life in lives(events)] == [[2, 1, 3]]


@pytest.mark.parametrize("seed", range(50))
def test_any_shuffle_of_a_transaction_is_put_right(seed: int) -> None:
    """Values may come back, so that there are several right orders: each has to chain."""
    rng = random.Random(seed)
    values = [0]
    while len(values) < 12:
        values.append(rng.choice([v for v in range(6) if v != values[-1]]))
    changes = list(itertools.pairwise(values))
    rng.shuffle(changes)
    events = [event(1, "I", "1", None, 0, transaction=7)]
    events += [event(2 + n, "U", "1", *change) for n, change in enumerate(changes)]
    state: object = None
    for step in in_order(events):
        assert (step.old_row or {}).get("v") == state
        state = (step.new_row or {})["v"]
    assert state == values[-1]


@pytest.mark.parametrize("seed", range(20))
def test_an_order_that_is_right_already_stays(seed: int) -> None:
    rng = random.Random(seed)
    values = dict.fromkeys("abc", 0)
    events = []
    for number in range(40):
        key = rng.choice("abc")
        new = rng.choice([v for v in range(3) if v != values[key]])
        events.append(event(number, "U", key, values[key], new))
        values[key] = new
    assert ids(in_order(events)) == list(range(40))


class TestStreamed:
    def test_an_inversion_across_the_border_of_what_is_held(self) -> None:
        count = 3 * WINDOW
        events = [event(n, "I", str(n), None, 1, transaction=n) for n in range(count)]
        for border in (WINDOW, 2 * WINDOW):
            events[border - 1] = event(border - 1, "U", "x", 50, 9, transaction=-border)
            events[border] = event(border, "U", "x", 1, 50, transaction=-border)
        expected = list(range(count))
        for border in (WINDOW, 2 * WINDOW):
            expected[border - 1 : border + 1] = [border, border - 1]
        assert ids(in_order_streamed(iter(events))) == expected

    def test_no_more_is_held_than_twice_the_window(self) -> None:
        taken = 0

        def endless() -> Iterable[Event]:
            nonlocal taken
            while True:
                taken += 1
                yield event(taken, "I", str(taken), None, 1, transaction=taken)

        stream = in_order_streamed(endless())
        assert next(stream).event_id == 1
        assert taken == 2 * WINDOW


class TestLives:
    def test_a_key_that_is_used_again_belongs_to_another_row(self) -> None:
        events = [
            event(1, "I", "a", None, 1, transaction=1),
            event(2, "U", "b", 1, 1, old_key="a", transaction=2),
            event(3, "I", "a", None, 1, transaction=3),
            event(4, "U", "b", 1, 2, transaction=4),
            event(5, "U", "a", 1, 3, transaction=5),
        ]
        assert [ids(life) for life in lives(events)] == [[1, 2, 4], [3, 5]]

    def test_deleted_and_inserted_again_is_the_same_row(self) -> None:
        events = [
            event(1, "I", "a", None, 1, transaction=1),
            event(2, "D", "a", 1, transaction=2),
            event(3, "I", "a", None, 5, transaction=3),
        ]
        assert [ids(life) for life in lives(events)] == [[1, 2, 3]]

    def test_a_key_whose_row_was_deleted_can_be_taken_over(self) -> None:
        events = [
            event(1, "I", "a", None, 1, transaction=1),
            event(2, "I", "b", None, 2, transaction=1),
            event(3, "D", "b", 2, transaction=2),
            event(4, "U", "b", 1, 1, old_key="a", transaction=3),
            event(5, "U", "b", 1, 7, transaction=4),
        ]
        assert [ids(life) for life in lives(events)] == [[1, 4, 5], [2, 3]]

    @pytest.mark.parametrize("first_known", [True, False])
    @pytest.mark.parametrize("descending", [True, False])
    def test_keys_that_all_move_to_the_next(self, first_known: bool, descending: bool) -> None:
        born = [event(n, "I", str(n), None, f"row {n}", transaction=1) for n in (1, 2, 3)]
        order = (3, 2, 1) if descending else (1, 2, 3)
        moves = [
            event(10 + place, "U", str(n + 1), f"row {n}", f"row {n}", old_key=str(n))
            for place, n in enumerate(order)
        ]
        found = lives([*(born if first_known else ()), *moves])
        rows = [{(e.new_row or {})["v"] for e in life} for life in found]
        assert sorted(map(sorted, rows)) == [["row 1"], ["row 2"], ["row 3"]]

    def test_two_rows_that_swap_their_keys(self) -> None:
        events = [
            event(1, "I", "a", None, "x", transaction=1),
            event(2, "I", "b", None, "y", transaction=1),
            event(3, "U", "b", "x", "x", old_key="a", transaction=2),
            event(4, "U", "a", "y", "y", old_key="b", transaction=2),
            event(5, "U", "a", "y", "z", transaction=3),
        ]
        assert [ids(life) for life in lives(events)] == [[1, 3], [2, 4, 5]]

    def test_a_column_that_was_added_meanwhile_parts_nothing(self) -> None:
        events = [
            event(1, "I", "a", None, 1, transaction=1),
            event(2, "U", "b", "another image", 2, old_key="a", transaction=2),
            event(3, "U", "b", "and another", 3, transaction=3),
        ]
        assert [ids(life) for life in lives(events)] == [[1, 2, 3]]

    def test_a_snapshot_belongs_to_the_row(self) -> None:
        events = [
            event(1, "S", "a", None, 1, transaction=1),
            event(2, "U", "b", 1, 1, old_key="a", transaction=2),
            event(3, "S", "b", None, 1, transaction=3),
        ]
        assert [ids(life) for life in lives(events)] == [[1, 2, 3]]
