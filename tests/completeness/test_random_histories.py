"""Random histories: a clean one raises no alarm, and whatever is done behind it is found.

`COMPLETENESS_SEEDS` says how many histories: `nox -s completeness-proof` runs 300.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from audit_toolkit.completeness import Outcome, Reconciliation, reconcile
from tests.completeness.conftest import Audit, tamper
from tests.plugins.trail import Trail
from tests.timetravel.histories import ITEMS, describe, happen

SEEDS = int(os.environ.get("COMPLETENESS_SEEDS", "2"))

# After the last gap: an event that is removed before one is as one that the gap explains.
SOME_EVENT = """(
    select event_id from audit.logged_actions
    where table_name = 'items' and action in ({actions})
      and event_id > coalesce((select max(event_id) from audit.logged_actions where action in ('T', 'G')), 0)
    order by md5(event_id::text || {seed}) limit 1
)"""
SABOTAGE = {
    "delete an event": "delete from audit.logged_actions where event_id = {some} returning event_id",
    "change what an event found": (
        'update audit.logged_actions set old_row = old_row || \'{{"name": "forged"}}\''
        " where event_id = {some_change} returning event_id"
    ),
    "change what an event left": (
        'update audit.logged_actions set new_row = new_row || \'{{"name": "forged"}}\''
        " where event_id = {some_arrival} returning event_id"
    ),
    "give an event to another row": (
        "update audit.logged_actions set row_key = '999' where event_id = {some} returning event_id"
    ),
    "add a deletion": (
        "insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row)"
        " select 'public', 'items', 'D', id::text, to_jsonb(items) from items order by id limit 1 returning event_id"
    ),
    "add an update": (
        "insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row, new_row)"
        " select 'public', 'items', 'U', id::text, to_jsonb(items), to_jsonb(items) || '{{\"amount\": 0.5}}'"
        " from items order by id limit 1 returning event_id"
    ),
    "change a row": "update items set name = 'forged' where id = (select min(id) from items) returning id",
    "delete a row": "delete from items where id = (select max(id) from items) returning id",
    "add a row": "insert into items (id, name) values (12345, 'forged') returning id",
}


def outcome(trail: Trail) -> Reconciliation:
    with trail.connection.transaction():
        [one] = reconcile(trail.connection, [], "audit")
    return one


def interludes(trail: Trail, audit: Audit, seed: int) -> Iterator[None]:
    """What happens to a table in the course of its life, besides changes of its rows."""
    yield
    trail.execute(f"alter table items add column extra_{seed} int default {seed}")
    yield
    trail.execute("select audit.note_changes()")
    audit("pause", "--table", "items", "--reason", "import")
    trail.execute(
        "update items set tags = '[1]' where id % 2 = 0; delete from items where id % 5 = 0"
    )
    audit("resume", "--table", "items", "--reason", "done")
    audit("baseline", "--table", "items")
    yield
    trail.execute("alter table items drop column at; alter table items add column at timestamptz")
    yield


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_clean_history_raises_no_alarm_and_sabotage_does(
    trail: Trail, audit: Audit, seed: int
) -> None:
    trail.execute(ITEMS.format(key="primary key deferrable initially deferred"))
    trail.audit("items")
    for number, _ in enumerate(interludes(trail, audit, seed)):
        for _ in happen(trail, seed * 100 + number, 6):
            pass
        one = outcome(trail)
        assert one.outcome is Outcome.EQUAL, (one, describe(trail))
    trail.execute("insert into items (id, name) values (500, 'a'), (501, 'b')")
    trail.execute(
        "update items set name = 'c' where id = 500; update items set id = 502 where id = 501"
    )
    chance = random.Random(seed)
    for what, statement in SABOTAGE.items():
        some = {
            name: SOME_EVENT.format(actions=actions, seed=chance.random())
            for name, actions in (
                ("some", "'I', 'U', 'D'"),
                ("some_change", "'U', 'D'"),
                ("some_arrival", "'I', 'U'"),
            )
        }
        sql = statement.format(**some)
        with trail.connection.transaction(force_rollback=True):
            # Behind capture, the trigger of the application would still be there.
            trail.execute('alter table items disable trigger "00_a_settle"')
            tamper(trail, sql)
            one = outcome(trail)
            assert one.outcome is Outcome.DIFFERENT, (what, sql, describe(trail))
