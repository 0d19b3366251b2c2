"""Undo in tables whose triggers write other audited tables."""

from __future__ import annotations

from typing import Any

import pytest

from audit_toolkit import trail as verbs
from audit_toolkit.trail import Selection
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail

SUMS = """
    create domain amount as numeric(10, 2) check (value >= 0);
    create type size as (width int, height int);
    create table parent (
        id int primary key, total int not null default 0, last json, paid amount, size size
    );
    create table child (id int primary key, parent int, amount int, note json, paid amount, size size);
    create function sum_up() returns trigger language plpgsql as $$
    begin
        update parent
        set (total, last, paid, size) = (
            select sum(amount) over (), note, paid, size from child
            where parent = new.parent order by id limit 1
        )
        where id = new.parent;
        return null;
    end $$;
    create trigger sum_up after insert or update on child for each row execute function sum_up();
    insert into parent values (1), (2);
    insert into child values
        (1, 1, 5, '{"a": 1}', 1.50, (1, 2)), (2, 1, 7, null, null, null), (3, 2, 4, null, null, null);
"""
CHANGES = [
    "amount = 6",
    "note = '{\"a\": 2}'",
    "paid = 1.5, amount = 9",
    "size = (3, 4)",
    "parent = 2, amount = 8, note = '[]', paid = 0, size = null",
]


def state(trail: Trail) -> list[tuple[Any, ...]]:
    return [
        *trail.execute("select c.*, note::text from child c order by id"),
        *trail.execute("select p.*, last::text from parent p order by id"),
    ]


@pytest.mark.parametrize("where", some_quick(["id = 1", "true"], ["true"]))
def test_a_trigger_that_writes_another_table(trail: Trail, where: str) -> None:
    trail.execute(SUMS)
    for table in ("parent", "child"):
        trail.audit(table)
    before = state(trail)
    for change in CHANGES:
        trail.execute(f"update child set {change} where {where}")
        changed = state(trail)
        verbs.apply_revert(trail.connection, last(trail))
        assert state(trail) == before, change
        verbs.apply_revert(trail.connection, last(trail))
        assert state(trail) == changed, change
        verbs.apply_revert(trail.connection, last(trail))


def test_columns_to_ignore_need_not_be_in_the_tables_of_triggers(trail: Trail) -> None:
    """The log that a trigger writes beside has no `updated_at`, and is set back all the same."""
    trail.execute("""
        create table log (id int primary key, what text);
        create table items (id int primary key, updated_at timestamptz);
        create function log() returns trigger language plpgsql as $$
        begin
            insert into log values (new.id, tg_op) on conflict do nothing;
            return null;
        end $$;
        create trigger log after insert on items for each row execute function log();
        insert into items values (1, now());
        delete from log;
    """)
    trail.audit("log")
    trail.audit("items")
    trail.execute("delete from items")
    undo = verbs.apply_revert(trail.connection, last(trail), ignore=["updated_at"])
    assert trail.execute("select id from items") == [(1,)]
    assert trail.execute("select * from log") == []
    assert undo.notes == ("a trigger also changed 1 other row of public.log, put back as well",)


def last(trail: Trail) -> Selection:
    return Selection(transaction=int(trail.events()[-1]["transaction_id"]))
