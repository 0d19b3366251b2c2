"""The Alembic project of the user: found where the `alembic` command finds it, never run.

Reading a project loads its revision files, as every `alembic` command does, but not its env.py,
which may need a database or a running application.
"""

from __future__ import annotations

import configparser
import io
import os
import shlex
import sys
import tempfile
import tomllib
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import CommandLine, Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from audit_toolkit.errors import AuditError, ProjectError

STOCK_URL = "driver://user:pass@localhost/dbname"
"""What `alembic init` writes for `sqlalchemy.url`: no address at all."""

FLASK_UPGRADE = "flask db upgrade"
_FLASK_INI = Path("migrations", "alembic.ini")
_CREATE = (
    "create one with `audit init` (or `alembic init migrations`), or name it with --config FILE"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project that Alembic can load."""

    config: Config
    scripts: ScriptDirectory
    upgrade_command: str
    """What the user types to apply revisions, without the target: `alembic upgrade`."""

    @property
    def static_url(self) -> str | None:
        """The address of the database that the ini file has, if it has one."""
        try:
            url = self.config.get_main_option("sqlalchemy.url")
        except configparser.Error:  # it refers to something that only env.py puts in
            return None
        return None if url == STOCK_URL else url

    def head(self, wanted: str | None = None) -> str | None:
        """The revision that a new one follows; None in a project that has no revision yet.

        Raises `ProjectError` when there are several and none was chosen, or `wanted` is no head.
        """
        heads = self.scripts.get_heads()
        if wanted is None:
            if len(heads) > 1:
                raise ProjectError(
                    f"the project has {len(heads)} heads: {', '.join(sorted(heads))}",
                    hint="choose one with --head REVISION, or merge them: alembic merge heads",
                )
            return heads[0] if heads else None
        with reported("--head", hint="see `alembic heads`"):
            revision = getattr(self.scripts.get_revision(wanted), "revision", None)
        if revision not in heads:
            raise ProjectError(
                f"--head: {wanted!r} is not a head of the project",
                hint=f"its heads are {', '.join(sorted(heads))}; to begin a branch elsewhere, first: "
                f"alembic revision --splice --head {wanted} -m TEXT"
                if heads
                else "it has no revision yet: leave --head out",
            )
        return str(revision)

    def version_directory(self, head: str | None) -> Path:
        """Where Alembic puts the revision that follows `head`: where that is, if there is a choice.

        Raises `ProjectError` when there are several places and no revision yet.
        """
        try:
            return Path(self.scripts.versions)
        except CommandError:
            if head is not None:
                return Path(self.scripts.get_revision(head).path).parent
        raise ProjectError(
            "the project has several version locations, and no revision yet that says which to use",
            hint="write a first revision: alembic revision --version-path DIRECTORY -m start",
        )

    def check_writable(self, head: str | None) -> None:
        """Raise `AuditError` when no revision can be written after `head`; writes nothing."""
        directory = self.version_directory(head)
        try:
            with tempfile.TemporaryFile(dir=_nearest_existing(directory)):
                pass
        except OSError as error:
            raise AuditError(
                f"cannot write to {directory}: {error.strerror}",
                hint="make the directory writable, or run the command where it is",
            ) from error

    def check_template(self) -> None:
        """Raise `ProjectError` when the template of the project cannot take our SQL."""
        template = Path(self.scripts.dir, "script.py.mako")
        if not template.is_file():
            raise ProjectError(
                f"the project has no template {shown(template)}",
                hint="copy script.py.mako of a new project: alembic init some_other_directory",
            )
        if "engine_name" in template.read_text(encoding="utf-8", errors="replace"):
            raise ProjectError(
                "this project is of the template multidb: its revisions are for several databases",
                hint="declare on its models what is audited, for `alembic revision --autogenerate`; or put "
                "what this command prints with --sql into the upgrade_NAME() of a revision of yours",
            )


def find_project(config_file: Path | None = None) -> Project:
    """The project that `alembic` would use here.

    In this order: `config_file`, the variable ALEMBIC_CONFIG, `[tool.alembic]` of pyproject.toml
    together with alembic.ini, migrations/alembic.ini (Flask-Migrate).
    Raises `ProjectError` when there is none, or it cannot be loaded.
    """
    config, upgrade_command = _find_config(config_file)
    with reported("the Alembic configuration", hint=_CREATE):
        scripts = ScriptDirectory.from_config(config)
    with reported("the revisions of the project"), no_bytecode():
        scripts.get_heads()
    return Project(config=config, scripts=scripts, upgrade_command=upgrade_command)


def _find_config(config_file: Path | None) -> tuple[Config, str]:
    ini, toml, upgrade_command = _locate(config_file)
    config = Config(file_=ini, toml_file=toml, cmd_opts=command_options("current"))
    with reported("the Alembic configuration"):
        located = config.get_alembic_option("script_location")
    if not located and Path(ini.parent, "env.py").is_file():
        # Flask-Migrate leaves it to its own command to say where the scripts are.
        config.set_main_option("script_location", ini.parent.as_posix().replace("%", "%%"))
        elsewhere = (
            ""
            if ini.absolute() == _FLASK_INI.absolute()
            else f" --directory {shlex.quote(str(ini.parent))}"
        )
        upgrade_command = f"{FLASK_UPGRADE}{elsewhere}"
    return config, upgrade_command


def _locate(config_file: Path | None) -> tuple[Path, Path, str]:
    ini, toml = Path("alembic.ini"), Path("pyproject.toml")
    variable = os.environ.get("ALEMBIC_CONFIG")
    chosen = config_file or (Path(variable) if variable else None)
    if chosen:
        if not chosen.is_file():
            raise ProjectError(f"there is no Alembic configuration {chosen}", hint=_CREATE)
        if chosen.name == toml.name:
            toml = chosen
        else:
            ini = chosen
    if ini.is_file() or _has_alembic_section(toml):
        return ini, toml, f"alembic -c {config_file} upgrade" if config_file else "alembic upgrade"
    if chosen:
        raise ProjectError(f"{chosen} has no section [tool.alembic]", hint=_CREATE)
    if _FLASK_INI.is_file():
        return _FLASK_INI, toml, FLASK_UPGRADE
    raise ProjectError(
        "there is no Alembic project here: no alembic.ini, no [tool.alembic]", hint=_CREATE
    )


def _has_alembic_section(toml: Path) -> bool:
    try:
        return "alembic" in tomllib.loads(toml.read_text(encoding="utf-8")).get("tool", {})
    except FileNotFoundError:
        return False
    except ValueError as error:
        raise ProjectError(f"{toml} cannot be read: {error}", hint="repair the file") from error


def init_project(directory: Path, *, template: str = "generic") -> list[Path]:
    """Create a project with Alembic's own template, in the working directory; what it consists of.

    Alembic leaves the address of the database to whoever edits the files; here env.py takes
    DATABASE_URL, too, so that no password has to go into a file.
    Raises `ProjectError` when there is a project already or no such template.
    """
    ini, toml = Path("alembic.ini"), Path("pyproject.toml")
    if ini.exists() or _has_alembic_section(toml):
        raise ProjectError(
            f"there is an Alembic project already: {ini if ini.exists() else toml}",
            hint="go on with: audit install --table NAME",
        )
    templates = _templates()
    if template not in templates:
        raise ProjectError(
            f"there is no template {template!r} for a project",
            hint="choose " + ", ".join(templates),
        )
    made = [ini, directory / "env.py", directory / "script.py.mako", directory / "versions"]
    if template.startswith("pyproject"):
        made.insert(0, toml)
    elsewhere = "choose another directory: audit init DIRECTORY"
    with reported("alembic init", hint=elsewhere), redirect_stdout(io.StringIO()):
        config = Config(file_=ini, toml_file=toml, cmd_opts=command_options("init", str(directory)))
        command.init(config, str(directory), template=template)
        _take_database_url(directory / "env.py")
    return made


def _templates() -> list[str]:
    """Alembic's templates, but the one for several databases."""
    directory = Path(Config().get_template_directory())
    return sorted(t.parent.name for t in directory.glob("*/env.py") if t.parent.name != "multidb")


_ENV_ANCHOR = "config = context.config\n"
_ENV_DATABASE_URL = """
# The database: DATABASE_URL where it is set, else sqlalchemy.url of the ini file.
if url := os.environ.get("DATABASE_URL"):
    # Hosting providers leave out the driver, or write postgres://.
    url = url.replace("postgres://", "postgresql://", 1)
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
"""


def _take_database_url(env: Path) -> None:
    text = env.read_text(encoding="utf-8")
    if text.count(_ENV_ANCHOR) == 1:  # else it is a template that we do not know: it stays as it is
        env.write_text(
            "import os\n" + text.replace(_ENV_ANCHOR, _ENV_ANCHOR + _ENV_DATABASE_URL),
            encoding="utf-8",
        )


@contextmanager
def no_bytecode() -> Iterator[None]:
    """A block that loads Python files without leaving `__pycache__` beside them."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextmanager
def reported(what: str, *, hint: str = "see whether `alembic history` works") -> Iterator[None]:
    """Turn what Alembic raises about `what`, or code of the user that it loads, into our errors."""
    try:
        yield
    except AuditError:
        raise
    except CommandError as error:
        raise ProjectError(f"{what}: {error}", hint=hint) from error
    except OSError as error:
        raise AuditError(f"{what}: {error}", hint=hint) from error
    except Exception as error:
        # Files of the user run here, so it can be anything.
        raise ProjectError(f"{what}: {type(error).__name__}: {error}", hint=hint) from error


def _nearest_existing(path: Path) -> Path:
    absolute = path.absolute()
    return next(candidate for candidate in (absolute, *absolute.parents) if candidate.exists())


def command_options(*arguments: str) -> Namespace:
    """What `alembic --quiet …` would pass on to env.py."""
    return CommandLine(prog="alembic").parser.parse_args(["--quiet", *arguments])


def shown(path: Path) -> str:
    """A path as people type it from here."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
