"""Alembic projects as people have them: from `alembic init`, with models and three revisions."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from audit_toolkit.cli.app import app
from audit_toolkit.migrations.project import command_options, no_bytecode
from tests.plugins.database import Database, MakeDatabase, TemplateDatabase

ROOT = Path(__file__).parents[2]
TEMPLATES = {"generic": "psycopg", "async": "asyncpg", "pyproject": "psycopg"}
"""Templates of `alembic init`, and the driver that a project of each uses."""

STOCK_URL = "driver://user:pass@localhost/dbname"

MODELS = """\
from sqlalchemy import ForeignKey, Numeric, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text)


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    status: Mapped[str] = mapped_column(Text)
    total: Mapped[float] = mapped_column(Numeric(12, 2))
    note: Mapped[str | None] = mapped_column(Text)
"""

CREATE_ORDERS = """
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("customer_id", sa.Integer, sa.ForeignKey("customers.id"), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("total", sa.Numeric(12, 2), nullable=False),
    )
"""
CREATE_CUSTOMERS = """
    op.create_table(
        "customers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("email", sa.Text, nullable=False),
    )
"""
REVISIONS = {
    "customers": (CREATE_CUSTOMERS, 'op.drop_table("customers")'),
    "orders": (CREATE_ORDERS, 'op.drop_table("orders")'),
    "notes": (
        'op.add_column("orders", sa.Column("note", sa.Text))',
        'op.drop_column("orders", "note")',
    ),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All it said."""
        return self.out + self.err


