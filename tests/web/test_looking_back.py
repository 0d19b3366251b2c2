"""What no index finds is looked for step by step, from the newest event back, and the reader says how far."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from audit_toolkit.trail import Action, Filter, read_page, read_page_within
from audit_toolkit.trail.history import audited_tables
from audit_toolkit.trail.history.read import find_scope
from audit_toolkit.web import listing
from tests.plugins.trail import Trail
from tests.web.conftest import Browse, events_of, link, text_of


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of three events, of which each takes all the time that there is."""
    monkeypatch.setattr(audited_tables, "FIRST_STEP", 3)
    monkeypatch.setattr(listing, "LOOK", 0)
    monkeypatch.setattr(listing, "LOOK_FURTHER", 0)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(
    "wanted",
    [
        {"actor": "support:joe"},
        {"actor": "nobody"},
        {"actions": frozenset({Action.DELETE})},
        {"changed": "total", "after": 4},
    ],
)
def test_steps_joined_are_the_history(shop: Trail, wanted: dict[str, object], limit: int) -> None:
    connection = shop.connection
    table = ["orders"] if "changed" in wanted else []
    scope = find_scope(connection, table, schema="audit")
    asked = Filter(newest_first=True, limit=1000, **wanted)  # type: ignore[arg-type]
    expected = [event.event_id for event in read_page(connection, scope, asked).events]
    found: list[int] = []
    border: int | None = 2**62  # with `after` alone it would go forward
    steps = 0
    while border is not None:
        part = Filter(newest_first=True, limit=limit, before=border, **wanted)  # type: ignore[arg-type]
        page = read_page_within(connection, scope, part, seconds=0)
        assert not page.is_unfinished or page.border
        found += [event.event_id for event in page.events]
        border, steps = page.border, steps + 1
    assert found == expected
    assert steps > 1


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("wanted", [{"actor": "support:joe"}, {"actor": "nobody"}, {"until": True}])
def test_steps_forward_joined_are_the_history(
    shop: Trail, wanted: dict[str, Any], limit: int
) -> None:
    connection = shop.connection
    if wanted.get("until"):
        wanted = {"until": shop.events()[6]["action_tstamp"]}
    scope = find_scope(connection, [], schema="audit")
    asked = Filter(newest_first=True, limit=1000, after=1, **wanted)
    expected = [event.event_id for event in read_page(connection, scope, asked).events]
    found: list[int] = []
    border: int | None = 1
    steps = 0
    while border is not None:
        part = Filter(newest_first=True, limit=limit, after=border, **wanted)
        page = read_page_within(connection, scope, part, seconds=0)
        assert not page.is_unfinished or page.border
        found = [event.event_id for event in page.events] + found
        border, steps = page.border, steps + 1
    assert found == expected
    assert steps > 1


@pytest.mark.usefixtures("hasty")
def test_newer_looks_forward_step_by_step(shop: Trail, browse: Browse) -> None:
    client = browse()
    address: str | None = "/person?actor=hr:eva&after=1"
    found: list[str] = []
    told = []
    while address:
        page = client.get(address)
        found = events_of(page) + found
        told.append(text_of(page))
        assert link(page, "next"), "older changes are always offered"
        address = link(page, "prev")
    expected = [
        str(event["event_id"])
        for event in shop.events()
        if (event["context"] or {}).get("actor") == "hr:eva"
    ]
    assert found == expected[::-1]
    assert "Nothing so far: newer changes have not been looked through yet." in told[0]
    assert "Look further forward" in told[0]
    assert "Look further back" not in told[0]
    assert "Look further" not in told[-1]


def test_with_time_it_is_one_page(shop: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audited_tables, "FIRST_STEP", 3)
    scope = find_scope(shop.connection, [], schema="audit")
    wanted = Filter(newest_first=True, limit=1000, actor="support:joe")
    page = read_page_within(shop.connection, scope, wanted, seconds=600)
    assert page == read_page(shop.connection, scope, wanted)


@pytest.mark.usefixtures("hasty")
def test_the_page_says_how_far_it_looked(shop: Trail, browse: Browse) -> None:
    client = browse()
    address: str | None = "/person?actor=hr:eva"
    found: list[str] = []
    told = []
    while address:
        page = client.get(address)
        found += events_of(page)
        told.append(text_of(page))
        address = link(page, "next")
    wanted = [
        str(event["event_id"])
        for event in shop.events()
        if (event["context"] or {}).get("actor") == "hr:eva"
    ]
    assert found == wanted[::-1]
    assert all("Look further back" in text for text in told[:2])
    assert any("Nothing so far" in text for text in told)
    assert "Look further back" not in told[-1]
    assert "Nothing so far" not in told[-1]


@pytest.mark.usefixtures("hasty")
def test_a_file_is_whole_however_long_it_takes(shop: Trail, browse: Browse) -> None:
    address = "/person?actor=hr:eva&limit=1000"
    found = browse().get(f"{address}&format=json").json()["events"]
    expected = [
        event["event_id"]
        for event in shop.events()
        if (event["context"] or {}).get("actor") == "hr:eva"
    ]
    assert [event["event_id"] for event in found] == expected[::-1]
    assert len(events_of(browse().get(address))) < len(expected)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "address", ["/deleted?table=orders", "/events?reason=none", "/table?table=stock&actor=no"]
)
def test_every_search_ends(browse: Browse, address: str) -> None:
    client, pages, here = browse(), 0, address
    while following := link(page := client.get(here), "next"):
        assert re.search("Look further back|Older", text_of(page))
        here, pages = following, pages + 1
    assert pages > 1


def test_wide_gaps_and_other_times_are_skipped(
    shop: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a step would have to be as wide as the gap, and take on whatever is behind it."""
    shop.execute("select setval('audit.logged_actions_event_id_seq', 9000000000000000000)")
    shop.execute("insert into stock values ('gap', 1, 1)")
    steps: list[Filter] = []

    def counted(connection: Any, scope: Any, wanted: Filter) -> Any:
        steps.append(wanted)
        return read_page(connection, scope, wanted)

    monkeypatch.setattr(audited_tables, "read_page", counted)
    scope = find_scope(shop.connection, [], schema="audit")
    wanted = Filter(newest_first=True, limit=1000, actor="support:joe")
    everything = Filter(newest_first=True, limit=1000)
    page = read_page_within(shop.connection, scope, wanted, seconds=600)
    assert page == read_page(shop.connection, scope, wanted)
    assert len(steps) == 2
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    assert not read_page_within(
        shop.connection, scope, replace(everything, until=long_ago), seconds=0
    ).is_unfinished
    far = replace(wanted, before=2**63 - 1, since=long_ago)
    assert read_page_within(shop.connection, scope, far, seconds=600).events == page.events
    assert len(steps) == 4
