from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from audit_toolkit.config import TrailSettings, Truncate
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from tests.plugins.command import Audit
from tests.plugins.database import Database
from tests.plugins.trail import Trail

ROLES = ("own_audit", "own_migrator", "own_app", "own_reader")
OWNERS = """
    select distinct pg_get_userbyid(relowner)::text from pg_class
    where relnamespace = 'audit'::regnamespace and relkind in ('r', 'p', 'S')
    union
    select pg_get_userbyid(proowner)::text from pg_proc where pronamespace = 'audit'::regnamespace
    union
    select pg_get_userbyid(nspowner)::text from pg_namespace where nspname = 'audit'
"""


@dataclass(frozen=True)
class House:
    """Roles as a careful team has them: nobody is a superuser, and the owner cannot log in."""

    trail: Trail
    migrator: psycopg.Connection[Any]
    app: psycopg.Connection[Any]
    reader: psycopg.Connection[Any]


@pytest.fixture
def house(database: Database) -> Iterator[House]:
    database.execute("""
        create role own_audit nologin;
        create role own_migrator login in role own_audit;
        create role own_app login;
        create role own_reader login;
    """)
    try:
        database.execute(f'grant create on database "{database.name}" to own_migrator, own_audit')
        migrator = database.connect(user="own_migrator")
        migrator.execute("create schema shop; grant usage on schema shop to own_app")
        migrator.execute("create table shop.orders (id int primary key, status text)")
        migrator.execute("grant select, insert, update, delete on shop.orders to own_app")
        apply(plan_trail(TrailSettings(owner="own_audit")), migrator)
        yield House(
            Trail(database),
            migrator,
            database.connect(user="own_app"),
            database.connect(user="own_reader"),
        )
    finally:
        for role in ROLES:
            database.execute(f"drop owned by {role} cascade")
        database.execute("drop role " + ", ".join(ROLES))


def audit(house: House, **rule: Any) -> None:
    from audit_toolkit.capture import plan_capture

    apply(plan_capture(house.trail.target("shop.orders", **rule), "audit"), house.migrator)


def test_everything_belongs_to_the_owner(house: House) -> None:
    audit(house)
    house.migrator.execute("select audit.ensure_partitions(9)")
    assert house.trail.execute(OWNERS) == [("own_audit",)]


def test_the_application_is_captured_and_has_no_way_in(house: House) -> None:
    audit(house)
    house.app.execute("insert into shop.orders values (1, 'new')")
    [event] = house.trail.events()
    assert event["session_user_name"] == "own_app"
    for statement in ("table audit.logged_actions", "delete from audit.logged_actions"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            house.app.execute(statement.encode())


def test_installing_again_and_changing_options_keeps_the_owner(house: House) -> None:
    audit(house)
    apply(plan_trail(TrailSettings(owner="own_audit")), house.migrator)
    audit(house, truncate=Truncate.FORBID)
    house.app.execute("insert into shop.orders values (1, 'new')")
    assert house.trail.execute(OWNERS) == [("own_audit",)]
    assert house.trail.story() == [("I", "1")]


def test_a_reader_reads_through_the_parent_alone(house: House) -> None:
    from audit_toolkit.schema import render_grants

    audit(house)
    house.app.execute("insert into shop.orders values (1, 'new')")
    for statement in render_grants("audit", "own_audit", reader="own_reader"):
        house.migrator.execute(statement.encode())
    assert house.reader.execute("select count(*) from audit.logged_actions").fetchall() == [(1,)]
    assert len(house.reader.execute("select * from audit.leaves()").fetchall()) > 3
    for statement in (
        "table audit.logged_actions_tail",
        "table audit.mask_key",
        "insert into audit.logged_actions (schema_name, table_name, action) values ('', '', 'I')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            house.reader.execute(statement.encode())


def test_the_command_line_makes_the_house(house: House, audit: Audit) -> None:
    house.trail.execute("drop schema audit cascade")
    printed = audit(
        "install",
        "--table",
        "shop.orders",
        "--owner",
        "own_audit",
        "--sql",
        "--dsn",
        house.trail.database.dsn,
    )
    assert printed.exit_code == 0, printed.stderr
    # psycopg runs a script as psql does, as long as it has no parameters.
    house.migrator.execute(printed.stdout.encode())
    assert house.trail.execute(OWNERS) == [("own_audit",)]
    house.app.execute("insert into shop.orders values (1, 'new')")
    assert house.trail.story() == [("I", "1")]
    again = audit(
        "install",
        "--table",
        "shop.orders",
        "--owner",
        "x",
        "--sql",
        "--dsn",
        house.trail.database.dsn,
    )
    assert (again.exit_code, "already exists" in again.stderr) == (2, True)
