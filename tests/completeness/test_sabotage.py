"""Who can bypass the trail and how, and what finds it. The table in `docs/completeness.md` is generated from this list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from audit_toolkit.capture import check_rule, plan_capture
from audit_toolkit.cli.check import check_database
from audit_toolkit.completeness import reconcile
from audit_toolkit.completeness.guard import plan_guard_on, read_guard
from audit_toolkit.config import TableRule, TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from tests.plugins.cluster import Server
from tests.plugins.database import Connection, Database, Databases
from tests.plugins.trail import Trail

ROLES = {"owner of a table": "sab_tables", "owner of the trail": "sab_trail", "superuser": None}
OFF = 'alter table {0} disable trigger "{1}"'
SILENT = 'alter table audit.logged_actions disable trigger all; alter table {leaf} disable trigger all; {0}; alter table audit.logged_actions enable always trigger "00_audit_append_only"; alter table {leaf} enable always trigger "00_audit_append_only"'


@dataclass(frozen=True, slots=True)
class Sabotage:
    """An act, by whom, and the kinds of findings by which it is found."""

    actor: str
    act: str
    sql: str
    check: str | None = None
    reconcile: str | None = None
    guarded: bool = False
    """Whether the guard refuses it."""

    @property
    def found_by(self) -> str:
        """In words."""
        found = [
            *([f"`audit check`: `{self.check}`"] if self.check else []),
            *([f"`audit reconcile`: `{self.reconcile}`"] if self.reconcile else []),
        ]
        return "; ".join(found) or "a seal made before"


TABLES, TRAIL, SUPERUSER = ROLES
ALL = [
    Sabotage(TABLES, "disable capture, change rows, enable it again", 'alter table shop.orders disable trigger "00_audit_row"; update shop.orders set total = 99 where id = 1; alter table shop.orders enable always trigger "00_audit_row"', "capture_interrupted", "row_differs", True),
    Sabotage(TABLES, "disable capture, and leave it disabled", "alter table shop.orders disable trigger all; delete from shop.orders where id = 1", "trigger_disabled", "row_missing", True),
    Sabotage(TABLES, "drop the capture trigger, and insert a row", 'drop trigger "00_audit_row" on shop.orders; insert into shop.orders values (9, \'x\', 1)', "trigger_missing", "row_unknown", True),
    Sabotage(TABLES, "rename the capture trigger", 'alter trigger "00_audit_row" on shop.orders rename to "zz"', "trigger_changed", None, True),
    Sabotage(TABLES, "replace the capture trigger by its own", "create function shop.nothing() returns trigger language plpgsql as 'begin return null; end'; create or replace trigger \"00_audit_row\" after insert or update or delete on shop.orders for each row execute function shop.nothing(); update shop.orders set total = 7 where id = 1", "foreign_trigger", "row_differs", True),
    Sabotage(TABLES, "drop the table, and create another with its name", "drop table shop.orders; create table shop.orders (id int primary key, status text, total numeric)", "trigger_missing", "row_missing", True),
    Sabotage(TABLES, "detach a partition, change its rows, and attach it again", "alter table shop.visits detach partition shop.visits_2026; update shop.visits_2026 set page = 'z'; alter table shop.visits attach partition shop.visits_2026 for values from ('2026-01-01') to ('2027-01-01')", None, "row_differs"),
    Sabotage(TABLES, "disable capture of one partition, and change its rows", "alter table shop.visits_2026 disable trigger all; update shop.visits_2026 set page = 'z'", "trigger_disabled", "row_differs", True),
    Sabotage(TRAIL, "disable the append-only trigger of the trail, and delete an event", SILENT.format("delete from audit.logged_actions where row_key = '1' and action = 'I'", leaf="{leaf}"), None, "event_out_of_line", True),
    Sabotage(TRAIL, "change the old row of an event", SILENT.format("update audit.logged_actions set old_row = old_row || '{{\"total\": 5}}' where row_key = '1' and action = 'U'", leaf="{leaf}"), None, "event_out_of_line", True),
    Sabotage(TRAIL, "change the new row of the last event of a row", SILENT.format("update audit.logged_actions set new_row = new_row || '{{\"total\": 5}}' where row_key = '1' and action = 'U'", leaf="{leaf}"), None, "row_differs", True),
    Sabotage(TRAIL, "insert an event that did not happen", "insert into audit.logged_actions (schema_name, table_name, action, row_key, old_row) values ('shop', 'orders', 'D', '1', '{{\"id\": 1, \"total\": 20, \"status\": \"new\"}}')", None, "row_reappeared"),
    Sabotage(TRAIL, "make a capture function record nothing", "create or replace function audit.capture_shop__orders() returns trigger language plpgsql as 'begin return null; end'; update shop.orders set total = 3 where id = 1", "function_changed", "row_differs"),
    Sabotage(TRAIL, "make the append-only trigger refuse nothing", "create or replace function audit.refuse_change() returns trigger language plpgsql as 'begin return null; end'", "schema_outdated", None, True),
    Sabotage(TRAIL, "drop a capture function", "drop function audit.capture_shop__orders() cascade; update shop.orders set total = 4 where id = 1", None, "not_reconciled", True),
    Sabotage(TRAIL, "drop a partition with events", "drop table {leaf}", "gap", "row_unknown", True),
    Sabotage(SUPERUSER, "disable capture in the catalog, and change rows", "update pg_trigger set tgenabled = 'D' where tgname = '00_audit_row'; alter table shop.orders replica identity full; update shop.orders set total = 99 where id = 1; update pg_trigger set tgenabled = 'A' where tgname = '00_audit_row'; alter table shop.orders replica identity default", "capture_interrupted", "row_differs"),
    Sabotage(SUPERUSER, "delete a row and all its events", 'alter table shop.orders disable trigger "00_audit_row"; delete from shop.orders where id = 1; alter table shop.orders enable always trigger "00_audit_row"; update audit.captured_tables set triggers = audit.triggers_of(relation_id, function_name); ' + SILENT.format("delete from audit.logged_actions where row_key = '1'", leaf="{leaf}"), None, None, True),
    Sabotage(SUPERUSER, "change who made a change", SILENT.format("update audit.logged_actions set session_user_name = 'mallory'", leaf="{leaf}"), None, None, True),
]  # fmt: skip


def known_as(sabotage: Sabotage) -> str:
    return f"{sabotage.actor}: {sabotage.act}"


SHOP = """
    create schema shop authorization sab_tables;
    set role sab_tables;
    create table shop.orders (id int primary key, status text, total numeric);
    create table shop.visits (id int, at date, page text, primary key (id, at)) partition by range (at);
    create table shop.visits_2026 partition of shop.visits for values from ('2026-01-01') to ('2027-01-01');
    reset role;
    grant usage on schema shop to sab_trail; grant select, update on all tables in schema shop to sab_trail;
