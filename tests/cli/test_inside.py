"""A change inside JSON, as text and as JSON: what differs, not both values."""

from __future__ import annotations

import json

import pytest

from tests.cli.made import make_event, timeless, timeline
from tests.plugins.command import Audit
from tests.plugins.golden import Golden
from tests.plugins.trail import Trail


@pytest.fixture
def carts(trail: Trail) -> Trail:
    trail.execute("create table carts (id int primary key, cart jsonb, tags text[], note text)")
    trail.audit("carts")
    trail.execute(
        """
        insert into carts values (
            1,
            '{"items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}], "address": {"zip": "3000"}, "total": 1.10}',
            '{new,web}', 'x'
        );
        update carts set
            cart = '{"items": [{"sku": "a", "n": 2}, {"sku": "b", "n": 2}, {"sku": "c", "n": 1}],
                     "address": {"city": "Bern"}, "total": 1.100, "odd key": "\u202e"}',
            tags = '{web}', note = 'y';
        update carts set cart = jsonb_set(cart, '{items}', '[]') || '{"total": {"net": 1}}';
        update carts set cart = '[1, 2]';
        update carts set cart = null;
        """
    )
    return trail


def test_text(audit: Audit, carts: Trail, golden: Golden) -> None:
    golden("history/inside.txt", timeless(audit("history", "carts", "1").stdout, carts))


def test_show_prints_the_same(audit: Audit, carts: Trail) -> None:
    text = audit("show", "2").stdout
    assert "│   cart.items[0].n    1 → 2\n" in text
    assert '│   cart.address.city  + "Bern"\n' in text
    assert '│   tags[0]            - "new"\n' in text


def test_diff_prints_the_same(audit: Audit, carts: Trail) -> None:
    (between,) = carts.execute(
        "select max(action_tstamp) from audit.logged_actions where event_id = 1"
    )[0]
    (end,) = carts.execute(
        "select max(action_tstamp) from audit.logged_actions where event_id = 2"
    )[0]
    found = audit("diff", "carts", "--from", between.isoformat(), "--to", end.isoformat()).stdout
    assert found.splitlines() == [
        "1 changed",
        "  cart.items[0].n: 1 → 2",
        '  cart.items[2]: + {"n": 1, "sku": "c"}',
        "  cart.total: 1.10 → 1.100",
        '  cart.address.zip: - "3000"',
        '  cart.address.city: + "Bern"',
        '  cart["odd key"]: + "\\u202e"',
        "  note: x → y",
        '  tags[0]: - "new"',
    ]


def test_json_has_pointers(audit: Audit, carts: Trail) -> None:
    events = json.loads(audit("history", "carts", "--format", "json").stdout)["events"]
    assert [event["changed_paths"] for event in events] == [
        [],
        [
            *("/cart/items/0/n", "/cart/items/2", "/cart/total", "/cart/address/zip"),
            *("/cart/address/city", "/cart/odd key", "/tags/0"),
        ],
        ["/cart/items/0", "/cart/items/1", "/cart/items/2", "/cart/total"],
        [],
        [],
    ]


def test_many_differences_are_cut() -> None:
    old, new = ({"a": {str(n): f"{side}" for n in range(500)}} for side in (1, 2))
    lines = timeline(make_event(old_row=old, new_row=new)).splitlines()
    assert lines[-1] == "│   a: 480 more inside"
    assert sum(" → " in line for line in lines) == 20
    paths = make_event(old_row=old, new_row=new).changed_paths
    assert paths == ["/a"]


def test_long_paths_and_values_fit() -> None:
    old = {"a": {"address": {"of the customer": {"third": {"fourth": "x" * 500 + "old"}}}}}
    new = {
        "a": {
            "address": {"of the customer": {"third": {"fourth": "x" * 500 + "new"}}},
            "more": "y" * 9000,
        }
    }
    lines = timeline(make_event(old_row=old, new_row=new)).splitlines()
    assert max(map(len, lines)) <= 100
    assert any('│   …f the customer"].third.fourth' in line for line in lines)
    assert lines[-1].endswith("yyy… (9004 characters)")
