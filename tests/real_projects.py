"""Projects that others publish, with their own commands: `nox -s real-projects`. A program, not a test of the suite.

    python tests/real_projects.py [NAME …]

Each project is installed from the registry into an environment of its own, beside which the toolkit stays in this one.
It makes its database with its own command; then capture is installed, a row is written and found in the trail, and
the history goes down and up again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from audit_toolkit.demo.cluster import throwaway_cluster

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Site:
    """A project in a directory of its own, an environment that has it, and its database."""

    directory: Path
    environment: Path
    dsn: str

    def driver(self, name: str) -> str:
        """The address for SQLAlchemy."""
        return self.dsn.replace("postgresql://", f"postgresql+{name}://", 1)

    def write(self, name: str, text: str) -> None:
        """A file of the project."""
        file = self.directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file of the project."""
        text = (self.directory / name).read_text(encoding="utf-8")
        assert old in text, f"{name} has no {old!r}"
        self.write(name, text.replace(old, new))

    def package(self, name: str) -> Path:
        """Where the environment has a package."""
        return next((self.environment / "lib").glob("python3*")) / "site-packages" / name

    def run(self, command: str, **environment: str) -> str:
        """Run a command of the project's environment; it has to end well."""
        path = f"{self.environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return self._run(command, {"PATH": path, **environment})

    def audit(self, command: str, **environment: str) -> str:
        """Run `audit` of this environment, with the address of the database."""
        return self._run(
            f"{sys.executable} -m audit_toolkit {command}",
            {"PYTHONPATH": str(ROOT), "AUDIT_DATABASE_URL": self.dsn, **environment},
        )

    def _run(self, command: str, environment: dict[str, str]) -> str:
        done = subprocess.run(  # noqa: S602 - commands of this file, as people type them
            command,
            shell=True,
            cwd=self.directory,
            env=os.environ | environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"$ {command}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run SQL in the database."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def see_events(site: Site, table: str, write: str, upgrade: str, downgrade: str) -> None:
    """A write is in the trail; the history goes down below capture and up again, and a write is again."""
    query = (
        f"select count(*) from audit.logged_actions where table_name = '{table}' and action = 'I'"
    )
    site.execute(write)
    assert site.execute(query) == [(1,)], f"no event of {table}"
    assert table in site.audit(f"history {table}")
    for command in (downgrade, upgrade):
        site.run(command)
    site.execute(write)
    assert site.execute(query) == [(2,)], f"no event of {table} after down and up"
    site.audit("check")


def autogenerate(site: Site, command: str, versions: Path) -> None:
    """The project's own autogenerate, which may find differences of its own, proposes nothing about the trail."""
    before = set(versions.glob("*.py"))
    site.run(command)
    for file in set(versions.glob("*.py")) - before:
        text = file.read_text(encoding="utf-8")
        file.unlink()
        assert "audit" not in text, text


def optuna(site: Site) -> None:
    """Its alembic.ini lies in the package, and says neither driver nor database."""
    site.run(f"optuna create-study --study-name s --storage {site.driver('psycopg')}")
    ini = site.package("optuna/storages/_rdb/alembic.ini")
    site.audit(f"install --config {ini} --no-env --table studies")
    alembic = f"alembic -c {ini}"
    scripts = site.package("optuna/storages/_rdb/alembic")
    storage = {"sqlalchemy.url": site.driver("psycopg"), "script_location": str(scripts)}
    site.write("run.py", RUN.format(ini=str(ini), options=storage))
    for file in site.package("optuna/storages/_rdb/alembic/versions").glob("*_audit_*.py"):
        print(f"    {alembic}: wrote {file.name}")
    site.run("python run.py upgrade head")
    see_events(
        site,
        "studies",
        "insert into studies (study_name) values (gen_random_uuid()::text)",
        "python run.py upgrade head",
        "python run.py downgrade -1",
    )
    autogenerate(
        site,
        "python run.py revision nothing autogenerate",
        site.package("optuna/storages/_rdb/alembic/versions"),
    )


RUN = """\
import sys

from alembic import command
from alembic.config import Config

config = Config({ini!r})
for name, value in {options!r}.items():
    config.set_main_option(name, value)
getattr(command, sys.argv[1])(config, sys.argv[2], **dict.fromkeys(sys.argv[3:], True))
"""
"""What such programs do instead of calling `alembic`."""


def mlflow(site: Site) -> None:
    """Its address is given to its own command."""
    url = site.driver("psycopg2")
    site.run(f"mlflow db upgrade {url}")
    ini = site.package("mlflow/store/db_migrations/alembic.ini")
    # The package has no template for revisions: Alembic's own, as the message of the toolkit advises.
    stock = site.package("alembic/templates/generic/script.py.mako").read_text(encoding="utf-8")
    (ini.parent / "script.py.mako").write_text(stock, encoding="utf-8")
    site.audit(f"install --config {ini} --no-env --table experiments --exclude lifecycle_stage")
    site.run(f"mlflow db upgrade {url}")
    site.write(
        "run.py",
        RUN.format(
            ini=str(ini), options={"sqlalchemy.url": url, "script_location": str(ini.parent)}
        ),
    )
    see_events(
        site,
        "experiments",
        "insert into experiments (name) values (gen_random_uuid()::text)",
        f"mlflow db upgrade {url}",
        "python run.py downgrade -1",
    )
    command = "python run.py revision nothing autogenerate"
    autogenerate(site, command, ini.parent / "versions")


def prefect(site: Site) -> None:
    """env.py sets the version locations, by the dialect of the database."""
    settings = {
        "PREFECT_API_DATABASE_CONNECTION_URL": site.driver("asyncpg"),
        "PREFECT_HOME": str(site.directory),
    }
    os.environ.update(settings)
    site.run("prefect server database upgrade -y")
    ini = site.package("prefect/server/database/alembic.ini")
    versions = site.package("prefect/server/database/_migrations/versions/postgresql")
    said = site.audit(f"install --config {ini} --no-env --version-path {versions} --table variable")
    assert len(list(versions.glob("*_audit_*.py"))) == 2
    site.run("prefect server database upgrade -y")
    see_events(
        site,
        "variable",
        "insert into variable (name, value) values (gen_random_uuid()::text, '1')",
        "prefect server database upgrade -y",
        "prefect server database downgrade -y -r -1",
    )
    # Their env.py has include_schemas=True, and the toolkit is not in their environment.
    env = site.package("prefect/server/database/_migrations/env.py")
    found = re.search(r"include_name=.*", said)
    assert found is not None, said
    text = env.read_text(encoding="utf-8")
    option = f"include_schemas=True, {found[0]},"
    env.write_text(text.replace("include_schemas=True,", option), encoding="utf-8")
    command = "prefect server database revision --autogenerate -m nothing"
    autogenerate(site, command, versions)


FLASK = """\
import os

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["SITE_URL"]
db = SQLAlchemy(app)
Migrate(app, db)


class Order(db.Model):
    __tablename__ = "orders"
    id = db.Column(db.Integer, primary_key=True)
    status = db.Column(db.Text)
"""


def flask(site: Site) -> None:
    """Flask-Migrate: the ini lies among the scripts, and env.py needs the application."""
    os.environ["SITE_URL"] = site.driver("psycopg")
    site.write("app.py", FLASK)
    for command in ("init", "migrate -m start", "upgrade"):
        site.run(f"flask db {command}")
    site.audit("install --table orders")
    site.run("flask db upgrade")
    see_events(site, "orders", INSERT, "flask db upgrade", "flask db downgrade")
    assert "No changes in schema detected" in site.run("flask db migrate -m nothing")


INSERT = "insert into orders (status) values ('new')"
MODELS = """\
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table("orders", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("status", sa.Text))
"""


def _template(site: Site, template: str, driver: str) -> None:
    site.run(f"alembic init -t {template} migrations")
    site.write("models.py", MODELS)
    site.edit("migrations/env.py", "target_metadata = None", "target_metadata = models.metadata")
    site.edit(
        "migrations/env.py",
        "from alembic import context",
        "from alembic import context\nimport models",
    )
    site.edit(
        "alembic.ini", "driver://user:pass@localhost/dbname", site.driver(driver).replace("%", "%%")
    )


def asynchronous(site: Site) -> None:
    """Alembic's own async template, with asyncpg."""
    _template(site, "async", "asyncpg")
    site.run("alembic revision --autogenerate -m start")
    site.run("alembic upgrade head")
    site.audit("install --table orders")
    site.run("alembic upgrade head")
    see_events(site, "orders", INSERT, "alembic upgrade head", "alembic downgrade -1")
    assert "No new upgrade operations" in site.run("alembic check")


def sections(site: Site) -> None:
    """Several projects in one ini."""
    _template(site, "generic", "psycopg")
    site.edit("alembic.ini", "[alembic]", "[main]")
    main = "alembic -n main"
    site.run(f"{main} revision --autogenerate -m start")
    site.run(f"{main} upgrade head")
    site.audit("install -n main --table orders")
    site.run(f"{main} upgrade head")
    site.write("audit.toml", 'alembic_name = "main"\n')
    see_events(site, "orders", INSERT, f"{main} upgrade head", f"{main} downgrade -1")
    assert "No new upgrade operations" in site.run(f"{main} check")


def sqlalchemy14(site: Site) -> None:
    """An application on SQLAlchemy 1.4, beside which the toolkit cannot be installed: frozen revisions run there."""
    assert "1.4." in site.run("python -c 'import sqlalchemy; print(sqlalchemy.__version__)'")
    _template(site, "generic", "psycopg2")
    # What only the environment of the application has, env.py and revisions may import.
    site.edit("migrations/env.py", "import models", "import models\nimport only_here")
    site.package("only_here.py").write_text("here = True\n", encoding="utf-8")
    site.run("alembic revision --autogenerate -m start")
    (start,) = (site.directory / "migrations/versions").glob("*_start.py")
    start.write_text("import only_here\n" + start.read_text(encoding="utf-8"), encoding="utf-8")
    site.run("alembic upgrade head")
    tables = "; ".join(f"create table t{n} (id int primary key, note text)" for n in range(5))
    site.execute(tables)
    site.audit("install --no-env --table orders --exclude status")
    more = " ".join(f"--table t{n}" for n in range(5))
    site.audit(f"install --no-env {more}")
    site.run("alembic upgrade head")
    see_events(site, "t3", "insert into t3 values ((random() * 1e9)::int)", *UP_AND_DOWN)
    assert "logged_actions" in site.run("alembic upgrade base:head --sql")
    site.run("alembic downgrade -3")
    site.run("alembic upgrade head")
    site.audit("uninstall --no-env --table t3")
    site.run("alembic upgrade head")
    site.run("alembic downgrade base")
    site.execute("drop table t0, t1, t2, t3, t4")


UP_AND_DOWN = ("alembic upgrade head", "alembic downgrade -1")


def django(site: Site) -> None:
    """Django's own commands from an empty directory on."""
    site.run("django-admin startproject site_ .")
    site.run("python manage.py startapp shop")
    site.write("shop/models.py", DJANGO_MODELS)
    site.edit(
        "site_/settings.py",
        '"django.contrib.staticfiles",',
        '"django.contrib.staticfiles", "shop",',
    ) if '"django' in (site.directory / "site_/settings.py").read_text() else site.edit(
        "site_/settings.py",
        "'django.contrib.staticfiles',",
        "'django.contrib.staticfiles', 'shop',",
    )
    parts = psycopg.conninfo.conninfo_to_dict(site.dsn)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts["dbname"],
        "USER": parts["user"],
        "PASSWORD": parts.get("password", ""),
        "HOST": parts["host"],
        "PORT": parts["port"],
    }
    with (site.directory / "site_/settings.py").open("a", encoding="utf-8") as settings:
        settings.write(f"\nDATABASES = {{'default': {database!r}}}\n")
    site.run("python manage.py makemigrations shop")
    site.run("python manage.py migrate")
    site.audit("install --django shop --table shop_order --table auth_group")
    site.run("python manage.py migrate")
    see_events(
        site,
        "shop_order",
        "insert into shop_order (status) values ('new')",
        "python manage.py migrate",
        "python manage.py migrate shop 0002",
    )
    site.run("python manage.py makemigrations --check")