@dataclass(frozen=True, slots=True)
class Shop:
    """A project in the working directory, and the database that its configuration names."""

    directory: Path
    database: Database

    @property
    def versions(self) -> Path:
        """Where its revisions are."""
        return self.directory / "migrations" / "versions"

    def revisions(self) -> list[Path]:
        """Its revisions of ours, oldest first."""
        files = [f for f in self.versions.rglob("*.py") if "AUDIT_RECORD" in f.read_text("utf-8")]
        scripts = ScriptDirectory.from_config(self.config()).walk_revisions()
        order = {script.path: place for place, script in enumerate(reversed(list(scripts)))}
        return sorted(files, key=lambda file: order[str(file.resolve())])

    def config(self) -> Config:
        """Its configuration."""
        return Config(self.directory / "alembic.ini", toml_file=self.directory / "pyproject.toml")

    def files(self) -> set[Path]:
        """Everything in it, but what Python has compiled."""
        found = (path.relative_to(self.directory) for path in self.directory.rglob("*"))
        return {path for path in found if "__pycache__" not in path.parts}

    def audit(self, *arguments: str) -> Answer:
        """Run `audit`, in this process; env.py of the project reads its models anew."""
        sys.modules.pop("models", None)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
            app(arguments, prog_name="audit")
        assert isinstance(end.value.code, int)
        return Answer(end.value.code, out.getvalue(), err.getvalue())

    def upgrade(self, target: str = "head", *, sql: bool = False) -> Answer:
        """Run `alembic upgrade`, in this process; what it prints and what it logs."""
        return self._migrate(command.upgrade, target, sql)

    def downgrade(self, target: str, *, sql: bool = False) -> Answer:
        """Run `alembic downgrade`, in this process; what it prints and what it logs."""
        return self._migrate(command.downgrade, target, sql)

    def _migrate(self, run: Callable[..., None], target: str, sql: bool) -> Answer:
        config, log = self.config(), io.StringIO()
        config.output_buffer = io.StringIO()
        handler = logging.StreamHandler(log)
        logger = logging.getLogger("alembic")
        logger.addHandler(handler)
        try:
            with no_bytecode():
                run(config, target, sql=sql)
        finally:
            logger.removeHandler(handler)
        return Answer(0, config.output_buffer.getvalue(), log.getvalue())

    def alembic(self, *arguments: str) -> Answer:
        """Run `alembic` itself, in a process of its own, which has to end well."""
        answer = self.run("alembic", *arguments)
        assert answer.code == 0, answer.text
        return answer

    def run(self, module: str, *arguments: str, under: Sequence[str] = ()) -> Answer:
        """Run `python -m module` in the project, `under` a program that runs programs."""
        done = subprocess.run(
            [*under, sys.executable, "-B", "-m", module, *arguments],
            cwd=self.directory,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def models(self) -> ModuleType:
        """Its models."""
        spec = importlib.util.spec_from_file_location("shop_models", self.directory / "models.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with no_bytecode():
            spec.loader.exec_module(module)
        return module


MakeShop = Callable[..., Shop]


@pytest.fixture(scope="session")
def shop_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Call it with the name of a template for a directory with such a project; made once."""
    made: dict[str, Path] = {}

    def directory(template: str) -> Path:
        if template not in made:
            made[template] = _new_project(tmp_path_factory.mktemp(template), template)
        return made[template]

    return directory


@pytest.fixture(scope="session")
def shop_template(
    template_database: TemplateDatabase,
    shop_directory: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """A template database in which the three revisions of the shop are applied."""

    def migrate(dsn: str) -> None:
        copy = tmp_path_factory.mktemp("shop") / "project"
        shutil.copytree(shop_directory("generic"), copy)
        _set_url(copy, dsn, "psycopg")
        subprocess.run(
            [sys.executable, "-B", "-m", "alembic", "-q", "upgrade", "head"],
            cwd=copy,
            check=True,
            capture_output=True,
        )

    return template_database("shop", migrate)


@pytest.fixture
def make_shop(
    tmp_path: Path,
    make_database: MakeDatabase,
    shop_directory: Callable[[str], Path],
    shop_template: str,
    monkeypatch: pytest.MonkeyPatch,
) -> MakeShop:
    """Call it for a project, which becomes the working directory; its revisions are applied."""
    # What Alembic and env.py do to the process of the tests: logging, and the way to the models.
    monkeypatch.setattr("logging.config.fileConfig", lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "models", ModuleType("models"))
    monkeypatch.delitem(sys.modules, "models")

    def make(template: str = "generic") -> Shop:
        directory = tmp_path / "shop"
        shutil.copytree(shop_directory(template), directory)
        database = make_database(template=shop_template)
        _set_url(directory, database.dsn, TEMPLATES[template])
        monkeypatch.chdir(directory)
        monkeypatch.syspath_prepend(directory)
        return Shop(directory, database)

    return make


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    """A project of the generic template."""
    return make_shop()


def _new_project(directory: Path, template: str) -> Path:
    config = Config(
        directory / "alembic.ini",
        toml_file=directory / "pyproject.toml",
        cmd_opts=command_options("init", "migrations"),
    )
    # Relative, so that the project can be copied.
    before = Path.cwd()
    os.chdir(directory)
    try:
        command.init(config, "migrations", template=template)
    finally:
        os.chdir(before)
    (directory / "models.py").write_text(MODELS)
    env = directory / "migrations" / "env.py"
    text = env.read_text().replace(
        "target_metadata = None", "target_metadata = models.Base.metadata"
    )
    env.write_text("import models\n" + text)
    config = Config(directory / "alembic.ini", toml_file=directory / "pyproject.toml")
    config.cmd_opts = command_options("revision")
    scripts = ScriptDirectory.from_config(config)
    for number, (message, (up, down)) in enumerate(REVISIONS.items(), 1):
        scripts.generate_revision(f"{number:012d}", message, upgrades=up.strip(), downgrades=down)
    return directory


def _set_url(directory: Path, dsn: str, driver: str) -> None:
    ini = directory / "alembic.ini"
    url = dsn.replace("postgresql://", f"postgresql+{driver}://").replace("%", "%%")
    ini.write_text(ini.read_text().replace(STOCK_URL, url))
