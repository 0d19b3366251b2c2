"""Running all that a check prints, in its order, leaves a clean check and loses nothing."""

from __future__ import annotations

import os
import random
import re
import shlex

import pytest

from tests.plugins.project import Shop

DRIFTS = {
    "trigger off": 'alter table orders disable trigger "00_audit_row"',
    "trigger gone": 'drop trigger "00_audit_truncate" on orders',
    "not always": 'alter table people enable trigger "00_audit_row"',
    "two secrets": "alter table people add token text, add api_secret text",
    "hidden renamed": "alter table people rename note to remark",
    "masked renamed": "alter table people rename email to mail",
    "hidden dropped": "alter table people drop card",
    "computed": "alter table people add folded text generated always as (lower(ssn)) stored",
    "renamed": "alter table orders rename to purchases",
    "definer": "alter function audit.capture_public__orders() security invoker",
    "settings": "alter function audit.capture_public__people() reset search_path",
    "helper": "alter function audit.make_leaf(text) security definer",
    "default": "alter table audit.logged_actions alter session_user_name set default 'ceo'",
    "trail trigger": """
        create function public.f() returns trigger language plpgsql as 'begin return new; end';
        create trigger zz before insert on audit.logged_actions for each row execute function public.f()
    """,
    "rule": "create rule r as on delete to audit.logged_actions_tail do instead nothing",
    "policy": "create policy p on audit.logged_actions using (true)",
    "constraint": "alter table audit.logged_actions add constraint c check (event_id > 0) not valid",
    "index gone": "drop index audit.logged_actions_old_key_idx",
    "unlogged leaf": "alter table audit.logged_actions_tail set unlogged",
    "guard off": 'alter table audit.logged_actions disable trigger "00_audit_append_only"',
    "owner only, not always": 'alter table audit.home enable trigger "00_audit_owner_only"',
    "owner only, disabled": 'alter table audit.captured_tables disable trigger "00_audit_owner_only"',
    "owner only, gone": 'drop trigger "00_audit_owner_only" on audit.maintenance',
    "owner only, another": """
        create or replace trigger "00_audit_owner_only" before insert on audit.partition_lifecycle
        for each row execute function audit.refuse_others()
    """,
    "key guard in replica mode": 'alter table audit.mask_key enable replica trigger "00_audit_append_only"',
    "leaf guard not always": 'alter table audit.logged_actions_tail enable trigger "00_audit_append_only"',
    "leaf guard gone": 'drop trigger "00_audit_append_only" on audit.logged_actions_past',
    "check gone": "alter table audit.partition_lifecycle drop constraint partition_lifecycle_check",
    "check changed": """
        alter table audit.partition_lifecycle drop constraint partition_lifecycle_state_check,
            add constraint partition_lifecycle_state_check check (true)
    """,
    "key gone": "alter table audit.maintenance drop constraint maintenance_pkey",
    "key changed": """
        alter table audit.captured_tables drop constraint captured_tables_pkey,
            add constraint captured_tables_pkey primary key (function_name, relation_id)
    """,
    "index changed": """
        drop index audit.logged_actions_transaction_idx;
        create index logged_actions_transaction_idx on audit.logged_actions (transaction_id, event_id)
    """,
    "column type": "alter table audit.partition_lifecycle alter archive type varchar(400)",
    "grants": """
        grant insert, select (query) on audit.logged_actions to public;
        grant select on audit.mask_key, audit.logged_actions_tail to public;
        grant execute on function audit.capture_public__people() to public;
        grant create on schema audit to public
    """,
    "default privileges": "alter default privileges in schema audit grant select on tables to public",
    "table beside": "create table audit.notes (x int)",
    "function beside": "create function audit.helper() returns int language sql as 'select 1'",
    "unlogged": "alter table lines set unlogged",
    "key": "alter table lines drop constraint lines_pkey, add primary key (id, part)",
    "sequence": "alter sequence audit.logged_actions_event_id_seq cycle",
    "function moved": "create schema app; alter function audit.capture_public__parts() set schema app",
    "function without comment": "comment on function audit.capture_public__stock() is null",
    "trigger renamed": 'alter trigger "00_audit_row" on customers rename to mine',
    "trigger replaced": """
        drop trigger "00_audit_row" on places;
        create function public.g() returns trigger language plpgsql as 'begin return null; end';
        create trigger "00_audit_row" after insert on places for each row execute function public.g();
        alter function audit.capture_public__places() rename to places
    """,
    "functions dropped": "drop function audit.capture_public__bins() cascade",
    "registry": "delete from audit.captured_tables where table_name = 'customers'",
    "table in the schema of the trail": "alter table audited set schema audit",
}
TABLES = """
    create table people (id int primary key, note text, email text, card text, ssn text);
    create table lines (id int primary key, part int not null);
    create table parts (id int primary key);
    create table stock (id int primary key);
    create table places (id int primary key);
    create table bins (id int primary key);
    create table audited (id serial primary key);
"""
OTHERS = ("parts", "stock", "places", "bins", "audited", "customers")


