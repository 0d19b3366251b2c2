"""Rows that the trail does not know from the beginning, and keys that are arrays."""

from __future__ import annotations

import json

import pytest

from tests.plugins.command import Audit
from tests.plugins.trail import Trail


def test_blame_of_a_row_that_was_deleted_before_it_was_ever_changed(
    trail: Trail, audit: Audit
) -> None:
    trail.execute("create table orders (id int primary key, total int)")
    trail.execute("insert into orders values (1, 5)")
    trail.audit("orders")
    trail.execute("delete from orders")
    shown = audit("blame", "orders", "1")
    assert shown.exit_code == 0
    assert "deleted" in shown.stdout + shown.stderr
    found = json.loads(audit("blame", "orders", "1", "--format", "json").stdout)
    columns = {each["column"]: (each["value"], each["event_id"]) for each in found["columns"]}
    assert columns == {"id": (1, None), "total": (5, None)}


@pytest.mark.parametrize("state", ["detached", "dropped"])
def test_events_that_have_left_are_told(trail: Trail, audit: Audit, state: str) -> None:
    trail.execute("create table orders (id int primary key, total int)")
    trail.audit("orders")
    trail.execute("insert into orders values (1, 5)")
    trail.execute(f"""
        do $$ declare leaf regclass; begin
            select tableoid into leaf from audit.logged_actions;
            execute 'alter table audit.logged_actions detach partition ' || leaf;
            insert into audit.partition_lifecycle (leaf, leaf_name, lower_bound, upper_bound, state, detached_at)
            values (leaf, 'logged_actions_then', '2026-01-01 00:00+00', '2026-02-01 00:00+00', '{state}', now());
        end $$
    """)
    for command in (["history", "orders", "1"], ["history", "orders"], ["blame", "orders", "1"]):
        said = audit(*command).stderr
        assert "not changed since 2026-02-01" in said
        assert "have left the database" in said


@pytest.mark.parametrize(
    ("types", "key", "typed"),
    [
        ("int[]", "'{1,2}'", ["[1, 2]", "{1,2}"]),
        ("text[]", "'{{a,\"b, c\"},{NULL,d}}'", ['[["a", "b, c"], [null, "d"]]']),
        ("timestamptz[]", "'{2026-01-01 00:00+00}'", ["{2026-01-01 01:00+01}"]),
    ],
)
def test_an_array_is_a_key(
    trail: Trail, audit: Audit, types: str, key: str, typed: list[str]
) -> None:
    trail.execute(f"create table items (k {types} primary key, v int)")
    trail.execute(f"create table pairs (n int, k {types}, v int, primary key (n, k))")
    for table in ("items", "pairs"):
        trail.audit(table)
    trail.execute(f"insert into items values ({key}, 7); insert into pairs values (1, {key}, 7)")
    trail.execute("update items set v = 8; update pairs set v = 8")
    for spelling in typed:
        is_json = spelling.startswith("[")
        pair = [f"[1, {spelling}]"] if is_json else ["1", spelling]
        for words in (["items", spelling], ["pairs", *pair]):
            found = audit("row-at", *words, "--at", "now", "--format", "json")
            assert found.exit_code == 0, found.output
            assert json.loads(found.stdout)["row"]["v"] == 8
    assert trail.execute(
        "select v from audit.row_at(null::items, (select row_key from audit.logged_actions limit 1), now())"
    ) == [(8,)]
