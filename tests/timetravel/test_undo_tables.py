"""Undo in tables with rules, views, row security and keys that are checked late or generated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from audit_toolkit import trail as verbs
from audit_toolkit.errors import AuditError, PermissionDeniedError
from audit_toolkit.trail import Selection
from tests.plugins.seeds import some_quick
from tests.plugins.trail import Trail


def last(trail: Trail) -> Selection:
    [(number,)] = trail.execute(
        "select transaction_id::text::bigint from audit.logged_actions order by event_id desc limit 1"
    )
    return Selection(transaction=number)


def rows(trail: Trail, table: str = "items") -> list[tuple[Any, ...]]:
    return trail.execute(f"select * from {table} order by 1")


LATE = [
    "primary key deferrable",
    "primary key deferrable initially deferred",
]
CHANGES = [
    "update items set id = id + 1",
    "update items set id = 4 - id",
    "update items set id = id + 1; update items set id = id * 2, name = name || '!'",
    "update items set id = 4 - id; delete from items where id = 2; insert into items values (2, 'z', 9)",
    "delete from items where id = 1; update items set id = id - 1; insert into items values (3, 'n', 1)",
    "update items set id = id - 1; insert into items values (3, 'n', 7); update items set place = -place",
    "update items set place = 4 - place",
    "delete from items; insert into items values (1, 'c', 3), (2, 'a', 1)",
]


@pytest.mark.parametrize("key", some_quick(LATE, LATE[1:]))
def test_a_key_that_is_checked_late(trail: Trail, key: str) -> None:
    trail.execute(f"""
        create table items (id int {key}, name text, place int unique deferrable initially deferred);
        insert into items values (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)
    """)
    trail.audit("items")
    before = rows(trail)
    for change in CHANGES:
        trail.execute(f"begin; {change}; commit")
        changed = rows(trail)
        verbs.apply_revert(trail.connection, last(trail))
        assert rows(trail) == before, change
        verbs.apply_revert(trail.connection, last(trail))
        assert rows(trail) == changed, change
        verbs.apply_revert(trail.connection, last(trail))


def test_what_was_changed_through_a_view(trail: Trail) -> None:
    trail.execute("""
        create table items (id int primary key, name text, secret text default 's');
        create table notes (item int primary key, note text);
        create view simple as select id, name from items where id < 10 with check option;
        create view both_tables as select id, name, note from items left join notes on item = id;
        create function write() returns trigger language plpgsql as $$
        begin
            update items set name = new.name where id = new.id;
            insert into notes values (new.id, new.note)
            on conflict (item) do update set note = excluded.note;
            return new;
        end $$;
        create trigger write instead of update on both_tables for each row execute function write();
        insert into items values (1, 'a'), (2, 'b')
    """)
    trail.audit("items")
    trail.audit("notes")
    before = rows(trail), rows(trail, "notes")
    for change in (
        "update simple set name = 'x'",
        "insert into simple values (3, 'c')",
        "delete from simple where id = 1",
        "update both_tables set name = name || '?', note = 'n'",
    ):
        trail.execute(change)
        verbs.apply_revert(trail.connection, last(trail))
        assert (rows(trail), rows(trail, "notes")) == before


def test_rules_that_do_more_or_something_else(trail: Trail) -> None:
    trail.execute("""
        create table items (id int primary key, name text);
        create table log (id int generated always as identity primary key, what text);
        create rule tell as on update to items do also insert into log (what) values (old.name);
        insert into items values (1, 'a'), (2, 'b')
    """)
    trail.audit("items")
    before = rows(trail)
    trail.execute("update items set name = 'x'")
    selection = last(trail)
    verbs.apply_revert(trail.connection, selection)
    assert rows(trail) == before
    verbs.apply_revert(trail.connection, last(trail))
    trail.execute("create rule keep as on update to items where new.id = 2 do instead nothing")
    events = trail.events()
    with pytest.raises(AuditError, match=r"changed 1 of 2 rows|as it was"):
        verbs.apply_revert(trail.connection, selection)
    assert trail.events() == events
    trail.execute("create rule never as on delete to items do instead nothing")
    trail.execute("insert into items values (3, 'c')")
    with pytest.raises(AuditError, match=r"changed 0 of 1|still there"):
        verbs.apply_revert(trail.connection, last(trail))


@pytest.fixture
def tenants(trail: Trail) -> Iterator[Trail]:
    role = f"tenant_{trail.database.name}"
    trail.execute(f"""
        create role {role};
        create table items (id int primary key, tenant text, name text);
        grant all on items to {role};
        grant usage on schema audit to {role};
        grant select on all tables in schema audit to {role};
        alter table items enable row level security;
        create policy own on items using (tenant = 'mine') with check (tenant = 'mine')
    """)
    trail.audit("items")
    trail.execute("insert into items values (1, 'mine', 'a'), (2, 'other', 'b')")
    yield trail
    trail.execute(f"reset role; drop owned by {role}; drop role {role}")


SECURED: list[tuple[str, str | None]] = [
    ("update items set name = 'x' where id = 1", None),
    ("delete from items where id = 1", None),
    ("insert into items values (3, 'mine', 'c')", None),
    ("update items set name = 'x' where id = 2", "row security"),
    ("delete from items where id = 2", "row-level security"),
    ("insert into items values (3, 'other', 'c')", "row security"),
    ("update items set tenant = 'mine' where id = 2", "row-level security"),
]


def test_row_security(tenants: Trail) -> None:
    for change, refused in SECURED:
        tenants.execute("begin")
        refuse_or_revert(tenants, change, refused)
        tenants.execute("rollback")


def refuse_or_revert(tenants: Trail, change: str, refused: str | None) -> None:
    before = rows(tenants)
    tenants.execute(change)
    selection, changed = last(tenants), rows(tenants)
    tenants.execute(f"set role tenant_{tenants.database.name}")
    if refused:
        with pytest.raises((PermissionDeniedError, AuditError), match=refused):
            verbs.apply_revert(tenants.connection, selection)
    else:
        verbs.apply_revert(tenants.connection, selection)
    tenants.execute("reset role")
    assert rows(tenants) == (changed if refused else before)


def test_generated_identities_and_columns(trail: Trail) -> None:
    trail.execute("""
        create table items (
            id bigint generated always as identity primary key,
            net numeric, gross numeric generated always as (net * 2) stored
        );
        create table numbers (id int primary key, number int generated always as identity unique, net numeric);
        create table parts (id int primary key, item bigint references items on delete cascade)
    """)
    trail.audit("items")
    trail.audit("parts")
    trail.audit("numbers")
    trail.execute("insert into items (net) values (1), (2), (3)")
    trail.execute("insert into numbers (id, net) values (1, 1), (2, 2), (3, 3)")
    trail.execute("insert into parts values (1, 1), (2, 2)")
    before = rows(trail), rows(trail, "parts"), rows(trail, "numbers")
    for change in (
        "delete from items where id = 2",
        "update items set net = 9; delete from items where id = 1",
        "update numbers set number = default where id = 3",
        "begin; update numbers set number = default; update numbers set net = 7; commit",
        "insert into items (net) values (4)",
        "insert into items (id, net) overriding system value values (77, 4)",
        "truncate items cascade",
    ):
        trail.execute(change)
        verbs.apply_revert(trail.connection, last(trail))
        assert (rows(trail), rows(trail, "parts"), rows(trail, "numbers")) == before, change


RENUMBERED = [
    "update items set place = -place; update items set place = 1 - place",
    """do $$ begin
        for i in reverse 60..1 loop update items set place = place + 1 where place = i; end loop;
    end $$""",
    """do $$ begin
        for i in 1..30 loop
            delete from items where id = i;
            insert into items values (i + 100, 'n', i);
        end loop;
    end $$""",
    "update items set place = -place; update items set place = case id when 1 then 60 else -place - 1 end",
    "update items set id = id + 1000; update items set id = id - 990",
]


@pytest.mark.parametrize("change", some_quick(RENUMBERED, RENUMBERED[2:4]))
def test_many_rows_in_few_statements(trail: Trail, change: str) -> None:
    trail.execute("""
        create table items (id int primary key, "Na%me" text, place int unique);
        insert into items select i, 'it''s $undo$ \\ ' || i, i from generate_series(1, 60) i
    """)
    trail.audit("items")
    before = rows(trail)
    trail.execute(f"begin; {change}; commit")
    undo = verbs.plan_revert(trail.connection, last(trail))
    assert len(undo.plan.steps) <= 4
    verbs.apply_revert(trail.connection, last(trail))
    assert rows(trail) == before
    verbs.apply_revert(trail.connection, last(trail))
    verbs.apply_revert(trail.connection, last(trail))
    assert rows(trail) == before


def test_what_triggers_change_beside(trail: Trail) -> None:
    trail.execute("""
        create table items (id int primary key, name text);
        create table log (id int generated always as identity primary key, what text);
        create table counts (name text primary key, number int);
        create function note() returns trigger language plpgsql as $$
        begin
            insert into log (what) values (tg_op);
            if tg_op = 'INSERT' then
                insert into counts values (new.name, 1)
                on conflict (name) do update set number = counts.number + 1;
            end if;
            return null;
        end $$;
        create trigger note after insert or update or delete on items
            for each row execute function note()
    """)
    for table in ("items", "log", "counts"):
        trail.audit(table)
    trail.execute("insert into items values (1, 'a'), (2, 'b')")
    tables = ("items", "counts", "log")
    before = [rows(trail, table) for table in tables]
    trail.execute(
        "begin; delete from items where id = 1; truncate counts; update items set name = 'c'; commit"
    )
    undo = verbs.apply_revert(trail.connection, last(trail))
    assert [rows(trail, table) for table in tables] == before
    assert any("of public.log, put back as well" in note for note in undo.notes)
    # Of a single event, what its triggers do is wanted.
    trail.execute("insert into items values (3, 'd')")
    [(event,)] = trail.execute(
        "select max(event_id) from audit.logged_actions where table_name = 'items'"
    )
    verbs.apply_revert(trail.connection, Selection(event_ids=(event,)))
    assert rows(trail, "log")[-1][1] == "DELETE"


def test_a_trigger_that_swallows_one_of_many(trail: Trail) -> None:
    trail.execute("""
        create table items (id int primary key, place int unique);
        insert into items select i, i from generate_series(1, 9) i
    """)
    trail.audit("items")
    trail.execute(
        "begin; update items set place = -place; update items set place = 1 - place; commit"
    )
    trail.execute("""
        create function swallow() returns trigger language plpgsql as
            $$ begin if new.id = 5 then return null; end if; return new; end $$;
        create trigger swallow before update on items for each row execute function swallow()
    """)
    events = trail.events()
    with pytest.raises(AuditError, match=r"changed 0 of 1 row of public\.items"):
        verbs.apply_revert(trail.connection, last(trail))
    assert trail.events() == events


def test_a_row_that_a_trigger_brings_again(trail: Trail) -> None:
    """Its table comes last, though its event is the newest, or the trigger would fail."""
    trail.execute("""
        create table people (id int primary key);
        create table profiles (person int primary key, theme text default 'light');
        create function follow() returns trigger language plpgsql as $$
        begin
            if tg_op = 'INSERT' then
                insert into profiles values (new.id);
            else
                delete from profiles where person = old.id;
            end if;
            return null;
        end $$;
        create trigger follow after insert or delete on people for each row execute function follow()
    """)
    trail.audit("people")
    trail.audit("profiles")
    trail.execute("insert into people values (1), (2); update profiles set theme = 'dark'")
    before = rows(trail, "people"), rows(trail, "profiles")
    trail.execute(
        "begin; delete from people where id = 1; insert into people values (3);"
        " update profiles set theme = 'blue'; commit"
    )
    verbs.apply_revert(trail.connection, last(trail))
    assert (rows(trail, "people"), rows(trail, "profiles")) == before


def test_json_null_where_null_is_not_allowed(trail: Trail) -> None:
    trail.execute("""
        create table items (
            id int primary key, a jsonb not null default 'null', b json not null, c jsonb not null unique, d jsonb
        );
        insert into items values (1, 'null', 'null', 'null', null), (2, '{}', '1', '1', '2')
    """)
    trail.audit("items")
    before = trail.execute("select items::text from items order by id")
    changes = (
        "update items set a = '1', b = '[]', c = '2' where id = 1; update items set c = 'null' where id = 2",
        "delete from items",
    )
    for change in changes:
        trail.execute(f"begin; {change}; commit")
        verbs.apply_revert(trail.connection, last(trail))
        assert trail.execute("select items::text from items order by id") == before


@pytest.mark.pg(">= 18")
def test_periods_that_others_refer_to(trail: Trail) -> None:
    trail.execute("""
        create extension btree_gist;
        create table prices (item int, during daterange, price int, primary key (item, during without overlaps));
        create table orders (
            id int primary key, item int, during daterange,
            foreign key (item, period during) references prices (item, period during)
        );
        insert into prices values (1, '[2026-01-01,2026-02-01)', 1), (1, '[2026-02-01,2026-03-01)', 2);
        insert into orders values (1, 1, '[2026-01-05,2026-02-05)')
    """)
    trail.audit("prices")
    trail.audit("orders")
    before = rows(trail, "prices"), rows(trail, "orders")
    trail.execute("""
        begin;
        update orders set during = '[2026-01-05,2026-01-06)';
        delete from prices where price = 2;
        update prices set during = '[2026-01-01,2026-01-20)';
        insert into prices values (1, '[2026-01-20,2026-04-01)', 3);
        update orders set during = '[2026-01-19,2026-03-20)';
        commit
    """)
    after = rows(trail, "prices"), rows(trail, "orders")
    verbs.apply_revert(trail.connection, last(trail))
    assert (rows(trail, "prices"), rows(trail, "orders")) == before
    verbs.apply_revert(trail.connection, last(trail))
    assert (rows(trail, "prices"), rows(trail, "orders")) == after