COLUMNS = (
    "select attname::text from pg_attribute where attrelid = 'people'::regclass and attnum > 0"
)
VALUES = {
    "id": "2",
    "ssn": "XYZ",
    "note": "secret note",
    "remark": "secret note",
    "email": "bea@example.org",
    "mail": "bea@example.org",
}


def made(shop: Shop) -> None:
    shop.database.execute(TABLES)
    people = ["--exclude", "note", "--mask", "email=sha256", "--mask", "card", "--mask", "ssn"]
    plain = [word for table in ("orders", "lines", *OTHERS) for word in ("-t", table)]
    for words in (plain, ["-t", "people", *people]):
        answer = shop.audit("install", *words, "--upgrade")
        assert answer.code == 0, answer.text
    shop.database.execute("""
        insert into lines values (1, 1);
        insert into people values (1, 'secret note', 'ann@example.org', '4711', 'ABC')
    """)


def remedies(shop: Shop) -> list[str]:
    found = re.findall(r"^  \w+; remedy: (.*)$", shop.audit("check").out, re.MULTILINE)
    return [remedy.replace("\\n", "\n") for remedy in found]


def carry_out(shop: Shop, remedy: str) -> None:
    program, *words = shlex.split(remedy)
    if program == "psql":
        assert words[0] == "-c"
        shop.database.execute(words[1])
    else:
        assert program == "audit", remedy
        answer = shop.audit(*words)
        assert answer.code == 0, (remedy, answer.text)


# All drifts at once; `nox -s remedies-proof` tries random selections in random order, too.
SEEDS = [None, *range(int(os.environ.get("REMEDIES_PROOF", "0")))]


@pytest.mark.parametrize("seed", SEEDS)
def test_all_remedies_together(shop: Shop, seed: int | None) -> None:
    made(shop)
    events = "select event_id, row_key, old_row, new_row from audit.logged_actions order by 1"
    before = shop.database.execute(events)
    names = list(DRIFTS)
    if seed is not None:
        chance = random.Random(seed)
        names = chance.sample(names, chance.randint(2, len(names)))
        names.sort(key="renamed".__eq__)  # last: other drifts name the table
    for name in names:
        shop.database.execute(DRIFTS[name])
    assert remedies(shop)
    for remedy in dict.fromkeys(remedies(shop)):  # several findings have one remedy
        carry_out(shop, remedy)
    found = shop.audit("check")
    assert (found.code, found.out) == (0, found.out), found.out
    assert shop.database.execute(events)[: len(before)] == before
    columns = {name for (name,) in shop.database.execute(COLUMNS)}
    chosen = {name: value for name, value in VALUES.items() if name in columns}
    if "token" in columns:
        chosen |= {"token": "tok-en", "api_secret": "tok-en"}
    shop.database.execute(
        f"insert into people ({', '.join(chosen)}) values ({', '.join(['%s'] * len(chosen))})",
        list(chosen.values()),
    )
    [(row,)] = shop.database.execute(
        "select new_row::text from audit.logged_actions where row_key = '2'"
    )
    for secret in ("secret note", "example.org", "xyz", "tok-en"):
        assert secret not in row.lower()
