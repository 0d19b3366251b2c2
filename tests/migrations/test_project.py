"""Which Alembic project is meant, and what `audit init` makes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from alembic.config import Config

from audit_toolkit.errors import ProjectError
from audit_toolkit.migrations import find_project, init_project
from tests.plugins.database import Database
from tests.plugins.project import Shop
from tests.plugins.seeds import some_quick


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_project(directory: Path, name: str, ini: str = "alembic.ini") -> Path:
    scripts = directory / name
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").touch()
    (scripts / "script.py.mako").touch()
    file = directory / ini
    file.write_text(f"[alembic]\nscript_location = %(here)s/{name}\n")
    return file


def scripts_of(config_file: Path | None = None) -> str:
    return Path(find_project(config_file).scripts.dir).name


def test_alembic_ini_of_the_working_directory(here: Path) -> None:
    make_project(here, "alembic")
    assert scripts_of() == "alembic"
    assert find_project().upgrade_command == "alembic upgrade"


def test_pyproject_comes_with_the_ini(here: Path) -> None:
    make_project(here, "fromtoml")
    (here / "alembic.ini").write_text("[alembic]\nsqlalchemy.url = postgresql://h/db\n")
    (here / "pyproject.toml").write_text('[tool.alembic]\nscript_location = "%(here)s/fromtoml"\n')
    assert scripts_of() == "fromtoml"
    assert find_project().static_url == "postgresql://h/db"
    (here / "alembic.ini").unlink()
    assert scripts_of() == "fromtoml"


def test_the_option_wins_over_the_variable_which_wins_over_the_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(here, "default")
    make_project(here, "by_variable", "variable.ini")
    option = make_project(here, "by_option", "option.ini")
    assert scripts_of() == "default"
    monkeypatch.setenv("ALEMBIC_CONFIG", "variable.ini")
    assert scripts_of() == "by_variable"
    assert scripts_of(option) == "by_option"
    assert find_project(Path("option.ini")).upgrade_command == "alembic -c option.ini upgrade"


def test_flask_migrate_s_ini_lies_among_the_scripts(here: Path) -> None:
    ini = make_project(here, "migrations", "migrations/alembic.ini")
    ini.write_text("[alembic]\n")
    assert scripts_of() == "migrations"
    assert find_project().upgrade_command == "flask db upgrade"
    assert scripts_of(ini) == "migrations"
    assert find_project(ini).upgrade_command == "flask db upgrade"
    elsewhere = make_project(here, "db", "db/alembic.ini")
    elsewhere.write_text("[alembic]\n")
    assert find_project(Path("db/alembic.ini")).upgrade_command == "flask db upgrade --directory db"


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ("sqlalchemy.url = postgresql+asyncpg://h/db", "postgresql+asyncpg://h/db"),
        ("sqlalchemy.url = postgresql://h:%%2F@h/db", "postgresql://h:%2F@h/db"),
        ("sqlalchemy.url = driver://user:pass@localhost/dbname", None),
        ("sqlalchemy.url = %(DATABASE_URL)s", None),
        ("", None),
    ],
)
def test_the_address_in_the_ini(line: str, url: str | None, here: Path) -> None:
    ini = make_project(here, "alembic")
    ini.write_text(f"{ini.read_text()}{line}\n")
    assert find_project().static_url == url


def test_a_revision_that_cannot_be_loaded(here: Path) -> None:
    make_project(here, "alembic")
    (here / "alembic" / "versions" / "broken.py").write_text("import nothing_like_it")
    with pytest.raises(ProjectError, match="nothing_like_it") as error:
        find_project()
    assert "check that `alembic history` works" in str(error.value.hint)
    assert "--no-env" in str(error.value.hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[alembic]\n", r"alembic.ini has no script_location in \[alembic\]"),
        ("[alembic]\nscript_location = gone\n", "is gone: the directory does not exist"),
        ("no ini", "MissingSectionHeaderError"),
    ],
)
def test_a_project_that_cannot_be_read(text: str, message: str, here: Path) -> None:
    (here / "alembic.ini").write_text(text)
    with pytest.raises(ProjectError, match=message):
        find_project()


def test_no_project_names_the_two_commands_that_create_one(here: Path) -> None:
    (here / "pyproject.toml").write_text("[tool.other]\n")
    with pytest.raises(ProjectError, match="no Alembic project here") as error:
        find_project()
    assert "`audit init`" in str(error.value.hint)
    assert "`alembic init migrations`" in str(error.value.hint)
    with pytest.raises(ProjectError, match="the Alembic configuration gone"):
        find_project(Path("gone.ini"))
    with pytest.raises(ProjectError, match=r"has no section \[tool.alembic\]"):
        find_project(here / "pyproject.toml")


def test_a_branch_is_followed_only_when_it_is_named(shop: Shop) -> None:
    for name in ("left", "right"):
        (shop.versions / f"{name}.py").write_text(
            f"revision = '{name}1'\ndown_revision = '000000000003'\n"
        )
    project = find_project()
    with pytest.raises(ProjectError, match="2 heads: left1, right1") as error:
        project.head()
    assert "--head REVISION" in str(error.value.hint)
    assert project.head("left1") == "left1"
    assert project.head("righ") == "right1"
    with pytest.raises(ProjectError, match="not a head") as error:
        project.head("000000000003")
    assert error.value.hint == (
        "its heads are left1, right1; to begin a branch elsewhere, run first: "
        "alembic revision --splice --head 000000000003 -m TEXT"
    )
    with pytest.raises(ProjectError, match="Can't locate revision"):
        project.head("nowhere")


def test_the_revision_goes_where_its_branch_is(shop: Shop) -> None:
    other = shop.directory / "other"
    other.mkdir()
    ini = shop.directory / "alembic.ini"
    places = "version_locations = migrations/versions:other\npath_separator = :\n"
    text = (
        ini.read_text().replace("path_separator = os\n", "").replace("prepend_sys_path = .\n", "")
    )
    ini.write_text(text.replace("[alembic]\n", f"[alembic]\n{places}", 1))
    (other / "b.py").write_text("revision = 'b'\ndown_revision = None\n")
    assert find_project().version_directory("b") == other.resolve()
    assert shop.audit("install", "--table", "orders", "--head", "b").code == 0
    assert len(list(other.glob("*_audit_*.py"))) == 2

    for file in (*shop.versions.glob("*.py"), *other.glob("*.py")):
        file.unlink()
    shop.database.execute("delete from alembic_version")
    answer = shop.audit("install", "--table", "orders")
    assert answer.code == 2
    assert "several version locations" in answer.err
    assert "--version-path" in answer.err


TEMPLATES = {path.parent.name for path in Path(Config().get_template_directory()).glob("*/env.py")}
"""Those of the Alembic that is installed."""


# Those with an env.py for async engines and with the settings in pyproject.toml among them.
@pytest.mark.parametrize(
    "template", some_quick(sorted(TEMPLATES - {"multidb"}), ["pyproject_async"])
)
def test_audit_init_makes_a_project_that_takes_database_url(
    template: str, here: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_project(Path("migrations"), template=template)
    monkeypatch.setenv("DATABASE_URL", database.dsn.replace("postgresql:", "postgres:"))
    database.execute("create table orders (id int primary key)")
    shop = Shop(here, database)
    answer = shop.audit("install", "--table", "orders")
    assert answer.code == 0, answer.err
    shop.alembic("upgrade", "head")
    database.execute("insert into orders values (1)")
    assert database.execute("select count(*) from audit.logged_actions") == [(1,)]
    secrets = [f for f in here.rglob("*") if f.is_file() and database.dsn in f.read_text("utf-8")]
    assert secrets == []


@pytest.mark.usefixtures("shop")
def test_audit_init_leaves_a_project_alone() -> None:
    with pytest.raises(ProjectError, match="already exists: alembic"):
        init_project(Path("elsewhere"))
    assert not Path("elsewhere").exists()


def test_audit_init_knows_its_templates(here: Path) -> None:
    with pytest.raises(ProjectError, match="no project template 'multidb'") as error:
        init_project(Path("migrations"), template="multidb")
    assert "async, generic, pyproject" in str(error.value.hint)
    assert list(here.iterdir()) == []
