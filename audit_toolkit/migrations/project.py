"""The Alembic project of the user: found where the `alembic` command finds it.

Reading a project loads its revision files, as every `alembic` command does, but not its env.py,
which may need a running application; that one runs only where its text says that it changes where
revisions are, and never with `run_env=False`.
"""

from __future__ import annotations

import configparser
import importlib.util
import io
import os
import shlex
import sys
import tempfile
import tomllib
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import CommandLine, Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError, coerce_resource_to_filename

from audit_toolkit.declaration import Declarations, find_declarations
from audit_toolkit.errors import AuditError, ProjectError
from audit_toolkit.migrations.environment import (
    Environment,
    changes_the_project,
    run_environment,
)
from audit_toolkit.migrations.revision_files import read_literals, revisions_not_run

STOCK_URL = "driver://user:pass@localhost/dbname"
"""What `alembic init` writes for `sqlalchemy.url`: no address at all."""

FLASK_UPGRADE = "flask db upgrade"
_FLASK_INI = Path("migrations", "alembic.ini")
_CREATE = (
    "create one with `audit init` (or `alembic init migrations`), or name it with --config FILE"
)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project that Alembic can load."""

    config: Config
    scripts: ScriptDirectory
    upgrade_command: str
    """What the user types to apply revisions, without the target: `alembic upgrade`."""
    version_path: Path | None = None
    """The directory that revisions go into, where somebody said so."""
    environment: Environment | None = None
    """What env.py made of it, where it had to run."""
    runs_code: bool = True
    """Whether code of the project may run, as that of revisions does when Alembic reads them."""

    def reading(self) -> AbstractContextManager[None]:
        """A block in which Alembic may read revisions of the project."""
        return nullcontext() if self.runs_code else revisions_not_run()

    @property
    def env(self) -> Path:
        """Its env.py."""
        return Path(self.scripts.dir, "env.py")

    @property
    def locations(self) -> list[Path]:
        """The directories that its revisions are read from."""
        return _locations(self.scripts)

    @cached_property
    def revisions(self) -> frozenset[str]:
        """The identifiers of all its revisions."""
        return frozenset(script.revision for script in self.scripts.walk_revisions())

    @property
    def seen(self) -> str:
        """What there is of it, in words: to compare with what the user knows."""
        places = ", ".join(shown(place) for place in self.locations)
        heads = ", ".join(sorted(self.scripts.get_heads())) or "none"
        return f"revisions are read from {places}: {len(self.revisions)} of them, heads: {heads}"

    def unread(self) -> list[Path]:
        """Revision files among its scripts that belong to it, and that it does not read as it is loaded.

        A revision belongs to it that follows one of its own, and any where it has none.
        """
        return _unread(self.scripts)

    @property
    def static_url(self) -> str | None:
        """The address of the database that the ini file has, if it has one."""
        return _static_url(self.config)

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
                hint=(
                    f"its heads are {', '.join(sorted(heads))}; to begin a branch elsewhere, run "
                    f"first: alembic revision --splice --head {wanted} -m TEXT"
                )
                if heads
                else "it has no revision yet: leave --head out",
            )
        return str(revision)

    def version_directory(self, head: str | None) -> Path:
        """Where the revision that follows `head` goes: as was said, or where Alembic puts it.

        Raises `ProjectError` when there are several places and no revision yet.
        """
        if self.version_path is not None:
            return self.version_path.absolute()
        try:
            return Path(self.scripts.versions)
        except CommandError:
            if head is not None:
                return Path(self.scripts.get_revision(head).path).parent
        raise ProjectError(
            "the project has several version locations, and no revision yet that shows which "
            "one to use",
            hint="choose one with --version-path DIRECTORY, or version_path in [tool.audit_toolkit]",
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
                hint="copy script.py.mako from a new project: alembic init some_other_directory",
            )
        if "engine_name" in template.read_text(encoding="utf-8", errors="replace"):
            raise ProjectError(
                "this project uses the template multidb: its revisions are for several databases",
                hint="declare on its models what to audit, for `alembic revision --autogenerate`; "
                "or copy what this command prints with --sql into upgrade_NAME() of a "
                "revision",
            )


def find_project(
    config_file: Path | None = None,
    *,
    name: str | None = None,
    version_path: Path | None = None,
    run_env: bool = True,
) -> Project:
    """The project that `alembic` would use here.

    In this order: `config_file`, the variable ALEMBIC_CONFIG, `alembic_config` of [tool.audit_toolkit],
    `[tool.alembic]` of pyproject.toml together with alembic.ini, migrations/alembic.ini (Flask-Migrate).
    `name` is the section of an ini file that describes several projects. With `run_env=False` no code of
    the project runs, neither env.py nor that of revisions.
    Raises `ProjectError` when there is none, or it cannot be loaded.
    """
    settings = find_declarations() or Declarations(source="")
    config, upgrade_command = _find_config(config_file, name or settings.alembic_name, settings)
    chosen_path = version_path or settings.version_path
    with _reported_configuration(config):
        scripts = ScriptDirectory.from_config(config)
    environment = None
    if run_env and not chosen_path and changes_the_project(Path(scripts.dir, "env.py")):
        environment = run_environment(config)
    with nullcontext() if run_env else revisions_not_run():
        project = _loaded(config, scripts, upgrade_command, chosen_path, environment)
    return replace(project, runs_code=run_env)


def is_project_here(config_file: Path | None = None) -> bool:
    """Whether a command would find a project here, or somebody says that there is one; loads nothing of it."""
    settings = find_declarations() or Declarations(source="")
    if config_file or settings.alembic_config or "ALEMBIC_CONFIG" in os.environ:
        return True
    if Path("manage.py").is_file():
        return True  # of Django
    try:
        _locate(None, None, settings)
    except ProjectError:
        return False
    return True


def find_address(config_file: Path | None = None) -> str | None:
    """The address of the database that the project has in its ini file; loads none of its revisions.

    Raises `ProjectError` when there is no project, or its configuration cannot be read.
    """
    settings = find_declarations() or Declarations(source="")
    config, _ = _find_config(config_file, settings.alembic_name, settings)
    return _static_url(config)


def as_environment_has_it(project: Project) -> Project:
    """The project once more, as its env.py leaves it; the same where that has run already.

    Raises `ProjectError` where env.py cannot be run.
    """
    if project.environment or project.version_path:
        return project
    environment = run_environment(project.config)
    with _reported_configuration(project.config):
        scripts = ScriptDirectory.from_config(project.config)
    return _loaded(project.config, scripts, project.upgrade_command, None, environment)


def _loaded(
    config: Config,
    scripts: ScriptDirectory,
    upgrade_command: str,
    version_path: Path | None,
    environment: Environment | None,
) -> Project:
    if environment:
        scripts.dir = str(environment.scripts)
        scripts = _reading_from(scripts, environment.version_locations)
    with reported("the revisions of the project", hint=_LOADS), no_bytecode():
        if version_path:
            _require_place(scripts, version_path)
            scripts = _with_place(scripts, version_path.absolute())
        scripts.get_heads()
    return Project(
        config=config,
        scripts=scripts,
        upgrade_command=upgrade_command,
        version_path=version_path,
        environment=environment,
    )


_LOADS = (
    "check that `alembic history` works; where the application is not installed, --no-env "
    "reads the revisions without running them"
)


def _reading_from(scripts: ScriptDirectory, places: Iterable[Path]) -> ScriptDirectory:
    """The same scripts, with revisions from other directories; Alembic keeps what it has read."""
    return ScriptDirectory(
        scripts.dir,
        file_template=scripts.file_template,
        truncate_slug_length=scripts.truncate_slug_length,
        version_locations=[str(place) for place in places],
        sourceless=scripts.sourceless,
        output_encoding=scripts.output_encoding,
        timezone=scripts.timezone,
        hooks=scripts.hooks,
        recursive_version_locations=scripts.recursive_version_locations,
        messaging_opts=scripts.messaging_opts,
    )


def _require_place(scripts: ScriptDirectory, place: Path) -> None:
    """Refuse a directory that is misspelt; one that the project names may be yet to be made."""
    if place.is_dir() or (not place.exists() and place.absolute() in _locations(scripts)):
        return
    why = "is not a directory" if place.exists() else "does not exist"
    raise ProjectError(
        f"the directory of revisions {place} {why}",
        hint="use one of the version_locations of the project, or create it first",
    )


def _with_place(scripts: ScriptDirectory, place: Path) -> ScriptDirectory:
    """The scripts with `place` among their directories, and those of what its revisions follow."""
    wanted = list(dict.fromkeys([*_locations(scripts), place]))
    files = [
        (file.parent.absolute(), literals)
        for file in sorted({*Path(scripts.dir).rglob("*.py"), *place.glob("*.py")})
        if file.name != "env.py" and (literals := _revision_literals(file))
    ]
    while True:
        read = [literals for directory, literals in files if directory in wanted]
        known = {literals["revision"] for literals in read}
        missing = {parent for literals in read for parent in _parents(literals)} - known
        found = [directory for directory, literals in files if literals["revision"] in missing]
        if not found:
            return _reading_from(scripts, wanted)
        wanted += dict.fromkeys(found)


def _locations(scripts: ScriptDirectory) -> list[Path]:
    places = scripts.version_locations or [str(Path(scripts.dir, "versions"))]
    return [coerce_resource_to_filename(place).absolute() for place in places]


def _unread(scripts: ScriptDirectory) -> list[Path]:
    read = list(scripts.walk_revisions())
    files = {Path(script.path).resolve() for script in read}
    known = {script.revision for script in read}
    candidates = [
        (file, literals)
        for file in sorted(Path(scripts.dir).rglob("*.py"))
        if file.name != "env.py" and file.resolve() not in files
        if (literals := _revision_literals(file))
    ]
    if not known:
        return [file for file, _ in candidates]
    found: list[Path] = []
    while new := [
        (file, literals)
        for file, literals in candidates
        if file not in found and literals["revision"] not in known and _parents(literals) & known
    ]:
        found += [file for file, _ in new]
        known |= {literals["revision"] for _, literals in new}
    return found


def _revision_literals(file: Path) -> dict[str, Any] | None:
    if "down_revision" not in file.read_text(encoding="utf-8", errors="replace"):
        return None
    try:
        literals = read_literals(file)
    except ProjectError:
        return None  # it is no revision that Alembic could load
    return literals if {"revision", "down_revision"} <= literals.keys() else None


def _parents(literals: Mapping[str, Any]) -> set[str]:
    given = (literals.get("down_revision"), literals.get("depends_on"))
    return {
        parent for each in given for parent in ((each,) if isinstance(each, str) else each or ())
    }


def _static_url(config: Config) -> str | None:
    try:
        url = config.get_main_option("sqlalchemy.url")
    except configparser.Error:  # it refers to a value that only env.py sets
        return None
    return None if url == STOCK_URL else url


def _find_config(
    config_file: Path | None, name: str | None, settings: Declarations
) -> tuple[Config, str]:
    ini, toml, upgrade_command = _locate(config_file, name, settings)
    options = ("--name", name) if name else ()
    config = Config(
        file_=ini,
        toml_file=toml,
        ini_section=name or "alembic",
        cmd_opts=command_options(*options, "current"),
    )
    with reported("the Alembic configuration", hint=f"repair {ini}"):
        located = config.get_alembic_option("script_location")
    if not located and Path(ini.parent, "env.py").is_file():
        # In Flask-Migrate, its own command decides where the scripts are.
        config.set_main_option("script_location", ini.parent.as_posix().replace("%", "%%"))
        elsewhere = (
            ""
            if ini.absolute() == _FLASK_INI.absolute()
            else f" --directory {shlex.quote(str(ini.parent))}"
        )
        upgrade_command = f"{FLASK_UPGRADE}{elsewhere}"
    elif not located:
        raise _no_script_location(config, ini, toml, name)
    elif beside := _within_its_package(ini, located):
        # An ini inside a package: its program decides where the scripts are.
        config.set_main_option("script_location", beside.as_posix().replace("%", "%%"))
    return config, upgrade_command


def _within_its_package(ini: Path, located: str) -> Path | None:
    """The scripts near an ini file, where nothing is at their place as seen from here."""
    package, colon, _ = located.partition(":")
    if (
        importlib.util.find_spec(package)
        if colon and package.isidentifier()
        else Path(located).exists()
    ):
        return None
    places = (directory / located.replace(":", "/") for directory in ini.absolute().parents)
    return next((place for place in places if (place / "env.py").is_file()), None)


def _no_script_location(config: Config, ini: Path, toml: Path, name: str | None) -> ProjectError:
    """What is wrong with a configuration that does not say where the scripts are."""
    section = name or "alembic"
    others = [
        each
        for each in config.file_config.sections()
        if each != section and config.file_config.has_option(each, "script_location")
    ]
    choose = (
        "choose one with --name NAME, or alembic_name in [tool.audit_toolkit]; "
        "or name the database with --dsn"
    )
    if others:
        listed = ", ".join(f"[{other}]" for other in others)
        return ProjectError(
            f"{shown(ini)} has no script_location in [{section}]; it has one in {listed}",
            hint=choose,
        )
    if not ini.is_file():
        return ProjectError(
            f"[tool.alembic] of {shown(toml)} has no script_location",
            hint='add: script_location = "DIRECTORY", the one with env.py',
        )
    return ProjectError(
        f"{shown(ini)} has no script_location in [{section}]",
        hint="add: script_location = DIRECTORY, the one with env.py",
    )


@contextmanager
def _reported_configuration(config: Config) -> Iterator[None]:
    """Say of a configuration that Alembic does not take which of its lines to correct."""
    file = shown(Path(config.config_file_name or "alembic.ini"))
    try:
        with reported("the Alembic configuration", hint=f"correct {file}"):
            yield
    except AuditError as error:
        cause = str(error.__cause__)
        if "path_separator" in cause:
            raise ProjectError(
                f"path_separator in {file} is not valid: {cause}",
                hint="use path_separator = os (or newline, space, : or ;)",
            ) from error
        if "doesn't exist" in cause or isinstance(error.__cause__, ImportError):
            place = config.get_alembic_option("script_location")
            reason = "the directory does not exist" if "doesn't exist" in cause else cause
            raise ProjectError(
                f"script_location in {file} is {place}: {reason}",
                hint="set it to the directory with env.py, or run the command where it is "
                "relative to",
            ) from error
        raise


def _locate(
    config_file: Path | None, name: str | None, settings: Declarations
) -> tuple[Path, Path, str]:
    ini, toml = Path("alembic.ini"), Path("pyproject.toml")
    variable = os.environ.get("ALEMBIC_CONFIG")
    said = config_file or (None if variable else settings.alembic_config)
    chosen = said or (Path(variable) if variable else None)
    if chosen:
        if not chosen.is_file():
            raise ProjectError(f"the Alembic configuration {chosen} does not exist", hint=_CREATE)
        if chosen.suffix == ".toml":
            toml = chosen
        else:
            ini = chosen
    words = ["alembic", *(("-c", str(said)) if said else ()), *(("-n", name) if name else ())]
    if ini.is_file() or _has_alembic_section(toml):
        return ini, toml, shlex.join([*words, "upgrade"])
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
        raise ProjectError(f"{toml} cannot be read: {error}", hint="fix the file") from error


def init_project(directory: Path, *, template: str = "generic") -> list[Path]:
    """Create a project with Alembic's own template, in the working directory; what it consists of.

    Alembic leaves the address of the database to whoever edits the files; here env.py takes
    DATABASE_URL, too, so that no password has to go into a file.
    Raises `ProjectError` when there is a project already or no such template.
    """
    ini, toml = Path("alembic.ini"), Path("pyproject.toml")
    if ini.exists() or _has_alembic_section(toml):
        raise ProjectError(
            f"an Alembic project already exists: {(ini if ini.exists() else toml)}",
            hint="continue with: audit install --table NAME",
        )
    templates = _templates()
    if template not in templates:
        raise ProjectError(
            f"there is no project template {template!r}",
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
    if text.count(_ENV_ANCHOR) == 1:  # otherwise the template is unknown, and is left unchanged
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
def reported(what: str, *, hint: str = "check that `alembic history` works") -> Iterator[None]:
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
