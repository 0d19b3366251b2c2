"""docs/tutorial.md: from an empty directory to audited tables, block by block."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from tests.plugins.database import MakeDatabase
from tests.plugins.project import MakeShop, Shop

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text("utf-8")


def block(language: str, start: str) -> str:
    """The one block of a language that begins like this."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (found,) = (text for text in blocks if text.startswith(start))
    return str(found)


async def post(app: object, path: str, **params: str) -> object:
    """What the application answers."""
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type] # FastAPI, made from the page
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        return (await client.post(path, params=params)).json()


async def create(app: ModuleType) -> object:
    """What the application of the page answers; its connections are closed afterwards."""
    try:
        return await post(app.app, "/customers", email="a@example.com")
    finally:
        closed = app.engine.dispose()
        if closed is not None:
            await closed


@pytest.mark.thorough
def test_step_zero(
    make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path, make_database())
    monkeypatch.setenv("DATABASE_URL", shop.database.dsn)
    (tmp_path / "models.py").write_text(block("python", "from sqlalchemy import Text"))
    (line,) = block("console", "$ audit init").splitlines()
    assert shop.run("audit_toolkit", *shlex.split(line)[2:]).code == 0
    env = tmp_path / "migrations" / "env.py"
    metadata = block("python", "from models import Base")
    assert "target_metadata = None" in env.read_text()
    env.write_text(env.read_text().replace("target_metadata = None", metadata))
    assert block("python", "import audit_toolkit.alembic") in env.read_text()
    for line in block("console", "$ alembic revision").splitlines():
        program, *arguments = shlex.split(line.removeprefix("$ "))
        answer = shop.run({"audit": "audit_toolkit"}.get(program, program), *arguments)
        assert answer.code == 0, answer.text


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("declared_in", "application"),
    [("models.py", "from sqlalchemy import"), ("pyproject.toml", "from sqlalchemy.ext.asyncio")],
)
def test_the_tutorial(
    declared_in: str, application: str, make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_shop()
    shop.alembic("downgrade", "base")
    for file in shop.versions.glob("*.py"):
        file.unlink()
    models = block("python", "from sqlalchemy import Text")
    if declared_in == "pyproject.toml":
        models = re.sub(r"\n    __table_args__.*", "", models)
        declared = block("toml", "[tool.audit_toolkit.tables")
    else:
        declared = block("toml", "[tool.audit_toolkit]")
    (shop.directory / "pyproject.toml").write_text(declared)
    (shop.directory / "models.py").write_text(models)
    env = shop.directory / "migrations" / "env.py"
    env.write_text(block("python", "import audit_toolkit.alembic") + env.read_text())
    for line in block("console", "$ alembic revision").splitlines():
        program, *arguments = shlex.split(line.removeprefix("$ "))
        answer = shop.run({"audit": "audit_toolkit"}.get(program, program), *arguments)
        assert answer.code == 0, answer.text

    url = shop.database.dsn.replace("postgresql://", "postgresql+psycopg://")
    module = ModuleType("app")
    code = block("python", f"from fastapi import FastAPI\n{application}")
    code = code.replace("DATABASE_URL", repr(url))
    monkeypatch.delitem(sys.modules, "models", raising=False)
    exec(compile(code, "app.py", "exec"), module.__dict__)  # noqa: S102 - it is our own page
    assert asyncio.run(create(module)) == 1
    history = shop.audit(*shlex.split(block("console", "$ audit history"))[2:])
    assert history.code == 0
    upgrade = shop.audit(*shlex.split(block("console", "$ audit upgrade"))[2:])
    assert upgrade.err == "already up to date\n"
    rows = shop.database.execute(
        "select new_row ->> 'email', context ->> 'actor' from audit.logged_actions"
    )
    [(email, actor)] = rows
    assert re.fullmatch("hmac-sha256:[0-9a-f]{64}", email), email
    assert actor == "user:42"
