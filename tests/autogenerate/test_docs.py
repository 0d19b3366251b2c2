"""docs/tutorial.md: from a FastAPI project to audited tables, block by block."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from tests.plugins.project import MakeShop

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


@pytest.mark.parametrize("declared_in", ["models.py", "pyproject.toml"])
def test_the_tutorial(
    declared_in: str, make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch
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
    code = block("python", "from fastapi import").replace("DATABASE_URL", repr(url))
    monkeypatch.delitem(sys.modules, "models", raising=False)
    exec(compile(code, "app.py", "exec"), module.__dict__)  # noqa: S102 - it is our own page
    try:
        assert asyncio.run(post(module.app, "/customers", email="a@example.com")) == 1
    finally:
        module.engine.dispose()
    history = shop.audit(*shlex.split(block("console", "$ audit history"))[2:])
    assert history.code == 0
    upgrade = shop.audit(*shlex.split(block("console", "$ audit upgrade"))[2:])
    assert upgrade.err == "nothing to upgrade: all is of this version\n"
    rows = shop.database.execute("select new_row ->> 'email' from audit.logged_actions")
    assert len(rows) == 1
    assert "a@example.com" not in rows[0][0]
