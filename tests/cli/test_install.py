"""`audit install` and `audit uninstall` as people meet them: what they say, write, and refuse."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from audit_toolkit.config import TableRule
from tests.plugins.database import Database, MakeDatabase
from tests.plugins.golden import Golden
from tests.plugins.project import ROOT, MakeShop, Shop


def captured(database: Database) -> list[str]:
    query = (
        "select tgrelid::regclass::text from pg_trigger where tgname = '00_audit_row' order by 1"
    )
    return [table for (table,) in database.execute(query)]


def function_of(database: Database, table: str) -> str:
    query = "select prosrc from pg_proc where proname = %s"
    return str(database.execute(query, [f"capture_public__{table}"])[0][0])


EVERY = "every insert, update, delete and truncate becomes a row of audit.logged_actions."


class TestWhatItSays:
    def test_the_files_and_what_to_type_next(self, shop: Shop) -> None:
        answer = shop.audit("install", "--table", "orders")
        trail, capture = (str(f.relative_to(shop.directory)) for f in shop.revisions())
        assert (answer.code, answer.out) == (0, "")
        assert answer.err.splitlines() == [
            f"wrote {trail}",
            f"wrote {capture}",
            "",
            f"Starts auditing public.orders: {EVERY}",
            "",
            "migrations/env.py does not import audit_toolkit.alembic; add as its first line:",
            "  import audit_toolkit.alembic  # noqa: F401",
            (
                "Without it `alembic revision --autogenerate` does not see what is declared, and with "
                "include_schemas=True it"
            ),
            "proposes to drop the trail; --edit-env adds it.",
            "",
            "next:",
            "  alembic upgrade head",
            "  audit history orders",
        ]

    def test_a_second_run_says_so_and_writes_nothing(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders", "--exclude", "note")
        before = shop.files()
        again = shop.audit("install", "--table", "public.orders", "--exclude", "note")
        revision = shop.revisions()[-1].name.split("_")[0]
        assert (again.code, again.out) == (0, "")
        assert again.err == (
            f"public.orders is already audited, with --exclude note (revision {revision}); "
            "not applied yet: alembic upgrade head\n"
        )
        shop.upgrade()
        again = shop.audit("install", "--table", "orders", "--exclude", "note")
        assert again.err == (
            f"public.orders is already audited, with --exclude note (revision {revision})\n"
        )
        assert shop.files() == before

    def test_other_options_change_the_rule_with_one_revision(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders", "--exclude", "note")
        answer = shop.audit("install", "--table", "orders", "--mask", "note=sha256")
        assert len(shop.revisions()) == 3
        assert "from --exclude note to --mask note=sha256" in answer.err

    def test_without_options_a_table_keeps_its_rule(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders", "--mask", "note")
        answer = shop.audit("install", "--table", "orders", "--upgrade")
        assert "public.orders is already audited, with --mask note" in answer.err
        assert len(shop.revisions()) == 2
        assert "'note'" in function_of(shop.database, "orders")

    def test_what_was_hidden_is_not_shown_without_a_word(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders", "--only", "status", "--mask", "status")
        answer = shop.audit("install", "--table", "orders", "--mask", "note")
        assert "No longer hidden: customer_id, status, total." in answer.err
        answer = shop.audit("install", "--table", "orders", "--capture", "row")
        assert "from --mask note to no options" in answer.err
        assert "No longer hidden: note." in answer.err

    def test_a_key_that_changed_renews_the_capture(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders", "--exclude", "note")
        shop.upgrade()
        shop.database.execute(
            "alter table orders drop constraint orders_pkey, add primary key (customer_id, id)"
        )
        answer = shop.audit("install", "--table", "orders", "--exclude", "note")
        assert "Reinstalls the capture of public.orders, with the same options" in answer.err

    @pytest.mark.parametrize(
        "damage",
        [
            'drop trigger "00_audit_row" on orders',
            "drop function audit.capture_public__orders() cascade",
            "drop schema audit cascade",
            """create or replace function audit.capture_public__orders() returns trigger
                language plpgsql security definer set search_path = pg_catalog, pg_temp
                as 'begin return null; end'""",
        ],
    )
    def test_what_the_database_has_lost_is_repaired(self, damage: str, shop: Shop) -> None:
        shop.audit("install", "--table", "orders", "--exclude", "note")
        shop.upgrade()
        body = function_of(shop.database, "orders")
        shop.database.execute(damage)
        answer = shop.audit("install", "--table", "orders", "--exclude", "note")
        assert "Repairs the capture of public.orders" in answer.err
        shop.upgrade()
        assert captured(shop.database) == ["orders"]
        assert function_of(shop.database, "orders") == body
        assert "already" in shop.audit("install", "--table", "orders").err

    def test_dry_run_tells_the_plan_and_writes_nothing(self, shop: Shop) -> None:
        before = shop.files()
        answer = shop.audit("install", "--table", "orders", "--dry-run")
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.startswith(
            "would write into migrations/versions, following 000000000003:"
        )
        assert "audit: create the trail" in answer.out
        assert "  - Its triggers on public.orders [lock: SHARE ROW EXCLUSIVE]" in answer.out
        assert shop.files() == before
        shop.audit("install", "--table", "orders")
        assert shop.audit("install", "--table", "orders", "--dry-run").out == "nothing to write\n"

    def test_several_heads_upgrade_to_our_own(self, shop: Shop) -> None:
        for name in ("left", "right"):
            (shop.versions / f"{name}.py").write_text(
                f"revision = '{name}1'\ndown_revision = '000000000003'\n"
                "def upgrade(): pass\n\n\ndef downgrade(): pass\n"
            )
        answer = shop.audit("install", "--table", "orders", "--head", "left1")
        newest = shop.revisions()[-1].name.split("_")[0]
        assert f"  alembic upgrade {newest}\n" in answer.err
        shop.upgrade(newest)
        assert captured(shop.database) == ["orders"]

    def test_every_field_of_a_rule_is_an_option(self, shop: Shop) -> None:
        helped = shop.audit("install", "--help").out
        for field in fields(TableRule):
            assert f"--{field.name.replace('_', '-')} " in helped

    @pytest.mark.parametrize("command", ["install", "uninstall", "upgrade", "init"])
    def test_help(self, command: str, shop: Shop, golden: Golden) -> None:
        golden(f"help/{command}.txt", shop.audit(command, "--help").out)


class TestTables:
    def test_several_tables(self, shop: Shop) -> None:
        assert shop.audit("install", "--table", "orders", "-t", "customers").code == 0
        assert len(shop.revisions()) == 2
        shop.upgrade()
        assert captured(shop.database) == ["customers", "orders"]

    def test_only_what_is_new_is_written(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders")
        answer = shop.audit("install", "--table", "orders", "--table", "customers")
        assert "public.orders is already audited" in answer.err
        assert "audit_capture_customers" in shop.revisions()[-1].name
        assert len(shop.revisions()) == 3

    def test_all_tables_of_a_schema(self, shop: Shop) -> None:
        shop.database.execute("create schema sales; create table sales.leads (id int primary key)")
        shop.database.execute("create view totals as select sum(total) from orders")
        shop.audit("install", "--all-tables", "--except", "customers")
        shop.audit("install", "--all-tables", "--schema", "sales")
        shop.upgrade()
        assert captured(shop.database) == ["orders", "sales.leads"]

    def test_all_tables_takes_columns_where_they_are(self, shop: Shop) -> None:
        answer = shop.audit("install", "--all-tables", "--exclude", "note", "--mask", "email")
        assert answer.code == 0, answer.err
        shop.upgrade()
        assert "'note'" in function_of(shop.database, "orders")
        assert "'email'" in function_of(shop.database, "customers")
        assert "'note'" not in function_of(shop.database, "customers")

    def test_all_tables_leaves_the_options_of_audited_tables(self, shop: Shop) -> None:
        shop.audit("install", "--table", "customers", "--mask", "email")
        answer = shop.audit("install", "--all-tables", "--log-unchanged")
        assert "public.customers is already audited, with --mask email" in answer.err
        shop.upgrade()
        assert "'email'" in function_of(shop.database, "customers")

    def test_every_named_table_needs_the_column(self, shop: Shop) -> None:
        answer = shop.audit("install", "-t", "orders", "-t", "customers", "--exclude", "note")
        assert answer.code == 2
        assert "--exclude: public.customers has no column 'note'" in answer.err

    def test_the_name_of_another_schema(self, shop: Shop) -> None:
        answer = shop.audit("install", "--table", "orders", "--audit-schema", "past")
        assert "audit history orders --audit-schema past" in answer.err
        shop.audit("install", "--table", "customers")  # goes where the first one is
        shop.upgrade()
        shop.database.execute("insert into customers values (1, 'a')")
        assert shop.database.execute("select count(*) from past.logged_actions") == [(1,)]
        assert shop.database.execute("select to_regnamespace('audit')") == [(None,)]

    def test_the_interval_is_for_the_first_run(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders", "--interval", "week")
        assert '"interval": "week"' in shop.revisions()[0].read_text()
        answer = shop.audit("install", "--table", "customers", "--interval", "day")
        assert answer.code == 2
        assert "the trail has one partition per week" in answer.err
        assert shop.audit("install", "--table", "customers", "--interval", "week").code == 0


def test_what_would_be_recorded_in_plain_text_is_said_before(shop: Shop) -> None:
    shop.database.execute(
        'create table users (pin text primary key, "Pw" text, token text, email text, api_key text)'
    )
    shop.database.execute("comment on column users.api_key is 'audit: in clear, of the tests'")
    answer = shop.audit("install", "--table", "users", "--mask", "token", "--dry-run")
    why = "looks like a secret, and its values are recorded in plain text; "
    assert [line for line in answer.err.splitlines() if why in line] == [
        f"public.users.pin {why}as part of the key, it cannot be hidden",
        f'public.users."Pw" {why}to hide them: --mask Pw',
    ]


class TestUninstall:
    def test_it_writes_the_end_and_needs_no_database_for_it(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders")
        answer = shop.audit("uninstall", "-t", "orders", "--dsn", "postgresql://127.0.0.1:1/none")
        assert answer.code == 0, answer.err
        assert "audit_release_orders" in shop.revisions()[-1].name
        assert "Stops auditing public.orders" in answer.err

    def test_it_says_what_is_not_audited(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders")
        shop.audit("uninstall", "--table", "orders")
        before = shop.files()
        again = shop.audit("uninstall", "--table", "orders")
        assert (again.code, "is not audited any more" in again.err) == (0, True)
        other = shop.audit("uninstall", "--table", "customers")
        assert (other.code, other.err) == (0, "public.customers is not audited\n")
        assert shop.files() == before

    def test_afterwards_install_begins_anew(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders", "--exclude", "note")
        shop.upgrade()
        shop.audit("uninstall", "--table", "orders")
        answer = shop.audit("install", "--table", "orders", "--exclude", "note")
        assert "Starts auditing public.orders" in answer.err
        shop.upgrade()
        assert captured(shop.database) == ["orders"]


class TestSql:
    """`--sql` needs no project, and what it prints can run again and again."""

    @pytest.fixture(autouse=True)
    def _nowhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    @pytest.fixture
    def shop(self, make_database: MakeDatabase, shop_template: str, tmp_path: Path) -> Shop:
        return Shop(tmp_path, make_database(template=shop_template))

    def sql(self, shop: Shop, *arguments: str) -> str:
        answer = shop.audit(*arguments, "--sql", "--dsn", shop.database.dsn)
        assert (answer.code, answer.err) == (0, "")
        return answer.out

    def test_it_brings_the_trail_and_the_capture(self, shop: Shop) -> None:
        script = self.sql(shop, "install", "--table", "orders")
        assert script.startswith("begin;\n")
        assert script.endswith("commit;\n")
        for _ in range(2):
            answer = shop.database.psql(script)
            assert answer.returncode == 0, answer.stderr
        shop.database.execute("insert into customers values (1, 'a')")
        shop.database.execute("insert into orders values (1, 1, 'new', 1)")
        assert shop.database.execute("select count(*) from audit.logged_actions") == [(1,)]

    def test_it_brings_no_trail_where_there_is_one(self, shop: Shop) -> None:
        shop.database.psql(self.sql(shop, "install", "--table", "orders"))
        assert "logged_actions_event_id_seq" not in self.sql(shop, "install", "-t", "customers")

    def test_it_drops_triggers_that_another_rule_had(self, shop: Shop) -> None:
        shop.database.psql(self.sql(shop, "install", "--table", "orders"))
        shop.database.psql(self.sql(shop, "install", "-t", "orders", "--capture", "statement"))
        assert captured(shop.database) == []

    def test_it_takes_capture_off(self, shop: Shop) -> None:
        shop.database.psql(self.sql(shop, "install", "--table", "orders"))
        shop.database.psql(self.sql(shop, "uninstall", "--table", "orders"))
        assert captured(shop.database) == []
        nothing = shop.audit("uninstall", "-t", "orders", "--sql", "--dsn", shop.database.dsn)
        assert (nothing.code, nothing.out) == (0, "")


class TestCaptureThatIsNotOfTheProject:
    @pytest.fixture
    def shop(self, shop: Shop) -> Shop:
        shop.database.psql(shop.audit("install", "--table", "orders", "--sql").out)
        return shop

    def test_it_is_left_alone(self, shop: Shop) -> None:
        before = shop.files()
        answer = shop.audit("install", "--table", "orders")
        assert answer.err == "public.orders is already audited, with no options (the database)\n"
        assert shop.files() == before

    def test_a_downgrade_puts_it_back(self, shop: Shop) -> None:
        body = function_of(shop.database, "orders")
        shop.audit("install", "--table", "orders", "--exclude", "note")
        shop.upgrade()
        assert function_of(shop.database, "orders") != body
        shop.downgrade("-1")
        assert function_of(shop.database, "orders") == body

    def test_a_downgrade_puts_back_what_another_version_made(self, shop: Shop) -> None:
        definition = "select pg_get_functiondef('audit.capture_public__orders'::regproc)"
        older = shop.database.execute(definition)[0][0].replace("begin\n", "begin -- older\n", 1)
        shop.database.execute(older)
        shop.database.execute(
            """do $$ begin execute format('comment on function audit.capture_public__orders() is %L',
                replace(obj_description('audit.capture_public__orders'::regproc), '"hash": "', '"hash": "0'));
            end $$"""
        )
        answer = shop.audit("install", "--table", "orders")
        assert "Reinstalls the capture of public.orders" in answer.err
        shop.upgrade()
        assert "older" not in function_of(shop.database, "orders")
        shop.downgrade("-1")
        assert shop.database.execute(definition) == [(older,)]
        assert captured(shop.database) == ["orders"]

    def test_it_can_be_uninstalled(self, shop: Shop) -> None:
        shop.audit("uninstall", "--table", "orders")
        shop.upgrade()
        assert captured(shop.database) == []
        shop.downgrade("-1")
        assert captured(shop.database) == ["orders"]


ELSEWHERE = """
url = config.get_main_option("sqlalchemy.url").replace("audit_test", "no_test")
config.set_main_option("sqlalchemy.url", url)
"""


class TestUpgrade:
    def test_it_applies_what_it_wrote(self, shop: Shop) -> None:
        answer = shop.audit("install", "--table", "orders", "--upgrade")
        assert answer.code == 0, answer.err
        assert answer.out == ""
        assert answer.err.endswith("\napplied; next:\n  audit history orders\n")
        assert captured(shop.database) == ["orders"]
        gone = shop.audit("uninstall", "--table", "orders", "--upgrade")
        assert gone.code == 0, gone.err
        assert captured(shop.database) == []

    def test_it_applies_what_was_written_before(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders")
        before = shop.files()
        assert shop.audit("install", "--table", "orders", "--upgrade").code == 0
        assert captured(shop.database) == ["orders"]
        assert shop.files() == before

    def test_a_new_project_needs_only_an_address_in_the_environment(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ini = shop.directory / "alembic.ini"
        stock = "sqlalchemy.url = driver://user:pass@localhost/dbname"
        ini.write_text(re.sub(r"sqlalchemy.url = .*", stock, ini.read_text()))
        address = dict(part.split("=", 1) for part in keyword_dsn(shop.database).split())
        for name, value in address.items():
            monkeypatch.setenv(f"PG{'DATABASE' if name == 'dbname' else name.upper()}", value)
        answer = shop.audit("install", "--table", "orders", "--upgrade")
        assert answer.code == 0, answer.err
        assert captured(shop.database) == ["orders"]

    def test_any_spelling_of_the_address_reaches_env_py(self, make_shop: MakeShop) -> None:
        shop = make_shop("async")
        answer = shop.audit(
            "install", "-t", "orders", "--upgrade", "--dsn", keyword_dsn(shop.database)
        )
        assert answer.code == 0, answer.err
        assert captured(shop.database) == ["orders"]

    @pytest.mark.thorough
    def test_a_lock_that_is_not_to_be_had(self, shop: Shop) -> None:
        holder = shop.database.connect(autocommit=False)
        holder.execute("lock table orders in share mode")
        answer = shop.audit("install", "--table", "orders", "--upgrade")
        assert answer.code == 5
        assert "error: could not obtain a lock within lock_timeout" in answer.err
        assert "; try again later: alembic upgrade head" in answer.err
        holder.rollback()
        assert shop.database.execute("select to_regnamespace('audit')") == [(None,)]
        assert shop.audit("install", "--table", "orders", "--upgrade").code == 0

    @pytest.mark.parametrize(
        ("env", "code", "said"),
        [
            ("import os; os.environ['SHOP_DB']", 1, "KeyError: 'SHOP_DB'"),
            (
                "config.set_main_option('sqlalchemy.url', 'driver://user:pass@localhost/dbname')",
                2,
                "no database address",
            ),
            (
                "config.set_main_option('sqlalchemy.url', 'postgresql+psycopg://127.0.0.1:1/x')",
                4,
                "alembic cannot connect",
            ),
            (ELSEWHERE, 4, "does not exist"),
        ],
    )
    def test_what_env_py_does_wrong(self, env: str, code: int, said: str, shop: Shop) -> None:
        file = shop.directory / "migrations" / "env.py"
        anchor = "config = context.config\n"
        file.write_text(file.read_text().replace(anchor, f"{anchor}{env}\n"))
        answer = shop.audit("install", "--table", "orders", "--upgrade")
        assert answer.code == code, answer.err
        assert said in answer.err
        assert "when that is fixed, run: alembic upgrade head" in answer.err
        assert "Traceback" not in answer.err

    def test_an_env_py_that_goes_elsewhere(
        self, shop: Shop, make_database: MakeDatabase, shop_template: str
    ) -> None:
        other = make_database(template=shop_template)
        file = shop.directory / "migrations" / "env.py"
        anchor = "config = context.config\n"
        url = other.dsn.replace("postgresql:", "postgresql+psycopg:")
        there = f"{anchor}config.set_main_option('sqlalchemy.url', {url!r})\n"
        file.write_text(file.read_text().replace(anchor, there))
        answer = shop.audit("install", "--table", "orders", "--upgrade")
        assert answer.code == 1
        assert "alembic upgrade succeeded, but the changes are not in this database" in answer.err


def keyword_dsn(database: Database) -> str:
    info = database.connection.info
    return f"host={info.host} port={info.port} user={info.user} dbname={database.name}"


@pytest.fixture
def stranger(database: Database) -> Iterator[str]:
    """A role that owns nothing; the server forgets it afterwards."""
    role = f"audit_test_{secrets.token_hex(4)}"
    database.execute(f"create role {role}")
    yield role
    database.execute(f"drop role {role}")


OBJECTS = """
    create view order_totals as select sum(total) from orders;
    create materialized view order_counts as select count(*) from orders;
    create extension if not exists postgres_fdw;
    create server elsewhere foreign data wrapper postgres_fdw;
    create foreign table far_orders (id int) server elsewhere;
    create unlogged table scratch (id int primary key);
    create table parts (id int primary key) partition by range (id);
    create table parts_1 partition of parts for values from (0) to (10);
    create table heirs () inherits (customers);
    create schema audit; create table audit.notes (id int);
