"""Numbers of things in words."""

from __future__ import annotations

from audit_toolkit.plurals import counted
from audit_toolkit.seals.verify import Report


def test_one_is_singular_and_all_else_plural() -> None:
    said = [counted(number, "event") for number in (0, 1, 2, 1000)]
    assert said == ["0 events", "1 event", "2 events", "1,000 events"]


def test_some_plurals_take_es() -> None:
    assert [counted(2, thing) for thing in ("index", "match", "pass")] == [
        "2 indexes",
        "2 matches",
        "2 passes",
    ]


def test_what_follows_one_is_singular_too() -> None:
    said = [Report(verified=number).what_matches for number in (1, 6)]
    assert said == ["1 event matches its seal", "6 events match their seals"]
