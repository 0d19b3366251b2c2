"""Django: the same frozen SQL as a migration of an app. No settings and no code of the project are loaded.

What an app has is read from its migration files, as text; what is applied, from the database.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit.connection import fetch
from audit_toolkit.errors import AuditError, ProjectError
from audit_toolkit.migrations.project import shown
from audit_toolkit.migrations.revision.record import (
    RECORD_NAME,
    RecordedState,
    Statements,
    state_of,
)
from audit_toolkit.migrations.revision.shared_text import share
from audit_toolkit.migrations.revision.text import EACH, Revision, render_constants, script_names
from audit_toolkit.migrations.revision.writer import WrittenRevision
from audit_toolkit.migrations.revision_files import static_module
from audit_toolkit.names import QualifiedName
from audit_toolkit.templates import query

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

_ELSEWHERE = {"site-packages", "node_modules", "__pycache__"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One migration file of an app."""

    name: str
    path: Path
    after: frozenset[str]
    """The migrations of the same app that it depends on."""
    replaces: frozenset[str]
    """Those that it stands for, where it is a squashed one."""


@dataclass(frozen=True, kw_only=True)
class DjangoApp:
    """An app of a Django project, as far as its migrations go."""

    label: str
    directory: Path
    applied: tuple[tuple[str, str], ...] = ()
    """App and name of what the database has, of all apps, oldest first."""

    @property
    def migrations_directory(self) -> Path:
        """Where its migrations are."""
        return self.directory / "migrations"

    @property
    def upgrade_command(self) -> str:
        """What the user types to apply them."""
        return f"python manage.py migrate {self.label}"

    @cached_property
    def migrations(self) -> dict[str, Migration]:
        """Its migrations by name."""
        files = sorted(self.migrations_directory.glob("[!_]*.py"))
        return {file.stem: _read_migration(file, self.label) for file in files}

    @property
    def head(self) -> str | None:
        """The migration that a new one follows; None for an app that has none.

        Raises `ProjectError` where there are several.
        """
        replaced = frozenset().union(*(m.replaces for m in self.migrations.values()))
        followed = frozenset().union(
            *(m.after for m in self.migrations.values() if m.name not in replaced)
        )
        leaves = sorted(set(self.migrations) - replaced - followed)
        if len(leaves) > 1:
            raise ProjectError(
                f"the app {self.label} has {len(leaves)} migrations that nothing follows: "
                f"{', '.join(leaves)}",
                hint="merge them first: python manage.py makemigrations --merge",
            )
        return leaves[0] if leaves else None

    def state(self, schema: str | None, *, applied: Collection[str] | None = None) -> RecordedState:
        """What its migrations, or those of them that are applied, say of the trail in `schema`.

        Raises `ProjectError` when a record was edited so that it cannot be read.
        """
        modules = (
            static_module(m.path)
            for m in self._newest_first()
            if applied is None or m.name in applied
        )
        return state_of(
            ((module.__name__, module) for module in modules if hasattr(module, RECORD_NAME)),
            schema,
        )

    def _newest_first(self) -> Iterator[Migration]:
        names, seen = [self.head], set()
        while names:
            name = names.pop(0)
            if name in self.migrations and name not in seen:
                seen.add(name)
                yield self.migrations[name]
                names += sorted(self.migrations[name].after, reverse=True)

    def reached(self, connection: Connection) -> set[str]:
        """The migrations of the app that the database has."""
        return {name for app, name in read_applied(connection) if app == self.label}

    def version_directory(self, _: str | None) -> Path:
        """Where a migration goes."""
        return self.migrations_directory

    def write(self, revisions: Sequence[Revision]) -> list[WrittenRevision]:
        """Write migrations, one after the other: all of them, or none.

        Raises `AuditError` where no file can be written.
        """
        head, written = self.head, []
        number = max(
            (int(n[0]) for m in self.migrations if (n := re.findall(r"^\d+", m))), default=0
        )
        try:
            self.migrations_directory.mkdir(exist_ok=True)
            (self.migrations_directory / "__init__.py").touch()
            for revision in map(share, revisions):
                number += 1
                name = f"{number:04d}_{_slug(revision.message)}"
                path = self.migrations_directory / f"{name}.py"
                tables = [capture.table for capture in revision.record.captures]
                after = [(self.label, head)] if head else []
                after += self._of_other_apps(tables)
                written.append(WrittenRevision(revision=name, path=path, message=revision.message))
                path.write_text(_text(revision, after), encoding="utf-8")
                _check(path, revision)
                head = name
        except BaseException as error:
            for file in written:
                file.path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise AuditError(
                    f"cannot write to {self.migrations_directory}: {error.strerror}",
                    hint="make the directory writable, or run the command where it is",
                ) from error
            raise
        return written

    def _of_other_apps(self, tables: Iterable[QualifiedName]) -> list[tuple[str, str]]:
        """The newest migration of each other app that has one of the tables, as Django names them."""
        newest = dict(self.applied)
        found: dict[str, str] = {}
        for table in tables:
            labels = [label for label in newest if table.name.startswith(f"{label}_")]
            label = max(labels, key=len, default=self.label)
            if label != self.label:
                found[label] = newest[label]
        return sorted(found.items())


