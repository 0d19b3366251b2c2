"""The whole story in projects of yet other layouts: install, write, history, down and up, by `alembic` itself."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.migrations.layouts import edit, ini
from tests.plugins.project import MakeShop, Shop

pytestmark = pytest.mark.thorough

ALEMBIC = tuple(map(int, version("alembic").split(".")[:2]))
WRITE = "insert into customers (id, email) select coalesce(max(id), 0) + 1, 'a@b.c' from customers"
EVENTS = "select count(*) from audit.logged_actions where table_name = 'customers' and action = 'I'"
AUTOGENERATE = "import audit_toolkit.alembic\nimport models\n"


def story(shop: Shop, *options: str, install: tuple[str, ...] = ()) -> list[Path]:
    """All of it, with options of `alembic` and of `audit install`; where the revisions are."""
    shop.database.execute(WRITE)
    before = shop.files()
    answer = shop.run("audit_toolkit", "install", "--table", "customers", *install)
    assert answer.code == 0, answer.text
    written = sorted(path for path in shop.files() - before if path.suffix == ".py")
    assert len(written) == 2
    shop.alembic(*options, "upgrade", "head")
    shop.database.execute(WRITE)
    assert shop.database.execute(EVENTS) == [(1,)]
    assert "inserted" in shop.audit("history", "customers", *install).out
    assert "No new upgrade operations" in shop.alembic(*options, "check").text
    shop.alembic(*options, "downgrade", "-2")
    shop.database.execute(WRITE)
    shop.alembic(*options, "upgrade", "head")
    shop.database.execute(WRITE)
    assert shop.database.execute(EVENTS) == [(2,)]
    answer = shop.audit("check", *install)
    assert answer.code == 0, answer.text
    return written


def environment(shop: Shop, *edits: tuple[str, str]) -> None:
    """Edit env.py, which imports what protects the trail."""
    env = shop.directory / "migrations" / "env.py"
    edit(env, "import models\n", AUTOGENERATE)
    for old, new in edits:
        edit(env, old, new)


def test_recursive_version_locations(shop: Shop) -> None:
    environment(shop)
    ini(shop, "recursive_version_locations = true")
    for name in ("2025", "2026/01"):
        (shop.versions / name).mkdir(parents=True)
    files = sorted(shop.versions.glob("*.py"))
    files[0].rename(shop.versions / "2025" / files[0].name)
    files[-1].rename(shop.versions / "2026/01" / files[-1].name)
    written = story(shop)
    assert {path.parent.parts[:2] for path in written} == {("migrations", "versions")}


@pytest.mark.skipif(ALEMBIC < (1, 18), reason="Alembic before 1.18 makes no folders for a file")
def test_files_in_folders_by_time(shop: Shop) -> None:
    environment(shop)
    ini(
        shop,
        "recursive_version_locations = true",
        "timezone = Asia/Kathmandu",
        "file_template = %%(year)d/%%(month).2d/%%(day).2d_%%(hour).2d%%(minute).2d_%%(rev)s_%%(slug)s",
    )
    written = story(shop)
    assert all(len(path.parts) == 5 for path in written), written
    assert "Create Date" in (shop.directory / written[0]).read_text("utf-8")


URL_OF_X = """\
import audit_toolkit.alembic
import models
from alembic import context
config = context.config
config.set_main_option("sqlalchemy.url", context.get_x_argument(as_dictionary=True)["url"].replace("%", "%%"))
"""


def test_x_arguments(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """env.py takes the address from -x, and cannot run without it."""
    environment(shop)
    env = shop.directory / "migrations" / "env.py"
    env.write_text(env.read_text("utf-8").replace(AUTOGENERATE, URL_OF_X, 1))
    file = shop.directory / "alembic.ini"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("sqlalchemy.url")))
    url = shop.database.dsn.replace("postgresql://", "postgresql+psycopg://")
    monkeypatch.setenv("AUDIT_DATABASE_URL", shop.database.dsn)
    story(shop, "-x", f"url={url}")


def test_post_write_hooks(shop: Shop) -> None:
    environment(shop)
    edit(
        shop.directory / "alembic.ini",
        "[post_write_hooks]\n",
        "[post_write_hooks]\nhooks = mark\nmark.type = exec\n"
        "mark.executable = %(here)s/mark.sh\nmark.options = REVISION_SCRIPT_FILENAME\n",
    )
    hook = shop.directory / "mark.sh"
    hook.write_text('#!/bin/sh\necho "# formatted" >> "$1"\n')
    hook.chmod(0o755)
    written = story(shop)
    assert all(
        (shop.directory / path).read_text("utf-8").endswith("# formatted\n") for path in written
    )


def test_a_home_that_cannot_be_written(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(shop)
    # Not even a superuser makes a file below one.
    home = tmp_path / "home"
    home.touch()
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))
    story(shop)


def test_a_version_table_in_a_schema(shop: Shop) -> None:
    environment(
        shop,
        ("connection=connection,", 'connection=connection, version_table_schema="deploys",'),
    )
    shop.database.execute("create schema deploys")
    shop.database.execute("alter table alembic_version set schema deploys")
    story(shop)


def test_alembic_in_pyproject(make_shop: MakeShop) -> None:
    shop = make_shop("pyproject")
    environment(shop)
    pyproject = shop.directory / "pyproject.toml"
    assert "[tool.alembic]" in pyproject.read_text("utf-8")
    edit(
        pyproject,
        "[tool.alembic]\n",
        '[tool.alembic]\nfile_template = "%%(year)d_%%(rev)s_%%(slug)s"\ntimezone = "UTC"\n',
    )
    written = story(shop)
    assert all(path.name.startswith("20") for path in written)


def test_alembic_in_pyproject_without_any_ini(
    make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """env.py takes the address from the environment."""
    shop = make_shop("pyproject")
    url = shop.database.dsn.replace("postgresql://", "postgresql+psycopg://")
    (shop.directory / "alembic.ini").unlink()
    env = shop.directory / "migrations" / "env.py"
    text = env.read_text("utf-8").replace(
        "config = context.config\n",
        'config = context.config\nimport os\nconfig.set_main_option("sqlalchemy.url", os.environ["URL"])\n',
        1,
    )
    text = text.replace("if config.config_file_name is not None:", "if False:", 1)
    env.write_text(text.replace("import models\n", AUTOGENERATE, 1))
    monkeypatch.setenv("URL", url.replace("%", "%%"))
    monkeypatch.setenv("AUDIT_DATABASE_URL", shop.database.dsn)
    story(shop)
