"""The replayer itself: what it accepts, and above all what it does not."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.plugins.replay import BrokenTrailError, Event, Image, Replay, require_keys


def row(**columns: object) -> Image:
    return frozenset((name, str(value)) for name, value in columns.items())


A, B, C = row(id=1, n=0), row(id=1, n=1), row(id=1, n=2)


def change(number: int, old: Image | None, new: Image | None, transaction: str = "1") -> Event:
    action = "I" if old is None else "D" if new is None else "U"
    return Event(number, transaction, action, None, None, old, new)


def truncate(number: int) -> Event:
    return Event(number, "1", "T", None, None, None, None)


def replayed(*events: Event) -> Counter[Image]:
    replay = Replay()
    replay.apply(events)
    return replay.rows


def test_changes_are_chained_where_ids_are_inverted() -> None:
    assert replayed(change(1, B, C), change(2, A, B), change(3, None, A)) == Counter([C])


def test_a_row_may_pass_the_same_state_twice() -> None:
    events = (change(1, A, C), change(2, None, A), change(3, A, B), change(4, B, A))
    assert replayed(*events) == Counter([C])


def test_equal_rows_are_counted() -> None:
    assert replayed(change(1, None, A), change(2, None, A), change(3, A, B)) == Counter([A, B])


def test_an_update_may_hold_the_changed_columns_only() -> None:
    assert replayed(change(1, None, A), change(2, A, row(n=2))) == Counter([C])


def test_truncate_parts_a_transaction() -> None:
    assert replayed(change(1, None, A), truncate(2), change(3, None, B)) == Counter([B])


def test_transactions_follow_each_other_by_their_last_ids() -> None:
    other = row(id=2, n=0)
    events = (
        change(1, None, other, "7"),
        change(2, None, A, "8"),
        change(3, A, B, "7"),
    )
    assert replayed(*events) == Counter([B, other])


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([change(1, A, B)], id="an update of no row"),
        pytest.param([change(1, A, None)], id="a delete of no row"),
        pytest.param(
            [change(1, None, A), change(2, A, B), change(3, A, C)], id="a row updated twice"
        ),
        pytest.param(
            [change(1, None, A), change(2, A, None), change(3, A, None)], id="deleted twice"
        ),
        pytest.param([change(1, B, C), change(2, C, B)], id="a circle out of nothing"),
        pytest.param([change(1, None, A), truncate(2), change(3, A, B)], id="a row after truncate"),
        pytest.param([change(1, A, B, "7"), change(2, None, A, "8")], id="out of another's future"),
    ],
)
def test_a_trail_that_cannot_be_is_refused(events: list[Event]) -> None:
    with pytest.raises(BrokenTrailError):
        replayed(*events)


@pytest.mark.parametrize(
    ("named", "old_named", "fine"),
    [("1", None, True), ("2", None, False), (None, None, False), ("1", "1", False)],
)
def test_events_name_their_rows(named: str | None, old_named: str | None, fine: bool) -> None:
    event = Event(1, "1", "U", named, old_named, A, B)
    if fine:
        require_keys([event], ["id"])
        return
    with pytest.raises(BrokenTrailError):
        require_keys([event], ["id"])
