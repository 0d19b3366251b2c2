"""Projects that are not as `alembic init` makes them: each works, or says exactly what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audit_toolkit.migrations import init_project
from tests.plugins.database import Database, MakeDatabase
from tests.plugins.project import Shop

pytestmark = pytest.mark.thorough

MODELS = """\
import sqlalchemy as sa

from audit_toolkit import Audit


def metadata(**options):
    made = sa.MetaData()
    columns = sa.Column("id", sa.Integer, primary_key=True), sa.Column("note", sa.Text)
    sa.Table("orders", made, *columns, info={"audit": Audit(**options)})
    sa.Table("customers", made, sa.Column("id", sa.Integer, primary_key=True))
    return made
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, but for models."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    # Alembic puts "." on the path, and Python remembers for good which directory that was.
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


@pytest.fixture
def declared(here: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A stock project whose models declare that `orders` is audited; nothing is applied yet."""
    monkeypatch.setenv("DATABASE_URL", database.dsn)
    # For the env.py that takes on this role.
    database.execute(f"grant create on database {database.name} to pg_database_owner")
    init_project(Path("migrations"))
    edit(
        here / "migrations" / "env.py",
        "target_metadata = None",
        "import models, audit_toolkit.alembic\ntarget_metadata = models.metadata()",
    )
    return Shop(here, database)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def audited(database: Database) -> list[tuple[str, str | None]]:
    """The tables and what is left out of each."""
    return [
        (table, excluded)
        for table, excluded in database.execute(
            "select c::json -> 'table' ->> 1, c::json -> 'options' ->> 'exclude'"
            " from (select obj_description(oid, 'pg_proc') from pg_proc where proname like 'capture\\_%')"
            " as f (c) order by 1"
        )
    ]


CONNECT = "with connectable.connect() as connection:"
FIRST = f'{CONNECT}\n        connection.exec_driver_sql("%s")\n        connection.commit()'


class TestEnvironments:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("=target_metadata\n", "=target_metadata, transaction_per_migration=True\n"),
            (CONNECT, FIRST % "select 1"),
            (CONNECT, FIRST % "select pg_advisory_lock(1)"),
            (CONNECT, FIRST % "set role pg_database_owner"),
            (CONNECT, "with connectable.begin() as connection:"),
            (CONNECT, CONNECT.replace("()", '().execution_options(isolation_level="AUTOCOMMIT")')),
        ],
        ids=["transaction_per_migration", "select", "lock", "set_role", "begin", "autocommit"],
    )
    def test_it_works(self, old: str, new: str, declared: Shop) -> None:
        edit(declared.directory / "migrations" / "env.py", old, new)
        declared.alembic("revision", "--autogenerate", "-m", "start")
        declared.alembic("upgrade", "head")
        answer = declared.audit("install", "--table", "customers", "--upgrade")
        assert answer.code == 0, answer.err
        assert audited(declared.database) == [("customers", None), ("orders", None)]
        assert declared.audit("check").code == 0
        declared.alembic("downgrade", "base")
        assert audited(declared.database) == []

    def test_one_that_never_commits_is_told_what_to_do(self, declared: Shop) -> None:
        declared.alembic("revision", "--autogenerate", "-m", "start")
        declared.alembic("upgrade", "head")
        env = declared.directory / "migrations" / "env.py"
        edit(env, CONNECT, f'{CONNECT}\n        connection.exec_driver_sql("select 1")')
        answer = declared.audit("install", "--table", "customers", "--upgrade")
        assert answer.code == 1
        assert "alembic upgrade succeeded, but the changes are not" in answer.err
        assert "call connection.commit() after that" in answer.err
        edit(env, '("select 1")', '("select 1")\n        connection.commit()')
        assert declared.audit("install", "--table", "customers", "--upgrade").code == 0

    @pytest.mark.parametrize("place", ["imports", "upgrades", "downgrades"])
    def test_a_template_that_would_lose_what_autogenerate_writes(
        self, place: str, declared: Shop
    ) -> None:
        template = declared.directory / "migrations" / "script.py.mako"
        empty = '""' if place == "imports" else '"pass"'
        edit(template, f"${{{place} if {place} else {empty}}}", "pass")
        answer = declared.run("alembic", "revision", "--autogenerate", "-m", "start")
        assert answer.code != 0
        assert f"migrations/script.py.mako does not print ${{{place}}}" in answer.err
        assert list(declared.versions.glob("*.py")) == []


class TestSeveralHeads:
    @pytest.fixture
    def forked(self, declared: Shop) -> Shop:
        """A project with the heads left1 and right1, both applied, and `orders` audited before."""
        declared.alembic("revision", "--autogenerate", "-m", "start", "--rev-id", "start1")
        for name in ("left1", "right1"):
            declared.alembic(
                "revision", "-m", name, "--rev-id", name, "--head", "start1", "--splice"
            )
        declared.alembic("upgrade", "heads")
        return declared

    @pytest.mark.parametrize(
        "command", ["install --table customers", "uninstall --table orders", "upgrade"]
    )
    def test_each_command_asks_for_one(self, command: str, forked: Shop) -> None:
        answer = forked.audit(*command.split())
        assert (answer.code, answer.out) == (2, "")
        assert answer.err == (
            "error: the project has 2 heads: left1, right1\n"
            "hint: choose one with --head REVISION, or merge them: alembic merge heads\n"
        )

    def test_uninstall_follows_the_one_that_is_named(self, forked: Shop) -> None:
        answer = forked.audit("uninstall", "--table", "orders", "--head", "left1", "--upgrade")
        assert answer.code == 0, answer.err
        assert audited(forked.database) == []
        assert "(head)" in forked.alembic("heads").out

    def test_autogenerate_follows_the_one_that_is_named(self, forked: Shop) -> None:
        edit(forked.directory / "migrations" / "env.py", "metadata()", "metadata(exclude=['note'])")
        assert "heads" in forked.run("alembic", "revision", "--autogenerate", "-m", "x").text
        forked.alembic("revision", "--autogenerate", "-m", "x", "--head", "left1")
        forked.alembic("upgrade", "heads")
        forked.alembic("check")
        assert audited(forked.database) == [("orders", '["note"]')]

    def test_a_parent_that_is_no_head(self, forked: Shop) -> None:
        answer = forked.audit("install", "--table", "customers", "--head", "start1")
        assert answer.err == (
            "error: --head: 'start1' is not a head of the project\n"
            "hint: its heads are left1, right1; to begin a branch elsewhere, run first: "
            "alembic revision --splice --head start1 -m TEXT\n"
        )
        forked.alembic("revision", "--splice", "--head", "start1", "-m", "new", "--rev-id", "new1")
        forked.alembic("upgrade", "heads")
        answer = forked.audit("install", "--table", "customers", "--head", "new1", "--upgrade")
        assert answer.code == 0, answer.err


class TestSeveralLocations:
    @pytest.fixture
    def located(self, declared: Shop) -> Shop:
        """A project that keeps revisions in two directories, and has one in the second."""
        places = "version_locations = migrations/versions:other\npath_separator = :\n"
        ini = declared.directory / "alembic.ini"
        text = "".join(
            line
            for line in ini.read_text("utf-8").splitlines(keepends=True)
            if not line.startswith(("path_separator", "prepend_sys_path"))
        )
        ini.write_text(text.replace("[alembic]\n", f"[alembic]\nprepend_sys_path = .\n{places}", 1))
        start = ("-m", "start", "--rev-id", "start1", "--version-path", "other")
        declared.alembic("revision", "--autogenerate", *start)
        declared.alembic("upgrade", "head")
        return declared

    @pytest.mark.parametrize(
        "command", ["install --table customers", "uninstall --table orders", "upgrade"]
    )
    def test_revisions_go_where_the_one_before_is(self, command: str, located: Shop) -> None:
        located.database.execute("drop function audit.history(regclass, text)")
        answer = located.audit(*command.split(), "--upgrade")
        assert answer.code == 0, answer.err
        assert len(list((located.directory / "other").glob("*.py"))) == 2
        assert list(located.versions.glob("*.py")) == []


class TestSeveralDatabases:
    @pytest.fixture
    def two(self, here: Path, make_database: MakeDatabase) -> tuple[Shop, Shop]:
        """A project of the template multidb, as the project of each of its databases."""
        databases = make_database(), make_database()
        first, second = (d.dsn.replace("postgresql:", "postgresql+psycopg:") for d in databases)
        shops = tuple(Shop(here, database) for database in databases)
        shops[0].alembic("init", "-t", "multidb", "migrations")
        ini = here / "alembic.ini"
        edit(ini, "driver://user:pass@localhost/dbname2", second)
        edit(ini, "driver://user:pass@localhost/dbname", first)
        edit(
            here / "migrations" / "env.py",
            "target_metadata = {}",
            "import models, audit_toolkit.alembic\ntarget_metadata = "
            "{'engine1': models.metadata(exclude=['note']), 'engine2': models.metadata()}",
        )
        return shops[0], shops[1]

    def test_autogenerate_keeps_the_rules_of_each_apart(self, two: tuple[Shop, Shop]) -> None:
        project = two[0]
        project.alembic("revision", "--autogenerate", "-m", "start")
        project.alembic("upgrade", "head")
        project.alembic("check")
        assert [audited(shop.database) for shop in two] == [
            [("orders", '["note"]')],
            [("orders", None)],
        ]
        assert [shop.audit("check", "--dsn", shop.database.dsn).code for shop in two] == [0, 0]
        project.alembic("downgrade", "base")
        assert [audited(shop.database) for shop in two] == [[], []]

    @pytest.mark.parametrize(
        "command", ["install --table orders", "uninstall --table orders", "upgrade"]
    )
    def test_commands_say_where_their_sql_goes(self, command: str, two: tuple[Shop, Shop]) -> None:
        answer = two[0].audit(*command.split())
        assert answer.code == 2
        assert "uses the template multidb" in answer.err
        assert "with --sql into upgrade_NAME()" in answer.err
        two[1].database.execute("create table orders (id int primary key)")
        dsn = ("--dsn", two[1].database.dsn)
        two[1].database.execute(two[1].audit("install", "-t", "orders", "--sql", *dsn).out)
        answer = two[1].audit(*command.split(), "--sql", *dsn)
        assert answer.code == 0, answer.err


FLASK_APP = """\
from types import SimpleNamespace

from flask import Flask
from sqlalchemy import create_engine

import models

app = Flask(__name__)
engine = create_engine("{url}")
db = SimpleNamespace(engine=engine, metadata=models.metadata(exclude=["note"]))
app.extensions["migrate"] = SimpleNamespace(db=db, configure_args={{}})
"""
"""What Flask-SQLAlchemy and Flask-Migrate leave in an application."""

FLASK_ENV = """\
from alembic import context
from flask import current_app

import audit_toolkit.alembic

config = context.config


def get_engine():
    try:
        return current_app.extensions["migrate"].db.get_engine()
    except (TypeError, AttributeError):
        return current_app.extensions["migrate"].db.engine


config.set_main_option(
    "sqlalchemy.url", get_engine().url.render_as_string(hide_password=False).replace("%", "%%")
)
target_db = current_app.extensions["migrate"].db


def run_migrations_offline():
    url = config.get_main_option("sqlalchemy.url")
    context.configure(url=url, target_metadata=target_db.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online():
    def process_revision_directives(context, revision, directives):
        if getattr(config.cmd_opts, "autogenerate", False):
            if directives[0].upgrade_ops.is_empty():
                directives[:] = []

    conf_args = current_app.extensions["migrate"].configure_args
    if conf_args.get("process_revision_directives") is None:
        conf_args["process_revision_directives"] = process_revision_directives
    with get_engine().connect() as connection:
        context.configure(connection=connection, target_metadata=target_db.metadata, **conf_args)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
"""
"""The env.py of Flask-Migrate 4, without its comments and its logging."""

FLASK_COMMAND = """\
import sys

from alembic.config import CommandLine, Config

from app import app

# As Flask-Migrate does: the ini among the scripts, which does not say where they are.
command = CommandLine()
options = command.parser.parse_args(sys.argv[1:])
config = Config("migrations/alembic.ini", cmd_opts=options)
config.set_main_option("script_location", "migrations")
with app.app_context():
    command.run_cmd(config, options)
"""


class TestFlask:
    @pytest.fixture
    def flask(self, here: Path, database: Database) -> Callable[..., str]:
        """Call it as `flask db`, in a project laid out as Flask-Migrate does it."""
        shop = Shop(here, database)
        url = database.dsn.replace("postgresql:", "postgresql+psycopg:")
        (here / "app.py").write_text(FLASK_APP.format(url=url))
        (here / "flask_db.py").write_text(FLASK_COMMAND)
        shop.alembic("init", "migrations")
        (here / "alembic.ini").unlink()
        (here / "migrations" / "alembic.ini").write_text("[alembic]\n")
        (here / "migrations" / "env.py").write_text(FLASK_ENV)

        def run(*arguments: str) -> str:
            answer = shop.run("flask_db", *arguments)
            assert answer.code == 0, answer.text
            return answer.out

        return run

    def test_autogenerate_runs_as_everywhere(
        self, flask: Callable[..., str], database: Database
    ) -> None:
        flask("revision", "--autogenerate", "-m", "start")
        flask("upgrade", "head")
        flask("check")
        assert audited(database) == [("orders", '["note"]')]
        assert "create or replace function audit.capture_public__orders" in flask(
            "upgrade", "head", "--sql"
        )
        flask("downgrade", "base")
        assert audited(database) == []

    def test_install_names_the_command_of_flask(
        self, flask: Callable[..., str], here: Path, database: Database
    ) -> None:
        flask("revision", "--autogenerate", "-m", "start")
        flask("upgrade", "head")
        shop, dsn = Shop(here, database), ("--dsn", database.dsn)
        answer = shop.audit("install", "--table", "customers", *dsn)
        assert answer.code == 0, answer.err
        assert "\nnext:\n  flask db upgrade head\n" in answer.err
        flask("upgrade", "head")
        assert audited(database) == [("customers", None), ("orders", '["note"]')]

        answer = shop.audit("uninstall", "--table", "customers", *dsn, "--upgrade")
        assert answer.code == 2
        assert answer.err.endswith(
            "error: env.py of the project only runs within its Flask application\n"
            "hint: run: flask db upgrade head\n"
        )
        flask("upgrade", "head")
        assert audited(database) == [("orders", '["note"]')]