def find_app(name: str) -> DjangoApp:
    """The app `name` (`shop`, or `project.shop`) below the working directory.

    Raises `ProjectError` when there is none, or more than one.
    """
    at_once = Path(*name.split("."))
    places = [at_once] if _is_app(at_once) else sorted(_apps_called(name.rpartition(".")[2]))
    if len(places) != 1:
        found = f"there are several: {', '.join(map(str, places))}" if places else "there is none"
        raise ProjectError(
            f"there is no single Django app {name} here: {found}",
            hint="run the command where manage.py is, and name the app by its path: --django "
            "project.shop",
        )
    return DjangoApp(label=_label(places[0]) or places[0].name, directory=places[0])


def read_applied(connection: Connection) -> tuple[tuple[str, str], ...]:
    """App and name of what Django has applied to the database, oldest first."""
    if fetch(connection, "select to_regclass('django_migrations') as there")[0]["there"] is None:
        return ()
    rows = fetch(connection, query("django_migrations"))
    return tuple((row["app"], row["name"]) for row in rows)


def migrate(app: DjangoApp) -> None:
    """Run `manage.py migrate` for the app, with the Python of the project.

    Raises `ProjectError` where there is no manage.py, and `AuditError` where it fails.
    """
    if not Path("manage.py").is_file():
        raise ProjectError("there is no manage.py here", hint="run the command where it is")
    here = importlib.util.find_spec("django") is not None
    python = sys.executable if here else shutil.which("python") or "python"
    done = subprocess.run(
        [python, "manage.py", "migrate", app.label, "--no-color"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    print(done.stdout, end="", file=sys.stderr)  # noqa: T201 - what Django says goes on
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise AuditError(
            f"{app.upgrade_command} failed: {last}", hint="run it by itself to see what it prints"
        )


def _is_app(place: Path) -> bool:
    return any(Path(place, part).exists() for part in ("migrations", "apps.py", "models.py"))


def _apps_called(name: str) -> Iterator[Path]:
    for place in Path().rglob(name):
        elsewhere = _ELSEWHERE & set(place.parts) or any(p.startswith(".") for p in place.parts)
        if not elsewhere and place.is_dir() and _is_app(place):
            yield place


def _label(place: Path) -> str | None:
    """The label that apps.py gives the app, where it gives one."""
    file = place / "apps.py"
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    found = re.search(r"""^\s+label\s*=\s*["'](\w+)["']""", text, re.MULTILINE)
    return found[1] if found else None


def _read_migration(path: Path, label: str) -> Migration:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ProjectError(f"{path} cannot be read: {error}", hint="fix the file") from error
    body = [
        statement
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "Migration"
        for statement in node.body
    ]
    return Migration(
        name=path.stem,
        path=path,
        after=frozenset(_pairs(body, "dependencies", label)),
        replaces=frozenset(_pairs(body, "replaces", label)),
    )


def _pairs(body: Iterable[ast.stmt], attribute: str, label: str) -> Iterator[str]:
    """The names of migrations of the app in a list of pairs; others, and what is computed, are passed by."""
    for statement in body:
        match statement:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.List(elts=items) | ast.Tuple(elts=items)
            ) if name == attribute:
                for item in items:
                    match item:
                        case ast.Tuple(
                            elts=[ast.Constant(value=app), ast.Constant(value=str(migration))]
                        ) if app == label:
                            yield migration


def _slug(message: str) -> str:
    return re.sub(r"\W+", "_", message.lower()).strip("_")[:50].strip("_")


def _text(revision: Revision, after: Sequence[tuple[str, str]]) -> str:
    dependencies = "".join(f'        ("{app}", "{name}"),\n' for app, name in after)
    head = ("from itertools import chain\n\n" if revision.texts else "") + (
        "from django.db import migrations\n"
    )
    constants = render_constants(revision)
    functions = [EACH] if revision.texts else []
    migration = (
        "class Migration(migrations.Migration):\n"
        f"    dependencies = [\n{dependencies}    ]\n\n"
        "    operations = [\n"
        "        migrations.RunSQL(\n"
        f"            sql={_listed(script_names(revision, revision.upgrade))},\n"
        f"            reverse_sql={_listed(script_names(revision, revision.downgrade))},\n"
        "        ),\n"
        "    ]\n"
    )
    return f"{head}\n" + "\n\n\n".join([constants, *functions, migration])


def _listed(names: Sequence[str]) -> str:
    """The statements of constants, in a list; a shared text gives those of several tables."""
    flat = [f"chain({name})" if name.startswith("*") else name for name in names]
    scripts = ["LOCK_TIMEOUT", *flat, "LOCK_TIMEOUT_BEFORE"]
    lines = "".join(f"                *{script},\n" for script in scripts)
    return f"[\n{lines}            ]"


def _check(path: Path, revision: Revision) -> None:
    """Raise `ProjectError` when the file does not hold the SQL that it is to run."""
    written = Statements(static_module(path))
    for script in (*revision.upgrade, *revision.downgrade):
        if written[script.name] != script.statements:
            raise ProjectError(
                f"{shown(path)} does not contain the SQL that was written to it",
                hint="nothing was written",
            )