"""


class TestBadInput:
    """One clear line, a hint, the right exit code, and nothing written."""

    def refused(self, shop: Shop, code: int, *arguments: str) -> str:
        before = shop.files()
        answer = shop.audit(*arguments)
        assert answer.code == code, answer.text
        assert answer.out == ""
        lines = answer.err.splitlines()
        assert lines[0].startswith("error: ")
        assert lines[1].startswith("hint: ")
        assert len(lines) == 2
        assert shop.files() == before
        return answer.err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["-t", "ordres"], ["table 'ordres' does not exist", "did you mean public.orders"]),
            (["-t", "order_totals"], ["it is a view", "the tables beneath it"]),
            (["-t", "order_counts"], ["it is a materialized view"]),
            (["-t", "far_orders"], ["it is a foreign table"]),
            (["-t", "parts_1"], ["it is a partition of public.parts", "audit public.parts"]),
            (
                ["-t", "heirs", "--capture", "statement"],
                ["part of an inheritance tree", "--capture row"],
            ),
            (["-t", "pg_catalog.pg_class"], ["one of PostgreSQL's system catalogs"]),
            (["-t", "audit.notes"], ["belongs to the audit trail itself"]),
            (["-t", "a.b.c"], ["is not the name of a table"]),
            (["-t", "orders", "--exclude", "notes"], ["no column 'notes'", "did you mean note?"]),
            (["-t", "orders", "--exclude", "id"], ["part of the primary key"]),
            (["-t", "orders", "--mask", "id"], ["part of the primary key"]),
            (["-t", "orders", "--mask", "note=md5"], ["unknown mask method 'md5'", "sha256"]),
            (["-t", "orders", "--exclude", "note", "--only", "note"], ["cannot be combined"]),
            (["-t", "parts", "--capture", "statement"], ["partitioned", "--capture row"]),
            (["-t", "orders", "--audit-schema", "pg_x"], ["cannot be the schema"]),
            ([], ["no table given", "--table"]),
            (["--all-tables", "--schema", "nowhere"], ["'nowhere' has no table", "public"]),
            (["--all-tables", "--only", "id"], ["--only names the columns of one table"]),
            (["--all-tables", "--exclude", "nix"], ["none of the tables has a column 'nix'"]),
            (["-t", "orders", "--except", "x"], ["need --all-tables"]),
            (["-t", "orders", "--all-tables"], ["cannot be combined"]),
            (
                ["--all-tables", "--schema", "public", "--schema", "other"],
                ["--schema can be given once", "tenant_*"],
            ),
            (["-t", "orders", "--version-path", "gone"], ["gone does not exist"]),
            (["-t", "orders", "--version-path", "alembic.ini"], ["is not a directory"]),
            (["-t", "orders", "--sql", "--upgrade"], ["--upgrade and --sql cannot be combined"]),
            (["-t", "orders", "--dsn", "mysql://h/db"], ["for 'mysql', not for PostgreSQL"]),
            (["-t", "orders", "--dsn", "nonsense"], ["neither a URL nor"]),
            (
                ["-t", "orders", "-c", "gone.ini"],
                ["the Alembic configuration gone.ini does not exist"],
            ),
            (["-t", "orders", "--head", "nowhere"], ["Can't locate revision"]),
        ],
    )
    def test_usage(self, arguments: list[str], said: list[str], shop: Shop) -> None:
        shop.database.execute(OBJECTS)
        message = self.refused(shop, 2, "install", *arguments)
        for part in said:
            assert part in message

    def test_a_bad_directory_is_refused_though_nothing_is_written(self, shop: Shop) -> None:
        shop.audit("install", "-t", "orders", "--upgrade")
        assert "gone does not exist" in self.refused(
            shop, 2, "install", "-t", "orders", "--version-path", "gone"
        )
        message = self.refused(shop, 2, "install", "--all-tables", "--schema", "zz*")
        assert message.endswith("schemas with tables: public\n")

    def test_a_trail_of_somebody_else(self, shop: Shop) -> None:
        shop.database.execute("create schema audit; create table audit.logged_actions (id int)")
        message = self.refused(shop, 2, "install", "-t", "orders")
        assert "audit.logged_actions exists but was not created by" in message

    def test_a_temporary_table(self, shop: Shop) -> None:
        shop.database.execute("create temporary table cart (id int primary key)")
        assert "temporary" in self.refused(shop, 2, "install", "-t", "cart")

    def test_a_table_whose_migration_is_not_applied(self, shop: Shop) -> None:
        shop.downgrade("000000000001")
        message = self.refused(shop, 2, "install", "--table", "orders")
        assert "table 'orders' does not exist" in message
        assert "not applied to this database yet: alembic upgrade head" in message

    def test_no_project(self, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        message = self.refused(shop, 2, "install", "--table", "orders")
        assert "`audit init`" in message
        assert "`alembic init migrations`" in message

    def test_several_heads(self, shop: Shop) -> None:
        for name in ("left", "right"):
            (shop.versions / f"{name}.py").write_text(
                f"revision = '{name}1'\ndown_revision = '000000000003'\n"
            )
        message = self.refused(shop, 2, "install", "--table", "orders")
        assert "2 heads: left1, right1" in message
        assert "--head" in message

    def test_a_revision_of_ours_that_was_edited(self, shop: Shop) -> None:
        shop.audit("install", "--table", "orders")
        capture = shop.revisions()[-1]
        text = capture.read_text("utf-8")
        capture.write_text(text.replace("CAPTURE_PUBLIC__ORDERS", "CAPTURED"), "utf-8")
        assert "was edited" in self.refused(shop, 2, "install", "--table", "orders")
        capture.write_text(text.replace('"captures": [', '"captures": [None, '), "utf-8")
        assert "was edited" in self.refused(shop, 2, "install", "--table", "orders")

    def test_no_permission(self, shop: Shop, stranger: str) -> None:
        dsn = f"{shop.database.dsn}?options=-crole%3D{stranger}"
        message = self.refused(shop, 1, "install", "--table", "orders", "--dsn", dsn)
        assert "permission denied to create a trigger on public.orders" in message
        shop.database.execute(f"grant trigger on orders to {stranger}")
        message = self.refused(shop, 1, "install", "--table", "orders", "--dsn", dsn)
        assert "belongs to another role" in message
        shop.database.execute(f"revoke all on orders from {stranger}")

    @pytest.mark.parametrize(
        ("dsn", "said"),
        [
            ("postgresql://postgres@127.0.0.1:1/shop", "Connection refused"),
            ("postgresql://user:s3cret@nowhere.invalid/shop", "nowhere.invalid"),
        ],
    )
    def test_no_server(self, dsn: str, said: str, shop: Shop) -> None:
        message = self.refused(shop, 4, "install", "--table", "orders", "--dsn", dsn)
        assert said in message
        assert "s3cret" not in message

    def test_no_such_database(self, shop: Shop) -> None:
        dsn = shop.database.dsn.replace("audit_test", "no_test")
        message = self.refused(shop, 4, "install", "--table", "orders", "--dsn", dsn)
        assert "does not exist" in message

    def test_an_old_server(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("audit_toolkit.server.OLDEST_MAJOR", 99)
        message = self.refused(shop, 1, "install", "--table", "orders")
        assert "is too old: the audit trail needs 99 or newer" in message

    def test_a_directory_that_cannot_be_written(self, shop: Shop) -> None:
        under = unprivileged()
        shop.versions.chmod(0o555)
        before = shop.files()
        answer = shop.run("audit_toolkit", "install", "--table", "orders", under=under)
        shop.versions.chmod(0o755)
        assert answer.code == 1
        assert f"error: cannot write to {shop.versions}: Permission denied" in answer.err
        assert shop.files() == before


def unprivileged() -> list[str]:
    """What takes from root the right to write everywhere; nothing for others."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may write everywhere, and there is no setpriv to change that")
    return [setpriv, "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"]