DJANGO_MODELS = """\
from django.db import models


class Order(models.Model):
    status = models.TextField()
"""

PROJECTS: dict[str, tuple[Callable[[Site], None], tuple[str, ...]]] = {
    "optuna": (optuna, ("optuna", "psycopg[binary]")),
    "mlflow": (mlflow, ("mlflow", "psycopg2-binary")),
    "prefect": (prefect, ("prefect", "asyncpg")),
    "flask": (flask, ("flask-migrate", "flask-sqlalchemy", "psycopg[binary]")),
    "async": (asynchronous, ("alembic", "sqlalchemy[asyncio]", "asyncpg")),
    "sections": (sections, ("alembic", "psycopg[binary]")),
    "sqlalchemy14": (sqlalchemy14, ("sqlalchemy<2", "alembic", "psycopg2-binary")),
    "django": (django, ("django", "psycopg[binary]")),
}


@contextmanager
def environment(directory: Path, requirements: tuple[str, ...]) -> Iterator[Path]:
    """A virtual environment with these."""
    place = directory / "env"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(place / "bin" / "pip"), "install", "-q", *requirements]
    subprocess.run(pip, check=True)
    yield place


def main(names: list[str]) -> None:
    """Run the projects of these names, or all; ends at the first that fails."""
    with throwaway_cluster() as server:
        for name in names or PROJECTS:
            story, requirements = PROJECTS[name]
            with tempfile.TemporaryDirectory(prefix=f"audit-{name}-") as directory:
                place = Path(directory)
                with environment(place, requirements) as prepared:
                    (place / "project").mkdir()
                    with psycopg.connect(server.dsn(), autocommit=True) as connection:
                        connection.execute(f"create database real_{name}")
                    story(Site(place / "project", prepared, server.dsn(f"real_{name}")))
            print(f"{name}: install, write, history, down and up", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
