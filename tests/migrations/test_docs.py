"""docs/alembic.md, block by block, in projects that it is about."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa

from tests.migrations.django_site import manage
from tests.plugins.project import Shop

TEXT = (Path(__file__).parents[2] / "docs" / "alembic.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def block(language: str, start: str) -> str:
    """The one block of a language that begins like this."""
    (found,) = (text for each, text in BLOCKS if each == language and text.startswith(start))
    return str(found)


def commands(shop: Shop, text: str) -> None:
    """Run what a block says, line by line."""
    for line in text.splitlines():
        program, *words = shlex.split(line)
        answer = shop.audit(*words) if program.endswith("audit") else shop.run(program, *words)
        assert answer.code == 0, answer.text


def captured(shop: Shop) -> list[str]:
    query = (
        "select tgrelid::regclass::text from pg_trigger where tgname = '00_audit_row' order by 1"
    )
    return [table for (table,) in shop.database.execute(query)]


def test_every_block_is_run_here() -> None:
    assert [(language, text.split()[0:3]) for language, text in BLOCKS] == [
        ("toml", ["[tool.audit_toolkit]", "alembic_config", "="]),
        ("python", ["import", "audit_toolkit.alembic", "#"]),
        ("sh", ["audit", "sync", "--apply"]),
        ("sh", ["python3", "-m", "venv"]),
        ("sh", ["audit", "install", "--all-tables"]),
        ("python", ["import", "sqlalchemy", "as"]),
        ("sh", ["audit", "sync", "--schema"]),
        ("sh", ["audit", "install", "--django"]),
    ]


def test_which_project(shop: Shop) -> None:
    place = shop.directory / "src" / "app" / "db"
    place.mkdir(parents=True)
    (shop.directory / "migrations").rename(place / "migrations")
    ini = (shop.directory / "alembic.ini").read_text("utf-8").replace("[alembic]", "[main]")
    (shop.directory / "alembic.ini").unlink()
    (place / "alembic.ini").write_text(ini)
    (place / "versions" / "postgresql").mkdir(parents=True)
    (shop.directory / "pyproject.toml").write_text(block("toml", "[tool.audit_toolkit]"))
    answer = shop.audit("install", "--table", "orders")
    assert answer.code == 0, answer.err
    assert len(list((place / "versions" / "postgresql").glob("*_audit_*.py"))) == 2


def test_env_and_create_all_and_another_environment(shop: Shop) -> None:
    env = shop.directory / "migrations" / "env.py"
    env.write_text(block("python", "import audit_toolkit.alembic") + env.read_text())
    other = block("sh", "python3 -m venv").splitlines()
    assert "audit-toolkit[binary]" in other[0]
    commands(
        shop,
        "\n".join(other[1:]).replace("postgresql://user@host/database", shop.database.dsn),
    )
    assert captured(shop) == ["orders"]
    shop.database.execute("drop schema audit cascade")
    assert shop.audit("check").code == 3
    commands(shop, block("sh", "audit sync --apply"))
    assert captured(shop) == ["orders"]
    assert shop.audit("check").code == 0


def test_a_schema_for_each_tenant(shop: Shop) -> None:
    shop.database.execute(
        "create schema tenant_1; create table tenant_1.leads (id int primary key)"
    )
    commands(shop, block("sh", "audit install --all-tables") + "alembic upgrade head\n")
    metadata = sa.MetaData()
    sa.Table("leads", metadata, sa.Column("id", sa.Integer, primary_key=True), schema="tenant")
    module = ModuleType("tenants")
    exec(compile(block("python", "import sqlalchemy"), "tenants.py", "exec"), module.__dict__)  # noqa: S102 - our own page
    engine = sa.create_engine(shop.database.dsn.replace("postgresql://", "postgresql+psycopg://"))
    module.create_tenant(engine, metadata, "tenant_42")
    engine.dispose()
    assert captured(shop) == ["tenant_1.leads", "tenant_42.leads"]
    shop.database.execute(
        "create schema tenant_7; create table tenant_7.leads (id int primary key)"
    )
    commands(shop, block("sh", "audit sync --schema") + "alembic upgrade head\n")
    assert captured(shop) == ["tenant_42.leads", "tenant_7.leads"]
    shop.downgrade("-1")
    assert captured(shop) == ["tenant_1.leads", "tenant_42.leads", "tenant_7.leads"]


def test_django(site: Shop) -> None:
    install, migrate = block("sh", "audit install --django").splitlines()
    commands(site, install)
    manage(*migrate.split()[2:])
    assert captured(site) == ["shop_order"]