"""
STORY = """
    insert into shop.orders values (1, 'new', 10), (2, 'new', 20);
    update shop.orders set total = 20 where id = 1;
    insert into shop.visits values (1, '2026-02-03', 'a');
"""


@pytest.fixture(scope="module")
def shop(cluster: Server, databases: Databases) -> Iterator[Trail]:
    """One database for all acts, each of which is rolled back."""
    name = databases.create("empty")
    dsn = databases.server.dsn(name)
    with ExitStack() as closing:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("create role sab_tables; create role sab_trail")
        closing.callback(_forget, cluster.dsn())
        closing.callback(databases.drop, name)
        with connect(dsn) as connection:
            connection.execute(SHOP.encode())
            apply(plan_trail(TrailSettings(owner="sab_trail")), connection)
        connection = closing.enter_context(psycopg.connect(dsn, autocommit=True))
        trail = Trail(Database(name, dsn, connection, databases.server.bin_dir, closing))
        for table in ("shop.orders", "shop.visits"):
            apply(plan_capture(check_rule(trail.table(table), TableRule()), "audit"), connection)
        connection.execute(STORY.encode())
        yield trail


def _forget(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("drop role sab_tables; drop role sab_trail")


def attempt(connection: Connection, sabotage: Sabotage) -> None:
    """Do it, as whoever does it."""
    [(leaf,)] = connection.execute(
        "select leaf::text from audit.leaves() where lower_bound <= now() and upper_bound > now()"
    ).fetchall()
    role = ROLES[sabotage.actor]
    if role:
        connection.execute(f"set local session authorization {role}".encode())
    connection.execute(sabotage.sql.format(leaf=leaf).encode())
    connection.execute("reset session authorization")


def found(connection: Connection) -> tuple[set[str], set[str]]:
    """The kinds of findings of `audit check`, and of `audit reconcile`."""
    connection.execute("set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'")
    checked = {finding.kind.value for finding in check_database(connection, "audit")}
    tables = reconcile(connection, [], "audit")
    return checked, {finding.kind.value for one in tables for finding in one.findings}


def test_nothing_is_found_before(shop: Trail) -> None:
    with shop.connection.transaction(force_rollback=True):
        assert found(shop.connection) == (set(), set())


@pytest.mark.parametrize("sabotage", ALL, ids=known_as)
def test_sabotage_is_found_by_what_the_table_says(shop: Trail, sabotage: Sabotage) -> None:
    with shop.connection.transaction(force_rollback=True):
        attempt(shop.connection, sabotage)
        checked, reconciled = found(shop.connection)
        if sabotage.check:
            assert sabotage.check in checked
        if sabotage.reconcile:
            assert sabotage.reconcile in reconciled
        if not (sabotage.check or sabotage.reconcile):
            assert (checked, reconciled) == (set(), set()), "something finds it: say so in the list"


@pytest.mark.parametrize("sabotage", [one for one in ALL if one.guarded], ids=known_as)
def test_the_guard_refuses_what_the_table_says(shop: Trail, sabotage: Sabotage) -> None:
    connection = shop.connection
    with connection.transaction(force_rollback=True):
        guard = read_guard(connection, "audit")
        for step in plan_guard_on(guard, "audit", reason="").steps:
            for statement in step.statements:
                connection.execute(statement.encode())
        refusal = "the guard refuses"
        with (
            pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=refusal),
            connection.transaction(),
        ):
            attempt(connection, sabotage)


def test_the_table_is_what_the_docs_publish(request: pytest.FixtureRequest) -> None:
    page = Path(__file__).parents[2] / "docs" / "completeness.md"
    before, mark, _ = page.read_text(encoding="utf-8").partition("## Who can do what\n\n")
    head = "| by | act | found by | with the guard |\n|---|---|---|---|\n"
    rows = "".join(
        f"| {one.actor} | {one.act} | {one.found_by} | {'refused' if one.guarded else 'not refused'} |\n"
        for one in ALL
    )
    wanted = f"{before}{mark}{head}{rows}"
    if request.config.getoption("--update-golden"):
        page.write_text(wanted, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == wanted, "pytest --update-golden, and read the diff"
