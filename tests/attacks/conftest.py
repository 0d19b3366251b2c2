"""A shop whose trail belongs to a role of its own, and everybody who might bend it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from audit_toolkit.capture import check_rule, plan_capture
from audit_toolkit.config import Mask, MaskMethod, TableRule, TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.plan import apply
from audit_toolkit.schema import Limits, plan_trail, render_grants
from tests.plugins.cluster import Server
from tests.plugins.database import Database, Databases
from tests.plugins.trail import Trail

ROLES = """
    create role att_owner nologin;
    create role att_installer login;
    create role att_maintainer login;
    create role att_archiver login;
    create role att_reader login;
    create role att_table_owner login;
    create role att_app login;
    create role att_writes_all login in role pg_write_all_data;
    create role att_nobody login;
    create role att_squatter login;
"""
NAMES = [line.split()[2] for line in ROLES.strip().splitlines()]

SHOP = """
    create schema shop authorization att_table_owner;
    set role att_table_owner;
    create table shop.orders (id int primary key, status text, total numeric);
    create table shop.customers (id int primary key, name text, email text);
    create table shop.visits (at date, page text) partition by range (at);
    create table shop.visits_2026 partition of shop.visits for values from ('2026-01-01') to ('2027-01-01');
    grant usage on schema shop to att_app, att_writes_all, att_reader;
    grant select, insert, update, delete on all tables in schema shop to att_app;
    reset role;
    create schema dev authorization att_installer;
    set role att_installer;
    create table dev.jobs (id int primary key, state text);
    create table dev.parts (id int, at date) partition by range (at);
    reset role;
    create schema own authorization att_app;
    create schema evil authorization att_nobody;
"""


@pytest.fixture(autouse=True)
def _without_a_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory in which a check reads no declarations, rather than those of this project five times."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def roles(cluster: Server) -> Iterator[None]:
    """The roles; they outlive the databases of this folder, which are dropped first."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(ROLES)
    yield
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        for role in NAMES:
            connection.execute(f"drop owned by {role} cascade")
            connection.execute(f"drop role {role}")


@pytest.fixture(scope="session")
def attacked(roles: None, databases: Databases) -> Iterator[Trail]:
    """One database for all attacks, each of which is rolled back."""
    from contextlib import ExitStack

    name = databases.create("empty")
    dsn = databases.server.dsn(name)
    _prepare(dsn)
    with ExitStack() as closing:
        closing.callback(databases.drop, name)
        connection = closing.enter_context(psycopg.connect(dsn, autocommit=True))
        yield Trail(Database(name, dsn, connection, databases.server.bin_dir, closing))


def _prepare(dsn: str) -> None:
    with connect(dsn) as connection:
        connection.execute(SHOP.encode())
        apply(plan_trail(TrailSettings(owner="att_owner")), connection)
    trail = Trail(Database("", dsn, psycopg.connect(dsn, autocommit=True), None, None))  # type: ignore[arg-type]
    rules = {
        "shop.orders": TableRule(),
        "shop.customers": TableRule(mask=(Mask(column="email", method=MaskMethod.SHA256),)),
        "shop.visits": TableRule(),
        "dev.jobs": TableRule(),
    }
    for table, rule in rules.items():
        apply(plan_capture(check_rule(trail.table(table), rule), "audit"), trail.connection)
    grants = render_grants(
        "audit",
        "att_owner",
        reader="att_reader",
        maintainer="att_maintainer",
        archiver="att_archiver",
        installer="att_installer",
        captures=["capture_dev__jobs"],
        limits=Limits(retention="24 months"),
    )
    for statement in grants:
        trail.connection.execute(statement.encode())
    trail.connection.execute("insert into shop.orders values (1, 'new', 10), (2, 'new', 20)")
    trail.connection.execute("insert into shop.customers values (1, 'Ann', 'ann@example.org')")
    trail.connection.close()