class TestStart:
    def test_help_imports_nothing_heavy(self) -> None:
        command = [sys.executable, "-X", "importtime", "-m", "audit_toolkit", "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
        assert "typer" in imported
        heavy = {"alembic", "sqlalchemy", "psycopg", "jinja2", "mako"}
        assert {name.partition(".")[0] for name in imported} & heavy == set()

    def test_help_loads_only_what_typer_and_python_bring(self) -> None:
        """What its start takes: timings differ by the half from one minute of a machine to the next."""
        ours = self.loaded_by("audit_toolkit.cli.app") - self.loaded_by("typer")
        brought = {name.partition(".")[0] for name in ours} - sys.stdlib_module_names
        assert brought == {"audit_toolkit"}

    def loaded_by(self, module: str) -> set[str]:
        code = f"import sys, {module}; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())


def test_a_paused_table_is_not_switched_on_by_other_options(shop: Shop) -> None:
    shop.audit("install", "--table", "orders", "--upgrade")
    dsn = ("--dsn", shop.database.dsn)
    assert shop.audit("pause", "--table", "orders", "--reason", "import", *dsn).code == 0
    before = shop.files()
    answer = shop.audit("install", "--table", "orders", "--exclude", "note")
    assert answer.code == 2
    assert "capture of public.orders is paused" in answer.err
    assert "audit resume --table public.orders --reason REASON" in answer.err
    assert shop.files() == before
    assert shop.audit("resume", "--table", "orders", "--reason", "done", *dsn).code == 0
    assert shop.audit("install", "--table", "orders", "--exclude", "note").code == 0


def test_what_stays_unaudited_is_named(shop: Shop) -> None:
    shop.database.execute("""
        create extension if not exists postgres_fdw;
        create server elsewhere foreign data wrapper postgres_fdw;
        create foreign table far_orders (id int) server elsewhere;
        create table heirs () inherits (customers)
    """)
    answer = shop.audit("install", "-t", "customers", "--dry-run")
    assert (
        "public.heirs inherits from public.customers and is not audited;"
        " to audit its rows: audit install --table public.heirs\n"
    ) in answer.err
    answer = shop.audit("install", "--all-tables", "--dry-run")
    assert answer.code == 0, answer.err
    assert "public.far_orders is skipped: it is a foreign table, " in answer.err
    assert "inherits from" not in answer.err
