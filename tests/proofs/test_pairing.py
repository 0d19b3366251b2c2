"""Old and new rows of a statement belong together, also where keys change, cascade and come back."""

from __future__ import annotations

import pytest

from audit_toolkit.config import Capture, TableRule
from tests.plugins.replay import BrokenTrailError, Replay, read_events, require_equal, require_keys
from tests.plugins.trail import Trail
from tests.proofs.bench import PLAIN, install

TREE = """
    create table nodes (
        id int primary key deferrable initially immediate,
        name text,
        unique (name)
    );
    create table edges (
        id int generated always as identity primary key,
        source text references nodes (name) on update cascade on delete cascade,
        target text references nodes (name) on update cascade on delete set null deferrable initially deferred,
        parent int references edges on delete cascade
    );
"""
STATEMENTS = (
    "insert into nodes select g, 'n' || g from generate_series(1, 40) as g",
    """
        insert into edges (source, target, parent)
        select 'n' || g, 'n' || (g * 7 % 40 + 1), nullif(g - 1, 0) from generate_series(1, 40) as g
    """,
    "update nodes set id = 41 - id, name = 'm' || id where id <= 40",
    "update nodes set id = id + 1",
    "update nodes set name = upper(name) where id % 2 = 0",
    """
        with gone as (delete from nodes where id % 10 = 3 returning *)
        update edges set target = null where source in (select name from gone)
    """,
    """
        begin; update nodes set name = name || '!'; delete from nodes where id % 10 = 4; savepoint s;
        delete from nodes; rollback to s; update edges set target = source; commit
    """,
    "begin; delete from nodes; rollback",
    "delete from edges where id = (select min(id) from edges)",
    "delete from nodes",
)


def run(trail: Trail) -> None:
    """Apply the statements; after each, both tables are what the trail says."""
    replays = {"nodes": Replay(), "edges": Replay()}
    cursor = 0
    for statement in STATEMENTS:
        trail.execute(statement)
        for table, events in read_events(trail.connection, "public", cursor).items():
            replays[table].apply(events)
            require_keys(events, ("id",))
        [(cursor,)] = trail.execute("select max(event_id) from audit.logged_actions")
        for table, replay in replays.items():
            require_equal(trail.connection, f"public.{table}", replay.rows)


@pytest.mark.parametrize("nodes", [Capture.ROW, Capture.STATEMENT])
@pytest.mark.parametrize("edges", [Capture.ROW, Capture.STATEMENT])
def test_cascades_are_paired(trail: Trail, nodes: Capture, edges: Capture) -> None:
    trail.execute(PLAIN)
    trail.execute(TREE)
    install(trail.connection, "nodes", TableRule(capture=nodes))
    install(trail.connection, "edges", TableRule(capture=edges))
    run(trail)
    assert trail.execute("select count(*) from edges where source is not null") == [(0,)]


def test_control_pairs_that_are_mixed_up_are_found(trail: Trail) -> None:
    trail.execute(PLAIN)
    trail.execute(TREE)
    install(trail.connection, "edges", TableRule())
    install(trail.connection, "nodes", TableRule(capture=Capture.STATEMENT))
    trail.execute("""
        create function audit.mixed() returns trigger language plpgsql security definer as $$
        begin
            insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row, new_row)
            select 'public', 'nodes', 'U', a.row ->> 'id', b.row, a.row
            from (select to_jsonb(o) as row, row_number() over () as number from old_rows as o) as b
            join (select to_jsonb(n) as row, row_number() over (order by n.id desc) as number from new_rows as n) as a
                using (number);
            return null;
        end $$;
        create or replace trigger "00_audit_update" after update on nodes
            referencing old table as old_rows new table as new_rows
            for each statement execute function audit.mixed()
    """)
    with pytest.raises(BrokenTrailError, match="does not name its row"):
        run(trail)
