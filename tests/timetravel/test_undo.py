"""What an undo can do, and what it says where it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any

import pytest

from audit_toolkit import trail as verbs
from audit_toolkit.attribution.console import os_actor
from audit_toolkit.errors import AuditError, PermissionDeniedError, UsageError
from audit_toolkit.trail import ConflictError, OnConflict, Selection, Undo
from tests.plugins.trail import Trail
from tests.timetravel.words import Audit, now, say

ITEMS = "create table items (id int primary key, name text, total numeric)"
TOUCHED = """
    create table items (id int primary key, total numeric, updated_at timestamptz default clock_timestamp());
    create function touch() returns trigger language plpgsql as
        'begin new.updated_at := clock_timestamp(); return new; end';
    create trigger touch before update on items for each row execute function touch()
"""


@pytest.fixture
def items(trail: Trail) -> Trail:
    trail.execute(ITEMS)
    trail.audit("items")
    say(trail, actor="alice")
    trail.execute("insert into items values (1, 'a', 1.10), (2, 'b', 2)")
    return trail


def last(trail: Trail) -> Selection:
    return Selection(transaction=int(trail.events()[-1]["transaction_id"]))


def rows(trail: Trail, table: str = "items") -> list[tuple[Any, ...]]:
    return trail.execute(f"select * from {table} order by id")


# -- touch columns -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["rule", "ignore"])
def test_a_touch_column_is_no_conflict_and_is_not_put_back(trail: Trail, how: str) -> None:
    trail.execute(TOUCHED)
    trail.audit("items", touch=("updated_at",) if how == "rule" else ())
    ignore = ("updated_at",) if how == "ignore" else ()
    trail.execute("insert into items values (1, 1)")
    for total in (2, 3):
        trail.execute(f"update items set total = {total}")
    second, first = (Selection(event_ids=(e["event_id"],)) for e in reversed(trail.events()[-2:]))
    stamp = now(trail)
    verbs.apply_revert(trail.connection, second, ignore=ignore)
    undo = verbs.apply_revert(trail.connection, first, ignore=ignore)
    assert undo.notes == ()
    assert trail.execute("select total::int, updated_at > %s from items", [stamp]) == [(1, True)]


def test_a_conflict_names_the_column_the_event_and_its_actor(trail: Trail) -> None:
    trail.execute(TOUCHED)
    trail.audit("items")
    trail.execute("insert into items values (1, 1)")
    trail.execute("update items set total = 2")
    selection = last(trail)
    say(trail, actor="bob")
    trail.execute("update items set updated_at = null")
    with pytest.raises(ConflictError) as refused:
        verbs.apply_revert(trail.connection, selection)
    [conflict] = refused.value.conflicts
    assert conflict.columns == ("updated_at",)
    assert [(event.actor, event.event_id) for event in conflict.since] == [
        ("bob", trail.events()[-1]["event_id"])
    ]
    assert "(updated_at), by bob in event" in refused.value.message
    assert "--ignore updated_at" in str(refused.value.hint)


# -- types ------------------------------------------------------------------------------------------


def test_a_domain_that_refuses_null(trail: Trail) -> None:
    trail.execute("""
        create domain word as text not null;
        create domain year as int check (value is not null and value > 1900);
        create table items (id int primary key, name word, born year, note text)
    """)
    trail.audit("items")
    trail.execute("insert into items values (1, 'a', 1990, 'x')")
    before = rows(trail)
    for change in (
        "update items set name = 'b', note = null",
        "delete from items",
        "truncate items",
    ):
        trail.execute(change)
        verbs.apply_revert(trail.connection, last(trail))
        assert rows(trail) == before


def test_identity_that_is_always_generated(trail: Trail) -> None:
    trail.execute("""
        create table items (id int primary key, number int generated always as identity, name text);
        create table kinds (id int generated always as identity primary key, name text);
        create table things (id int primary key, kind int references kinds on update cascade)
    """)
    for table in ("items", "kinds", "things"):
        trail.audit(table)
    trail.execute(
        "insert into items (id, name) values (1, 'a'); insert into kinds (name) values ('k')"
    )
    before = rows(trail), rows(trail, "kinds")
    trail.execute("update items set number = default")
    verbs.apply_revert(trail.connection, last(trail))
    assert (rows(trail), rows(trail, "kinds")) == before
    trail.execute("update kinds set id = default")
    with pytest.raises(UsageError, match="GENERATED ALWAYS AS IDENTITY"):
        verbs.apply_revert(trail.connection, last(trail))


def test_what_looks_like_a_stand_in_is_data(trail: Trail) -> None:
    trail.execute("create table items (id int primary key, doc jsonb, old json)")
    trail.audit("items")
    fake = {"audit:oversize": {"bytes": 1, "sha256": "0" * 64}}
    trail.execute(
        "insert into items values (1, %s, %s)", [json.dumps(fake), '{"audit:oversize": {}}']
    )
    trail.execute("delete from items")
    verbs.apply_revert(trail.connection, last(trail))
    assert rows(trail) == [(1, fake, {"audit:oversize": {}})]


def test_no_cast_of_a_type_is_called(trail: Trail) -> None:
    trail.execute("""
        create type mood as enum ('sad', 'glad');
        create function boom(mood) returns json language plpgsql as $$ begin raise 'called'; end $$;
        create cast (mood as json) with function boom(mood);
        create table items (id int primary key, mood mood, moods mood[])
    """)
    trail.audit("items")
    trail.execute("insert into items values (1, 'sad', '{sad,glad}')")
    before = trail.execute("select id, mood::text, moods::text from items")
    trail.execute("update items set mood = 'glad', moods = null")
    verbs.apply_revert(trail.connection, last(trail))
    assert trail.execute("select id, mood::text, moods::text from items") == before


# -- what the database refuses ----------------------------------------------------------------------


STATES = [
    "08006",
    "0A000",
    "22003",
    "22P02",
    "23502",
    "23503",
    "23505",
    "23514",
    "23P01",
    "25006",
    "28000",
    "2BP01",
    "40001",
    "40P01",
    "42501",
    "42883",
    "42P01",
    "44000",
    "53200",
    "54000",
    "55000",
    "55P03",
    "57014",
    "57P01",
    "58030",
    "F0000",
    "P0001",
    "P0002",
    "XX000",
    "ZZ999",
]


def test_every_answer_of_the_database_is_our_error(items: Trail, audit: Audit) -> None:
    items.execute("update items set total = 5 where id = 1")
    selection = last(items)
    for state in STATES:
        items.execute(f"""
            create or replace function refuse() returns trigger language plpgsql as
                $$ begin raise exception 'no way: {state}' using errcode = '{state}'; end $$;
            drop trigger if exists refuse on items;
            create trigger refuse before update on items for each row execute function refuse()
        """)
        with pytest.raises(AuditError, match=f"no way: {state}"):
            verbs.apply_revert(items.connection, selection)
        assert not items.connection.closed
    refused = audit("revert", "--transaction", str(selection.transaction), "--apply", code=1)
    assert "no way: ZZ999" in refused.stderr
    assert rows(items)[0][2] == 5


@pytest.mark.parametrize(
    "swallow",
    [
        "create rule swallow as on update to items do instead nothing",
        """create function swallow() returns trigger language plpgsql as 'begin return null; end';
           create trigger swallow before update on items for each row execute function swallow()""",
        """create function swallow() returns trigger language plpgsql as
               'begin new.total := old.total; return new; end';
           create trigger swallow before update on items for each row execute function swallow()""",
    ],
)
def test_what_was_not_done_is_an_error(items: Trail, swallow: str) -> None:
    items.execute("update items set total = 5 where id = 1")
    items.execute(swallow)
    before = items.events()
    with pytest.raises(AuditError, match=r"changed 0 of 1|as it was"):
        verbs.apply_revert(items.connection, last(items))
    assert items.events() == before


@pytest.fixture
def clerk(items: Trail) -> Iterator[Trail]:
    """The items as a role that may write them and read the trail, and sees no row."""
    role = f"clerk_{items.database.name}"
    items.execute(f"""
        create role {role};
        grant all on items to {role}; grant usage on schema audit to {role};
        grant select on all tables in schema audit to {role};
        alter table items enable row level security;
        create policy blind on items for insert with check (true);
        set role {role}
    """)
    yield items
    items.execute(f"reset role; drop owned by {role}; drop role {role}")


def test_rows_that_row_security_hides(clerk: Trail) -> None:
    clerk.execute("reset role; update items set total = 5 where id = 1")
    selection = last(clerk)
    clerk.execute(f"set role clerk_{clerk.database.name}")
    with pytest.raises(PermissionDeniedError, match="row security"):
        verbs.apply_revert(clerk.connection, selection)


@pytest.mark.parametrize("apply", [verbs.apply_restore, verbs.plan_restore])
def test_a_hidden_row_is_not_put_beside_itself(clerk: Trail, apply: Callable[..., Undo]) -> None:
    first = clerk.events()[0]["event_id"]
    with pytest.raises(PermissionDeniedError, match=r"items 1 is gone, or row security hides it"):
        apply(clerk.connection, "items", 1, event=first)
    # What somebody put there again since is hidden, too.
    clerk.execute(
        "reset role; delete from items where id = 1; insert into items values (1, 'c', 3)"
    )
    deleted = Selection(event_ids=(clerk.events()[-2]["event_id"],))
    clerk.execute(f"set role clerk_{clerk.database.name}")
    with pytest.raises(PermissionDeniedError, match="row security"):
        verbs.apply_revert(clerk.connection, deleted)
    # A row that is gone hides nothing.
    clerk.execute("reset role; delete from items where id = 1")
    clerk.execute(f"set role clerk_{clerk.database.name}")
    assert verbs.plan_restore(clerk.connection, "items", 1, event=first).rows == 1


def test_what_a_trigger_sets_instead_is_noted(trail: Trail) -> None:
    trail.execute(TOUCHED)
    trail.audit("items")
    trail.execute("insert into items values (1, 1)")
    trail.execute("update items set total = 2")
    undo = verbs.apply_revert(trail.connection, last(trail))
    assert undo.notes == ("a trigger set updated_at of public.items",)


# -- which events -------------------------------------------------------------------------------------


def test_a_table_without_a_key_does_not_block_the_rest(items: Trail, audit: Audit) -> None:
    items.execute("create table bare (v int)")
    items.audit("bare")
    items.execute("begin; insert into bare values (1); update items set total = 0; commit")
    number = str(items.events()[-1]["transaction_id"])
    refused = audit("revert", "--transaction", number, code=2)
    assert "public.bare has no primary key" in refused.stderr
    assert "--except public.bare" in refused.stderr
    audit("revert", "--transaction", number, "--except", "bare", "--apply")
    assert [total for *_, total in rows(items)] != [0, 0]
    audit("revert", "--transaction", str(items.events()[-1]["transaction_id"]), "--apply")
    audit("revert", "--transaction", number, "--table", "public.items", "--apply")
    items.execute("delete from bare")
    audit("revert", "--transaction", str(items.events()[-1]["transaction_id"]), "--apply")
    assert items.execute("table bare") == [(1,)]


def test_to_a_moment_and_to_a_mark(items: Trail, audit: Audit) -> None:
    before, moment = rows(items), now(items).isoformat()
    audit("mark", "before-import", "--reason", "in case", "--as", "carol")
    [event] = [e for e in items.events() if e["action"] == "V"]
    assert (event["row_key"], event["context"]["actor"]) == ("before-import", "carol")
    for back in (("--to-mark", "before-import"), ("--since", moment)):
        items.execute("delete from items where id = 1; update items set total = 9")
        items.execute("insert into items values (3, 'c', 3)")
        audit("revert", *back, "--apply")
        assert rows(items) == before
    assert "already" in audit("mark", "before-import", code=2).stderr
    unknown = audit("revert", "--to-mark", "nowhere", code=2)
    assert "no mark 'nowhere'" in unknown.stderr
    assert "before-import" in unknown.stderr


def test_the_last_change_of_a_row(items: Trail, audit: Audit) -> None:
    items.execute(
        "update items set total = 5 where id = 1; update items set name = 'x' where id = 2"
    )
    shown = audit("revert", "--last", "items", "1")
    assert shown.stdout.splitlines() == ["public.items 1: put back", "  total  5 → 1.10"]
    audit("revert", "--last", "items", "1", "--apply", "--as", "carol")
    assert str(rows(items)[0][2]) == "1.10"
    assert items.events()[-1]["context"]["actor"] == "carol"
    assert "must be given together" in audit("revert", "--last", code=2).stderr


def test_a_row_is_restored_with_its_children(items: Trail, audit: Audit) -> None:
    items.execute("""
        create table parts (id int primary key, item int references items on delete cascade);
        create table bolts (part int references parts on delete cascade, no int, primary key (part, no))
    """)
    items.audit("parts")
    items.audit("bolts")
    items.execute(
        "insert into parts values (7, 1), (8, 1), (9, 2); insert into bolts values (7, 1), (9, 1)"
    )
    before = [items.execute(f"table {t}") for t in ("items", "parts", "bolts")]
    moment = now(items).isoformat()
    items.execute("delete from bolts where no = 1 and part = 7; delete from items where id = 1")
    audit("restore", "items", "1", "--at", moment, "--with-children", "--apply")
    assert [sorted(items.execute(f"table {t}")) for t in ("items", "parts", "bolts")] == before
    assert items.events()[-1]["context"]["actor"] == os_actor()


def test_two_transactions_of_one_number_are_not_mixed(items: Trail, audit: Audit) -> None:
    items.execute("update items set total = 5 where id = 1")
    number = int(items.events()[-1]["transaction_id"])
    # What a restore into a fresh cluster leads to.
    items.execute(
        """insert into audit.logged_actions
               (schema_name, table_name, action, row_key, old_row, new_row, transaction_id, transaction_tstamp)
           values ('public', 'items', 'U', '2', '{"id": 2, "name": "z", "total": 2}',
               '{"id": 2, "name": "b", "total": 2}', %s::text::xid8, '2020-01-01 10:00+00')""",
        [number],
    )
    refused = audit("revert", "--transaction", str(number), "--apply", code=2)
    assert f"2 transactions have the number {number}" in refused.stderr
    assert "2020-01-01T10:00:00.000000+00:00" in refused.stderr
    start = items.events()[-2]["transaction_tstamp"].astimezone(UTC).isoformat()
    audit("revert", "--transaction", f"{number}@{start}", "--apply")
    assert [(name, str(total)) for _, name, total in rows(items)] == [("a", "1.10"), ("b", "2")]
    audit("revert", "--transaction", f"{number}@2020-01-01 10:00", "--apply")
    assert rows(items)[1][1] == "z"
    assert (
        "no single transaction"
        in audit("revert", "--transaction", f"{number}@2019-01-01", code=2).stderr
    )
    assert "not a valid transaction number" in audit("revert", "--transaction", "x", code=2).stderr


def test_columns_and_tables_that_were_renamed(items: Trail) -> None:
    items.execute("delete from items where id = 1")
    deleted = last(items)
    items.execute(
        "alter table items rename column name to title; alter table items rename to goods"
    )
    items.execute("select audit.note_changes()")
    verbs.apply_revert(items.connection, deleted)
    assert items.execute("select title from goods order by id") == [("a",), ("b",)]


def test_a_column_that_is_gone_is_not_lost_silently(items: Trail, audit: Audit) -> None:
    items.execute("delete from items where id = 1")
    deleted = str(items.events()[-1]["transaction_id"])
    items.execute("alter table items drop column name")
    refused = audit("revert", "--transaction", deleted, "--apply", code=2)
    assert "no longer has a column name" in refused.stderr
    audit("revert", "--transaction", deleted, "--ignore", "name", "--apply")
    assert [key for key, _ in rows(items)] == [1, 2]


def test_who_else_changed_a_row_is_in_the_plan(items: Trail, audit: Audit) -> None:
    items.execute("update items set total = 5 where id = 1")
    number = str(items.events()[-1]["transaction_id"])
    say(items, actor="bob")
    items.execute("update items set name = 'x' where id = 1")
    event = items.events()[-1]["event_id"]
    shown = audit("revert", "--transaction", number)
    assert shown.stdout.splitlines() == [
        "public.items 1: put back",
        "  total  5 → 1.10",
        f"  since then: bob, event {event} (name)",
    ]
    answer = json.loads(audit("revert", "--transaction", number, "--format", "json").stdout)
    assert answer["changes"][0]["since"][0]["actor"] == "bob"


# -- order --------------------------------------------------------------------------------------------


def test_values_that_rows_exchanged(trail: Trail) -> None:
    trail.execute("""
        create table items (
            id int primary key, place int unique, is_default boolean, name text unique);
        create unique index on items (is_default) where is_default
    """)
    trail.audit("items")
    trail.execute(
        "insert into items values (1, 1, true, 'a'), (2, 2, false, 'b'), (3, 3, false, 'c')"
    )
    for changes in (
        "update items set is_default = false where id = 1; update items set is_default = true where id = 2",
        (
            "update items set place = 9 where id = 1; update items set place = 1 where id = 2;"
            "update items set place = 2 where id = 1"
        ),
        "delete from items where id = 1; insert into items values (4, 1, true, 'a')",
        (
            "delete from items where id = 3; insert into items values (3, 3, false, 'd');"
            "update items set name = 'c' where id = 2"
        ),
    ):
        before = rows(trail)
        trail.execute(f"begin; {changes}; commit")
        changed = rows(trail)
        verbs.apply_revert(trail.connection, last(trail))
        assert rows(trail) == before
        verbs.apply_revert(trail.connection, last(trail))
        assert rows(trail) == changed
        verbs.apply_revert(trail.connection, last(trail))


def test_forced_over_what_came_since(items: Trail) -> None:
    items.execute("update items set total = 5 where id = 1")
    selection = last(items)
    items.execute("delete from items where id = 1")
    verbs.apply_revert(items.connection, selection, on_conflict=OnConflict.FORCE)
    assert str(rows(items)[0][2]) == "1.10"


def test_where_capture_is_off_an_undo_says_that_it_leaves_no_trace(
    items: Trail, audit: Audit
) -> None:
    items.execute("update items set name = 'x' where id = 1")
    items.execute('alter table items disable trigger "00_audit_row"')
    done = audit("revert", "--last", "items", "1", "--apply")
    off = "note: capture of public.items is off: the trail does not record what is put back there"
    assert off in done.stderr.splitlines()
    assert "to undo that" not in done.stderr
