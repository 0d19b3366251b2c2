"""A schema for each tenant: new ones captured by one command or by the application, and taken off by schema."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from audit_toolkit import capture_schema
from audit_toolkit.errors import UnknownTableError, UsageError
from tests.plugins.project import Shop

metadata = sa.MetaData()
LEADS = sa.Table(
    "leads",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("email", sa.Text),
    schema="tenant",
)
NOTES = sa.Table("notes", metadata, sa.Column("id", sa.Integer), schema="tenant")

CAPTURED = "select tgrelid::regclass::text from pg_trigger where tgname = '00_audit_row' order by 1"


def url(shop: Shop, driver: str) -> str:
    return shop.database.dsn.replace("postgresql://", f"postgresql+{driver}://")


def create_tenant(connection: sa.Connection, name: str) -> list[str]:
    connection.execute(sa.schema.CreateSchema(name))
    metadata.create_all(connection.execution_options(schema_translate_map={"tenant": name}))
    return capture_schema(connection, name, like="tenant_1")


@pytest.fixture
def tenants(shop: Shop) -> Shop:
    """A project with one tenant, captured."""
    shop.database.execute(
        "create schema tenant_1; create table tenant_1.leads (id int primary key, email text);"
        "create table tenant_1.notes (id int)"
    )
    answer = shop.audit("install", "-t", "tenant_1.leads", "--mask", "email")
    assert answer.code == 0, answer.err
    shop.upgrade()
    return shop


def test_with_the_transaction_that_makes_the_tenant(tenants: Shop) -> None:
    engine = sa.create_engine(url(tenants, "psycopg"))
    with engine.begin() as connection:
        assert create_tenant(connection, "tenant_2") == ["tenant_2.leads"]
    with engine.connect() as connection:
        create_tenant(connection, "tenant_3")  # and never committed
    with Session(engine) as session:
        assert capture_schema(session, "tenant_2", like="tenant_1") == []
        translated = {"schema_translate_map": {"tenant": "tenant_2"}}
        session.execute(LEADS.insert(), {"id": 7, "email": "a@b"}, execution_options=translated)
        session.commit()
    engine.dispose()
    assert tenants.database.execute(CAPTURED) == [("tenant_1.leads",), ("tenant_2.leads",)]
    assert tenants.database.execute(
        "select schema_name, table_name, row_key, new_row ->> 'email' from audit.logged_actions"
    ) == [("tenant_2", "leads", "7", "[redacted]")]
    assert tenants.audit("check").code == 0


def test_asynchronously_and_with_psycopg(tenants: Shop) -> None:
    async def create() -> None:
        engine = create_async_engine(url(tenants, "asyncpg"))
        async with engine.begin() as connection:
            await connection.run_sync(create_tenant, "tenant_2")
        await engine.dispose()

    asyncio.run(create())
    tenants.database.execute("create schema tenant_3")
    with psycopg.connect(tenants.database.dsn) as connection:
        connection.execute("create table tenant_3.leads (id int primary key, email text)")
        assert capture_schema(connection, "tenant_3", like="tenant_1") == ["tenant_3.leads"]
        connection.rollback()
    assert tenants.database.execute(CAPTURED) == [("tenant_1.leads",), ("tenant_2.leads",)]
    with pytest.raises(UsageError, match="through AsyncConnection"):
        capture_schema(create_async_engine(url(tenants, "asyncpg")).connect(), "x", like="y")  # type: ignore[arg-type]


def test_what_is_missing_is_said(tenants: Shop) -> None:
    connection = tenants.database.connect()
    tenants.database.execute("create schema tenant_2; create table tenant_2.notes (id int)")
    with pytest.raises(
        UnknownTableError, match=r"table tenant_2\.leads does not exist, but is captured"
    ):
        capture_schema(connection, "tenant_2", like="tenant_1")
    with pytest.raises(UsageError, match="no table of the schema 'tenant_9' is captured"):
        capture_schema(connection, "tenant_2", like="tenant_9")
    with pytest.raises(UsageError, match="no other schema 'tenant_8'"):
        capture_schema(connection, "tenant_8", like="tenant_1")


def test_one_command_for_new_tenants(tenants: Shop) -> None:
    for tenant in ("tenant_2", "tenant_3"):
        tenants.database.execute(
            f"create schema {tenant}; create table {tenant}.leads (id int primary key, email text)"
        )
    words = ("sync", "--schema", "tenant_*", "--like", "tenant_1")
    said = tenants.audit(*words)
    assert said.out.count("(like tenant_1): Starts auditing tenant_") == 2
    assert tenants.audit(*words, "--apply").code == 0
    assert [t for (t,) in tenants.database.execute(CAPTURED)] == [
        "tenant_1.leads",
        "tenant_2.leads",
        "tenant_3.leads",
    ]
    assert tenants.audit(*words, "--apply").out.startswith("nothing to do")
    assert tenants.audit("check").code == 0
    assert tenants.audit("sync", "--schema", "tenant_2").code == 2


def test_a_database_with_other_tenants(tenants: Shop) -> None:
    """A revision for many schemas runs where some of them are not."""
    tenants.database.execute("create schema tenant_2; create table tenant_2.leads (id int)")
    assert tenants.audit("install", "--all-tables", "--schema", "tenant_*").code == 0
    tenants.upgrade()
    assert len(tenants.database.execute(CAPTURED)) == 3
    for down in ("-1", "000000000003"):
        tenants.downgrade(down)
    tenants.database.execute("drop schema tenant_2 cascade")
    tenants.upgrade()
    assert tenants.database.execute(CAPTURED) == [("tenant_1.leads",), ("tenant_1.notes",)]
    assert tenants.audit("check").code == 0
    tenants.downgrade("000000000003")
    assert tenants.database.execute(CAPTURED) == []


def test_capture_of_one_schema_is_taken_off(tenants: Shop) -> None:
    tenants.database.execute("create schema tenant_2; create table tenant_2.leads (id int)")
    tenants.audit("sync", "--schema", "tenant_2", "--like", "tenant_1", "--apply")
    tenants.database.execute("create schema tenant_3; create table tenant_3.leads (id int)")
    assert tenants.audit("install", "--all-tables", "--schema", "tenant_3").code == 0
    tenants.upgrade()
    for schema in ("tenant_2", "tenant_3"):
        answer = tenants.audit("uninstall", "--all-tables", "--schema", schema)
        assert answer.code == 0, answer.err
    tenants.upgrade()
    assert tenants.database.execute(CAPTURED) == [("tenant_1.leads",)]
    tenants.downgrade("-2")
    assert len(tenants.database.execute(CAPTURED)) == 3
    tenants.upgrade()
    nothing = tenants.audit("uninstall", "--all-tables", "--schema", "tenant_2")
    assert (nothing.code, "no table of the schema 'tenant_2' is audited" in nothing.err) == (
        0,
        True,
    )
