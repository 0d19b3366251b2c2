"""A trail in a schema whose name means something to format strings, quoting and drivers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from audit_toolkit.capture import check_rule, plan_capture, select_tables
from audit_toolkit.catalog import read_relations, read_table
from audit_toolkit.cli.app import app
from audit_toolkit.config import OnOversize, TableRule, TrailSettings
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from tests.plugins.database import Database, MakeDatabase, TemplateDatabase

SCHEMA = '50%"x %s %I'
TABLES = """
    create type mood as enum ('fine', 'low');
    create table orders (id int primary key, status text, mood mood, total numeric(8, 2));
    create table notes (id int primary key, body text);
    create table parts (id int, day date, primary key (id, day)) partition by range (day);
    create table parts_1 partition of parts for values from ('2026-01-01') to ('2027-01-01');
"""

CONTEXT = """set "audit.context" = '{"actor": "ann"}'"""
HISTORY = """
    insert into orders values (1, 'new', 'fine', 1), (2, 'new', 'low', 2);
    update orders set status = 'paid' where id = 1;
    delete from orders where id = 2;
    insert into notes values (1, 'secret');
    alter table notes rename to remarks;
    alter table remarks rename column body to words;
    alter table orders add extra text;
    alter table orders add other_mood mood default 'low';
    update orders set extra = 'x', status = 'sent' where id = 1;
    update remarks set id = 2;
    insert into parts values (1, '2026-02-02');
"""
AT_HOME = """
    update "50%""x %s %I".home set database_oid = d.oid, database_name = d.datname
    from pg_database as d where d.datname = current_database()
"""


def fill(dsn: str) -> None:
    """What the template has: tables that are audited, and a little history."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        install(connection)
        connection.execute(CONTEXT)
        connection.execute(HISTORY)


def install(connection: psycopg.Connection[Any]) -> None:
    apply(plan_trail(TrailSettings(schema=SCHEMA)), connection)
    rules = {
        "orders": TableRule(on_oversize=OnOversize.MARK, require_context="actor"),
        "notes": TableRule(exclude=("body",)),
        "parts": TableRule(),
    }
    for name, rule in rules.items():
        (relation,) = select_tables(read_relations(connection), [name], trail_schema=SCHEMA)
        table = read_table(connection, relation)
        apply(plan_capture(check_rule(table, rule), SCHEMA), connection)


@pytest.fixture
def database_of_signs(
    make_database: MakeDatabase,
    template_database: TemplateDatabase,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Database:
    database = make_database(template=template_database("signs", fill))
    database.execute(AT_HOME)
    database.execute(CONTEXT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_DATABASE_URL", database.dsn)
    return database


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--audit-schema", SCHEMA])


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("history orders 1", "paid"),
        ("history --actor ann", "remarks"),
        ("history remarks 2", "2"),
        ("show 1", "ann"),
        ("transaction {transaction}", "orders"),
        ("row-at orders 1 --at {middle}", "paid"),
        ("row-at remarks 1 --at {middle}", "1"),
        ("table-at orders --at {middle}", "paid"),
        ("diff orders --from {middle} --to {end}", "extra"),
        ("blame orders 1", "extra"),
        ("restore orders 1 --at {middle}", "paid"),
        ("restore orders 1 --at {middle} --sql", "paid"),
        ("revert --last orders 1", "extra"),
        ("revert --since {middle}", "parts"),
        ("status", "orders"),
        ("history parts", "2026-02-02"),
        ("mark before_lunch", "before_lunch"),
        ("access", "can read the trail"),
    ],
)
def test_every_command_reads_it(database_of_signs: Database, command: str, answer: str) -> None:
    ((middle, end, transaction),) = database_of_signs.execute(
        """
        select max(action_tstamp) filter (where action = 'D')::text, now()::text,
            max(transaction_id::text) from "50%""x %s %I".logged_actions
        """
    )
    words = {"{middle}": middle, "{end}": end, "{transaction}": transaction}
    result = run(*(words.get(word, word) for word in command.split()))
    assert answer in result.output
    assert result.exit_code == 0, result.output


def test_its_gaps_lives_and_refusals_are_told(database_of_signs: Database) -> None:
    at = "select now()::text"
    ((middle,),) = database_of_signs.execute(at)
    database_of_signs.execute(
        "alter table orders disable trigger all; update orders set extra = 'y'"
    )
    database_of_signs.execute('alter table orders enable always trigger "00_audit_row"')
    database_of_signs.execute("insert into orders (id) values (10)")
    assert "the row did not exist" in run("row-at", "orders", "77", "--at", middle).output
    assert "disabled" in run("row-at", "orders", "1", "--at", middle).output
    schema = '"50%""x %s %I"'.replace("%", "%%")
    for function in (
        "row_at(null::orders, '1', ",
        "table_at(null::orders, ",
        "table_at(null::parts, ",
    ):
        statement = f"select {schema}.{function}%s::timestamptz)"
        assert database_of_signs.execute(statement, [middle])
    database_of_signs.execute("drop table remarks; create table remarks (id int primary key)")
    assert (
        "capture of public.remarks is disabled" in run("table-at", "remarks", "--at", middle).output
    )
