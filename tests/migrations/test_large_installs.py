"""A revision for many tables: those that are captured alike share a text, and get what each would get by itself."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from audit_toolkit.migrations import find_project, recorded_state
from tests.migrations.django_site import manage
from tests.plugins.database import Database
from tests.plugins.project import Shop
from tests.plugins.seeds import some_quick

TABLES = int(os.environ.get("LARGE_INSTALL_TABLES", "14"))

OBJECTS = """
    select p.proname, pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc'), p.proacl::text
    from pg_proc as p where p.pronamespace = 'audit'::regnamespace
    union all
    select tgrelid::regclass::text, pg_get_triggerdef(oid), tgenabled::text, null
    from pg_trigger where not tgisinternal
    union all
    select function_name, schema_name, table_name, columns::text || installed_columns::text
    from audit.captured_tables
    order by 1, 2, 3
"""


def create(database: Database, number: int) -> None:
    """Tables as they are in a real schema: alike, and each a little otherwise."""
    key = ("id int primary key", "id uuid primary key", f"t{number}_id bigint primary key",
           "a int, b text, primary key (a, b)", "name text primary key", "id int")[number % 6]  # fmt: skip
    more = ("note text", "note text, at timestamptz", "note jsonb, extra bytea", "note text, amount money")  # fmt: skip
    database.execute(f"create table t{number} ({key}, {more[number % 4]})")


def tables(shop: Shop) -> None:
    for number in range(TABLES):
        create(shop.database, number)
    shop.database.execute("""
        create table "Odd ""name" (id int primary key, note text);
        create table public.public (public int primary key, note text);
        create type mood as enum ('ok');
        create table moods (id int primary key, note mood);
        create table visits (id int, note text) partition by range (id);
        create table visits_1 partition of visits for values from (0) to (9)
    """)


@pytest.mark.parametrize("mask", some_quick([(), ("--mask", "note")], [("--mask", "note")]))
@pytest.mark.thorough
def test_shared_texts_do_what_each_table_would_do_by_itself(
    shop: Shop, mask: tuple[str, ...]
) -> None:
    tables(shop)
    words = ("--all-tables", *mask)
    answer = shop.audit("install", *words)
    assert answer.code == 0, answer.err
    (revision,) = shop.revisions()[-1:]
    text = revision.read_text("utf-8")
    shop.upgrade()
    by_revision = shop.database.execute(OBJECTS)
    shop.downgrade("000000000003")
    script = shop.audit("install", *words, "--sql").out
    assert shop.database.psql(script).returncode == 0
    assert shop.database.execute(OBJECTS) == by_revision
    shop.database.execute("drop schema audit cascade")

    offline = shop.upgrade("000000000003:head", sql=True).out
    shop.database.execute("drop schema if exists audit cascade")
    assert shop.database.psql(offline).returncode == 0
    assert shop.database.execute(OBJECTS) == by_revision
    assert text.count("create or replace function audit.@function@") > 1
    assert "create or replace function audit.capture_public__t0" not in text
    assert "create or replace function audit.capture__odd_name" in text
    compile(text, str(revision), "exec")


def test_what_is_written_is_read_again(shop: Shop) -> None:
    tables(shop)
    shop.audit("install", "--all-tables")
    shop.upgrade()
    project = find_project(run_env=False)
    for loaded in (project, find_project()):
        with loaded.reading():
            state = recorded_state(loaded.scripts, loaded.head())
        statements = {t.name: r.statements for t, r in state.captures.items() if r}
        assert any("audit.capture_public__t0()" in sql for sql in statements["t0"])
        assert not any("@" in sql for all_sql in statements.values() for sql in all_sql)
    assert shop.audit("install", "--all-tables", "--dry-run").out == "nothing to write\n"
    assert shop.audit("check").code == 0

    before = shop.database.execute(OBJECTS)
    assert shop.audit("install", "-t", "t0", "--exclude", "note").code == 0
    assert shop.audit("uninstall", "-t", "t1").code == 0
    shop.upgrade()
    shop.downgrade("-2")
    assert shop.database.execute(OBJECTS) == before


def test_one_line_a_table(shop: Shop) -> None:
    tables(shop)
    shop.audit("install", "--all-tables")
    (revision,) = shop.revisions()[-1:]
    text = revision.read_text("utf-8")
    head = text.partition("\nCAPTURE_1 = (")[0]
    for number in range(TABLES):
        assert head.count(f'"t{number}"') == 1
    imports = [n.module for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)]
    assert set(imports) <= {"typing", "alembic"}


@pytest.mark.thorough
def test_a_django_migration_shares_its_texts(site: Shop) -> None:
    for number in range(6):
        create(site.database, number)
    answer = site.audit("install", "--all-tables", "--django", "shop")
    assert answer.code == 0, answer.err
    (migration,) = Path("shop/migrations").glob("0003_*.py")
    text = migration.read_text("utf-8")
    assert text.count("create or replace function audit.@function@") > 1
    assert "create or replace function audit.capture_public__t0" not in text
    manage("migrate", "shop")
    by_migration = site.database.execute(OBJECTS)
    manage("migrate", "shop", "0001")
    script = site.audit("install", "--all-tables", "--sql").out
    assert site.database.psql(script).returncode == 0
    assert site.database.execute(OBJECTS) == by_migration


def test_few_tables_stand_whole(shop: Shop) -> None:
    shop.audit("install", "--table", "orders", "--table", "customers")
    text = shop.revisions()[-1].read_text("utf-8")
    assert "@function@" not in text
    assert "def each(" not in text
