"""A trail with a few hundred events, a key outside of the database, and words to seal it and to tamper with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from audit_toolkit.config import TrailSettings
from audit_toolkit.connection import connect
from audit_toolkit.plan import apply
from audit_toolkit.schema import plan_trail
from audit_toolkit.seals import (
    Report,
    SealRun,
    new_key,
    open_sink,
    read_key,
    read_outside,
    read_public,
    run_seal,
    verify,
    write_key,
)
from tests.plugins.database import Connection, MakeDatabase, TemplateDatabase
from tests.plugins.trail import Trail
from tests.plugins.trail import audit as audit_table

ORDERS = """
    create table orders (id int primary key, status text, note jsonb);
"""
EVENTS = """
    insert into orders select n, 'new', jsonb_build_object('n', n, 'who', 'Zoë') from generate_series(1, 300) as n;
    update orders set status = 'paid' where id % 2 = 0;
    update orders set id = -id where id = 7;
    delete from orders where id between 10 and 20;
"""


@dataclass(slots=True)
class Sealed:
    """A database with a trail, and what is kept outside of it."""

    trail: Trail
    folder: Path

    @property
    def key(self) -> Path:
        """The private key."""
        return self.folder / "seal.key"

    @property
    def kept(self) -> Path:
        """Where checkpoints are kept."""
        return self.folder / "kept"

    @property
    def connection(self) -> Connection:
        """That of the owner, in autocommit mode."""
        return self.trail.connection

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run SQL."""
        return self.trail.execute(statement)

    def seal(self, wait: float = 10) -> SealRun:
        """Seal what is certain, and keep the checkpoint."""
        sinks = [open_sink(str(self.kept))]
        return run_seal(self.connection, "audit", read_key(self.key), sinks=sinks, wait=wait)

    def verify(self, jobs: int = 1, since: int = 0) -> Report:
        """Verify everything, with all that is kept outside."""
        with connect(self.trail.database.dsn) as connection:
            return verify(
                connection,
                "audit",
                keys=read_public(self.key),
                outside=read_outside([str(self.kept)]),
                jobs=jobs,
                since=since,
                dsn=self.trail.database.dsn,
            )

    def found(self) -> list[tuple[str, str]]:
        """What verifying finds, as (kind, subject)."""
        return [(finding.kind, finding.subject) for finding in self.verify().findings]

    def tamper(self, *statements: str) -> None:
        """Do something as a superuser who switches the guards off, and on again."""
        with psycopg.connect(self.trail.database.dsn) as connection:
            connection.execute("set session_replication_role = replica")
            tables = connection.execute("""
                select c.oid::regclass::text, t.tgname from pg_trigger as t
                join pg_class as c on c.oid = t.tgrelid
                where c.relnamespace = 'audit'::regnamespace and not tgisinternal
            """).fetchall()
            for table, trigger in tables:
                connection.execute(f'alter table {table} disable trigger "{trigger}"'.encode())
            for statement in statements:
                connection.execute(statement.encode())
            for table, trigger in tables:
                there = connection.execute("select to_regclass(%s)", [table]).fetchone()
                if there and there[0]:
                    connection.execute(
                        f'alter table {table} enable always trigger "{trigger}"'.encode()
                    )


def fill(dsn: str) -> None:
    """The trail of the template."""
    with connect(dsn) as connection:
        apply(plan_trail(TrailSettings()), connection)
        connection.execute(ORDERS)
        audit_table(connection, "orders")
        with connection.transaction():
            connection.execute(
                """select set_config('audit.context', '{"actor": "user:1"}', true)"""
            )
            connection.execute(EVENTS)


@pytest.fixture(scope="session")
def sealed_template(template_database: TemplateDatabase) -> str:
    """A template with events, none sealed."""
    return template_database("seals", fill)


@pytest.fixture
def unsealed(make_database: MakeDatabase, sealed_template: str, tmp_path: Path) -> Sealed:
    """Events, none sealed, and a key."""
    sealed = Sealed(Trail(make_database(template=sealed_template)), tmp_path)
    write_key(sealed.key, new_key("example.com/shop"))
    return sealed


@pytest.fixture
def sealed(unsealed: Sealed) -> Sealed:
    """The same, sealed."""
    run = unsealed.seal()
    assert run.events == 462
    return unsealed


Cli = Callable[..., object]
