"""The Alembic directives: with every kind of env.py, resumed, and refused where they cannot work."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from audit_toolkit.errors import AuditError, ProjectError
from tests.indexes import breakage
from tests.indexes.breakage import flags
from tests.plugins.database import Database

REVISION = '''
"""An index on every leaf."""

from alembic import op

import audit_toolkit.migrations.concurrently

revision = "1"
down_revision = None


def upgrade():
    op.create_partitioned_index("create unique index events_key on events (id, at)")


def downgrade():
    op.drop_partitioned_index("public.events_key", lock_timeout="1s")
'''

PLAIN = """
from alembic import context
from sqlalchemy import create_engine, pool

config = context.config
url = config.get_main_option("sqlalchemy.url")
if context.is_offline_mode():
    context.configure(url=url)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""
ASYNC = """
import asyncio

from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine


def run(connection):
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(main())
"""
ENVIRONMENTS = {
    "psycopg": ("postgresql+psycopg", PLAIN),
    "async psycopg": ("postgresql+psycopg", ASYNC),
    "asyncpg": ("postgresql+asyncpg", ASYNC),
}
Project = Callable[..., Config]
DOCUMENT = Path(__file__).parents[2] / "docs" / "indexes.md"


@pytest.fixture
def project(tmp_path: Path, stocked: Database) -> Project:
    """Call it with a scheme and an env.py for an Alembic project with the one revision."""

    def make(scheme: str, environment: str, revision: str = REVISION) -> Config:
        (tmp_path / "versions").mkdir()
        (tmp_path / "env.py").write_text(environment)
        (tmp_path / "versions" / "1_index.py").write_text(revision)
        config = Config(output_buffer=io.StringIO())
        config.set_main_option("script_location", str(tmp_path))
        config.set_main_option("path_separator", "os")
        url = stocked.dsn.replace("postgresql", scheme, 1).replace("%", "%%")
        config.set_main_option("sqlalchemy.url", url)
        return config

    return make


def version(database: Database) -> list[tuple[str, ...]]:
    return database.execute("select version_num from alembic_version")


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_up_and_down(kind: str, project: Project, stocked: Database) -> None:
    config = project(*ENVIRONMENTS[kind])
    command.upgrade(config, "head")
    made = {name for name in flags(stocked) if "events" in name}
    assert made == {"events_key", *(f"{leaf}_key" for leaf in breakage.LEAVES)}
    assert set(flags(stocked).values()) == {"vrl"}
    assert version(stocked) == [("1",)]
    command.downgrade(config, "base")
    assert not [name for name in flags(stocked) if "events" in name]
    assert version(stocked) == []


def test_the_migration_of_the_documentation(project: Project, stocked: Database) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    revision = f'{block}\nrevision = "1"\ndown_revision = None\n'
    config = project("postgresql+psycopg", PLAIN, revision)
    command.upgrade(config, "head")
    assert flags(stocked)["events_2026_actor_idx"] == "vrl"
    command.downgrade(config, "base")
    assert not [name for name in flags(stocked) if "events" in name]


def test_a_failed_upgrade_goes_on_from_where_it_ended(project: Project, stocked: Database) -> None:
    stocked.execute("insert into events select * from events where id = 5")
    config = project("postgresql+psycopg", PLAIN)
    with pytest.raises(AuditError, match="is duplicated"):
        command.upgrade(config, "head")
    done = {name for name, bits in flags(stocked).items() if bits == "vrl" and "events" in name}
    assert done == {"events_2026_key", "events_tail_key"}
    stocked.execute("delete from events where ctid = (select max(ctid) from events where id = 5)")
    command.upgrade(config, "head")
    assert set(flags(stocked).values()) == {"vrl"}
    assert version(stocked) == [("1",)]


def test_a_transaction_that_is_not_alembics_is_an_error_that_says_so(
    project: Project, stocked: Database
) -> None:
    begun = PLAIN.replace("engine.connect()", "engine.begin()")
    with pytest.raises(ProjectError, match="keeps its own transaction open") as caught:
        command.upgrade(project("postgresql+psycopg", begun), "head")
    assert caught.value.hint
    assert "not begin()" in caught.value.hint
    assert set(flags(stocked)) == {"people_name_idx", "people_pkey"}


def test_a_statement_before_the_migrations_is_the_same_error(project: Project) -> None:
    early = PLAIN.replace(
        "        context.configure(connection=connection)",
        "        connection.exec_driver_sql('select 1')\n        context.configure(connection=connection)",
    )
    assert early != PLAIN
    with pytest.raises(ProjectError, match="keeps its own transaction open"):
        command.upgrade(project("postgresql+psycopg", early), "head")


def test_a_script_cannot_be_written(project: Project) -> None:
    config = project("postgresql+psycopg", PLAIN)
    with pytest.raises(ProjectError, match="cannot be written as a script"):
        command.upgrade(config, "head", sql=True)
